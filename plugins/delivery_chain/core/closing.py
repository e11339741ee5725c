"""The note of a run that has ended: one pure function of what its steps left and what Airflow says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery_chain.core.gate import Verdict
    from delivery_chain.core.results import Record

SUCCESS = "success"


def by_hand(verdict: Verdict | None, state: str) -> str:
    """What a person did to a blocked run that Airflow shows as a success; empty for any other run."""
    if verdict is None or verdict.passed or state != SUCCESS:
        return ""
    return "marked as success by hand"


def changed(altered: Sequence[str]) -> str:
    """That values of a run are not what its tasks left; empty where all are."""
    if not altered:
        return ""
    return f"NOT TO BE TRUSTED: what {', '.join(altered)} left was changed afterwards"


def note(record: Record | None, verdict: Verdict | None, altered: Sequence[str], state: str) -> str:
    """The run's note; empty where there is nothing to say.

    Args:
        record: What `report` left; None where it left nothing that is proven.
        verdict: What `gate` left, the same way.
        altered: Tasks whose values are not what they left.
        state: Airflow's state of the run.
    """
    sentence = record.sentence.strip() if record else ""
    removed = record is not None and record.verdict and verdict is None and "gate" not in altered
    parts = (
        changed(altered),
        sentence,
        by_hand(verdict, state),
        "its verdict was removed" if removed else "",
    )
    return "; ".join(part for part in parts if part)
