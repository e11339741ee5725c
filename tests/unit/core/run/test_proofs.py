"""No run counts as delivered without its proof, whoever marked its tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.run.end import End
from delivery_chain.core.run.marks import Mark
from delivery_chain.core.run.state import closed, outcome
from support.run_facts import (
    AFTER_GATE,
    BLOCKED,
    BY_ANNA,
    CANCELLED_BUILD,
    DONE,
    OTHER,
    PASSED,
    PUBLISHED,
    SUBJECT,
    TITLE,
    TOLD,
    WEST,
    tasks,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from delivery_chain.core.run.facts import Facts

TAKE_AWAY: dict[str, Callable[[Facts], Facts]] = {
    "verdict": lambda facts: replace(facts, verdict=None),
    "verdict of another image": lambda facts: replace(
        facts, verdict=PASSED.model_copy(update={"digest": OTHER})
    ),
    "no pass": lambda facts: replace(facts, verdict=BLOCKED),
    "subject": lambda facts: replace(facts, subject=None),
    "subject of another plan": lambda facts: replace(
        facts, subject=SUBJECT.model_copy(update={"plan": "f" * 64})
    ),
    "published": lambda facts: replace(facts, published=None),
    "published another image": lambda facts: replace(
        facts, published=PUBLISHED.model_copy(update={"digest": OTHER})
    ),
    "region": lambda facts: replace(facts, regions=()),
    "region holds another image": lambda facts: replace(
        facts, regions=(WEST.model_copy(update={"digest": OTHER}),)
    ),
    "region's task failed since": lambda facts: replace(facts, tasks=tasks(west="failed")),
    "region's task was cleared": lambda facts: replace(facts, tasks=tasks(west="")),
    "delivery": lambda facts: replace(facts, deliveries=()),
    "told of another image": lambda facts: replace(
        facts, deliveries=(TOLD.model_copy(update={"digest": OTHER}),)
    ),
    "trigger's task was skipped since": lambda facts: replace(facts, tasks=tasks(prod="skipped")),
    "gate upstream_failed since": lambda facts: replace(facts, tasks=tasks(gate="upstream_failed")),
    "plan": lambda facts: replace(facts, planned=None),
    "something was changed": lambda facts: replace(facts, altered=("scan[1]",)),
}
MARKS = [BY_ANNA, Mark(by="b", what="success"), Mark(by="c", what="success", step="report")]


@given(
    taken=st.sets(st.sampled_from(sorted(TAKE_AWAY)), min_size=1),
    state=st.sampled_from(["success", "failed"]),
    marks=st.lists(st.sampled_from(MARKS)),
    green=st.booleans(),
)
def test_nothing_is_delivered_without_its_proof(
    taken: set[str], state: str, marks: list[Mark], *, green: bool
) -> None:
    """Whatever is missing, whoever marks what, and however green all tasks are."""
    facts = replace(DONE, state=state, marks=tuple(marks))
    for name in sorted(taken):
        facts = TAKE_AWAY[name](facts)
    if green and not [name for name in taken if "since" in name or "cleared" in name]:
        facts = replace(facts, tasks=tuple(replace(task, state="success") for task in facts.tasks))
    assert not outcome(facts).good
    assert closed(facts).end is not End.DELIVERED or facts.altered


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            replace(
                CANCELLED_BUILD,
                tasks=tasks(
                    build={"state": "success", "label": "linux/amd64"},
                    assemble={"state": "failed", "reason": "no image"},
                    **AFTER_GATE,
                ),
                marks=(Mark(by="anna", what="success", step="build"),),
            ),
            "failed in assemble: no image; shop/api v7 (build [linux/amd64] was marked as success by anna)",
        ),
        (
            replace(
                DONE,
                state="failed",
                deliveries=(),
                marks=(Mark(by="anna", what="success", step="distribute", index=0),),
            ),
            f"partly delivered: {TITLE} (distribute [prod] was marked as success by anna)",
        ),
    ],
    ids=["build", "distribute"],
)
def test_who_marked_a_step_as_done_that_left_nothing_is_said(facts: Facts, said: str) -> None:
    """What follows it fails for its own reason, which alone leads nobody to the cause."""
    assert outcome(facts).sentence.startswith(f"{said} ")
