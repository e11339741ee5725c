"""Wait for the end of a run over Airflow's REST API: `delivery-chain trigger --wait`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from delivery_chain.core.run.end import WARNING, End
from delivery_chain.core.web_paths import PAGES
from delivery_chain.errors import AirflowUnreachable, ToolError
from delivery_chain.tools.airflow_rest import AirflowServer, clean, part

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_POLL, SLOWEST_POLL = 0.5, 5.0
"""Seconds between two polls of a run; the interval grows."""
SUCCESS = "success"
ENDED = (SUCCESS, "failed")
"""States of a finished run."""
DELIVERED = "delivered"
"""First word of the only outcome with exit code 0."""
LONGEST_NOTE = 1000
"""Airflow's maximum, in characters."""
ENDS = (*(str(end) for end in End), WARNING)
"""Prefixes of the notes that this package writes."""
TOO_MANY, SERVER_ERROR = 429, 500


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a run."""

    state: str
    """Airflow's state: `success` or `failed`."""
    sentence: str
    delivered: bool
    """Whether its image is proven to be in every region, and every trigger was delivered."""


def wait(
    server: AirflowServer,
    chain: str,
    run_id: str,
    *,
    until: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Ended:
    """Wait until the run finishes. An unreachable or failing server is retried.

    Args:
        server: The run's Airflow.
        chain: Its chain.
        run_id: Its id.
        until: Deadline in seconds on the clock of `time.monotonic()`.
        sleep: Sleeps for a number of seconds.

    Returns:
        Its outcome, or its state and note if the plugin's pages can't be reached.

    Raises:
        ToolError: The deadline passed, the run was deleted, or Airflow refused the request.
    """
    pause = FIRST_POLL
    while True:
        state, note = _poll(server, chain, run_id)
        if state in ENDED:
            return _outcome(server, chain, run_id) or _by_note(state, note)
        left = until - time.monotonic()
        if left <= 0:
            sentence = _plugin_data(server, chain, run_id).get("sentence")
            why = f" ({clean(sentence, LONGEST_NOTE)})" if isinstance(sentence, str) and sentence else ""
            raise ToolError(
                f"{chain}: run {run_id} did not finish in time, last state {state}{why}; it continues",
                tool="airflow",
            )
        sleep(min(pause, left))
        pause = min(pause * 1.5, SLOWEST_POLL)


def _outcome(server: AirflowServer, chain: str, run_id: str) -> Ended | None:
    """Ask the plugin for the outcome of a finished run; None if the plugin is absent, or gives no valid outcome."""
    data = _plugin_data(server, chain, run_id)
    sentence, state = data.get("sentence"), data.get("state")
    if not isinstance(sentence, str) or state not in ENDED:
        return None
    whole = data.get("end") == DELIVERED and data.get("good") is True
    return Ended(str(state), clean(sentence, LONGEST_NOTE), whole)


def _plugin_data(server: AirflowServer, chain: str, run_id: str) -> dict[str, Any]:
    """Ask the plugin about a run; empty if it is absent or does not respond."""
    try:
        answer = server.call("GET", f"/runs/{part(chain)}/{part(run_id)}/outcome", below=PAGES)
    except ToolError:
        return {}
    return answer.data if answer.ok else {}


def _by_note(state: str, note: str) -> Ended:
    """Derive the outcome from Airflow alone: our notes begin with the outcome, a user's note does not."""
    ours = note.startswith(ENDS)
    return Ended(state, note, state == SUCCESS and (not ours or note.startswith(DELIVERED)))


def _poll(server: AirflowServer, chain: str, run_id: str) -> tuple[str, str]:
    try:
        answer = server.call("GET", run_path(chain, run_id))
    except AirflowUnreachable as error:
        return f"unknown: {error}", ""
    if answer.ok and isinstance(answer.data.get("state"), str):
        return answer.data["state"], clean(str(answer.data.get("note") or ""), LONGEST_NOTE)
    if answer.ok or answer.status == TOO_MANY or answer.status >= SERVER_ERROR:
        return f"unknown: status {answer.status} {answer.text}", ""
    raise ToolError(
        f"{server.address}: run {run_id} of {chain!r} can't be read (status {answer.status}): {answer.text}",
        tool="airflow",
    )


def run_path(chain: str, run_id: str) -> str:
    """Path of a run in the API."""
    return f"/dags/{part(chain)}/dagRuns/{part(run_id)}"
