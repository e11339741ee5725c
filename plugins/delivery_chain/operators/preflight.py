"""Check what a run needs before anything is built: a missing connection costs a second, not a build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.errors import ConfigurationError, ConnectionMissing, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from delivery_chain.core.spec.connections import Needed

THEN = "Then clear `plan` and everything downstream"


def check(needed: Iterable[Needed]) -> None:
    """Check that every connection exists, has the right type and is filled in correctly, without network requests.

    Raises:
        ConnectionMissing: Connections are missing; the message names them, and any that are wrong. Not retryable.
        ConfigurationError: Connections are wrong. Not retryable.
        AirflowUnreachable: Airflow does not answer. Retryable.
    """
    from delivery_chain.hooks.probe import check_connection
    from delivery_chain.settings import Settings

    transports = Settings.load().git_transports
    uses: dict[tuple[str, str, str], list[Needed]] = {}
    for one in needed:
        uses.setdefault((one.connection, one.conn_type, one.url), []).append(one)
    missing, wrong = [], []
    for first, *others in uses.values():
        what = ", ".join(one.what for one in (first, *others))
        try:
            check_connection(first, transports)
        except ConnectionMissing:
            missing.append(
                f"connection {first.connection!r} is missing, needed for {what}: add it with `{first.command}` or "
                "correct its name in the spec"
            )
        except (ConfigurationError, SourceError) as error:
            wrong.append(f"{error} (needed for {what})")
    if missing or wrong:
        kind = ConnectionMissing if missing else ConfigurationError
        raise kind(f"{'; '.join([*missing, *wrong])}. {THEN}")
