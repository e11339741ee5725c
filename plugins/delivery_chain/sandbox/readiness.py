"""Waits until Airflow has read the chains and each source is watched, so that no push is taken for old."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from delivery_chain.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE_TAG = "delivery-chain-source"
SOURCES_FILE = "delivery_chain_sources.py"
"""The Dag file that watches sources; without it in the Dags folder there is nothing to wait for."""
READ_SECONDS = 60.0
"""From a healthy Dag processor to its first Dag; measured 1 to 4 s."""
APPEAR_SECONDS = 20.0
"""From the first Dag to the first source's: another file of the same parse."""
BASELINE_SECONDS = 90.0
"""From a source's Dag to the end of its first poll."""
POLL_SECONDS = 0.3


class Api(Protocol):
    """What is asked of Airflow; see `api.AirflowApi`."""

    def dags(self, *, tag: str = "") -> list[dict[str, Any]]: ...
    def import_errors(self) -> list[str]: ...
    def variable(self, key: str) -> str | None: ...
    def runs(self, dag_id: str) -> list[dict[str, Any]]: ...


def await_dags(
    api: Api,
    *,
    watches_sources: bool,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Wait for the Dags, and for the first poll of every source.

    Args:
        api: Of an Airflow that is healthy.
        watches_sources: Whether the Dags folder has SOURCES_FILE.
        clock: Seconds.
        sleep: Waits that many seconds.

    Returns:
        Dag files that Airflow could not read; the other chains work all the same.

    Raises:
        ToolError: A source's first poll did not end; names the Dag to look at.
    """

    def wait(condition: Callable[[], bool], limit: float) -> bool:
        deadline = clock() + limit
        while not (held := condition()) and clock() < deadline:
            sleep(POLL_SECONDS)
        return held

    wait(lambda: bool(api.dags() or api.import_errors()), READ_SECONDS)
    if watches_sources:
        wait(lambda: bool(api.dags(tag=SOURCE_TAG)), APPEAR_SECONDS)
        if not wait(lambda: not _unwatched(api), BASELINE_SECONDS):
            raise ToolError(
                f"{', '.join(_unwatched(api))}: expected the first poll of the source to end within "
                f"{BASELINE_SECONDS:.0f} s; see that Dag's runs and the log of airflow-scheduler",
                tool="airflow",
            )
    return api.import_errors()


def _unwatched(api: Api) -> list[str]:
    """The source Dags that have not stored what was there before: their Variable, named as the Dag."""
    sources = [dag["dag_id"] for dag in api.dags(tag=SOURCE_TAG)]
    return [source for source in sources if not (api.variable(source) or _has_polled(api, source))]


def _has_polled(api: Api, dag_id: str) -> bool:
    return any(run["state"] == "success" for run in api.runs(dag_id))
