"""What a run needs is there before anything is built: a missing connection costs a second, not a build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.errors import ConfigurationError, ConnectionMissing, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from delivery_chain.core.spec.connections import Needed

THEN = "Then clear `plan` and all that follow it"


def check(needed: Iterable[Needed]) -> None:
    """See that every connection is there, of the right type and well filled in; no registry or server is asked.

    Raises:
        ConnectionMissing: Some are missing; named are these and those that are wrong. Not retryable.
        ConfigurationError: Some are wrong. Not retryable.
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
                f"connection {first.connection!r} is missing, needed for {what}: add it with `{first.command}`, or "
                "correct its name in the spec"
            )
        except (ConfigurationError, SourceError) as error:
            wrong.append(f"{error} (needed for {what})")
    if missing or wrong:
        kind = ConnectionMissing if missing else ConfigurationError
        raise kind(f"{'; '.join([*missing, *wrong])}. {THEN}")
