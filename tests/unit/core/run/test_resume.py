"""The tasks that run again when a run resumes, by what was cleared and how the run had ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.plan import Planned, made_for
from delivery_chain.core.run.facts import Facts
from delivery_chain.core.run.marks import Mark
from delivery_chain.core.run.resume import is_stuck, resumed, stalled, to_reset
from delivery_chain.core.spec.model import ChainSpec
from delivery_chain.core.steps import BEFORE, DONE, NOT_RUN, STEPS, Task
from support.run_facts import BLOCKED, PASSED, PLAN, PUBLISHED, SUBJECT, TOLD, WEST

SPEC = ChainSpec.model_validate(
    {
        "version": 1,
        "name": "shop",
        "scope": {"instance": "home", "namespace": "shop", "repositories": ["api"]},
        "replicate": [{"name": "west", "to": "west"}],
        "distribute": [
            {"name": "prod", "url_connection": "hook"},
            {"name": "devs", "url_connection": "hook"},
        ],
    }
)
LEFT: dict[str, Any] = {
    "planned": Planned(plan=PLAN, spec=SPEC),
    "subject": SUBJECT.model_copy(update={"plan": made_for(PLAN, SPEC)}),
    "verdict": PASSED,
    "published": PUBLISHED,
    "regions": (WEST,),
    "deliveries": tuple(TOLD.model_copy(update={"trigger": name}) for name in ("prod", "devs")),
}
OK, NO, SKIP, UP, TODO = "success", "failed", "skipped", "upstream_failed", ""
RETRY = {"state": SKIP, "error": "RegistryBusy", "reason": "busy"}
ITSELF = {"state": SKIP, "error": "skipped", "reason": "nothing to do"}
RUN, STOPPED = Mark(by="anna", what="cleared"), Mark(by="bob", what="failed")
AGAIN = Mark(by="delivery-chain", what="reopened")


def cleared(step: str) -> Mark:
    return Mark(by="anna", what="cleared", step=step)


def facts(states: str, *marks: Mark, left: int = 6, **changes: Any) -> Facts:
    """Facts by the states of `plan build assemble scan gate publish quarantine replicate distribute[2]`.

    `left` says how many of the values in `LEFT` there are.
    """
    letters = {"+": OK, "x": NO, "-": SKIP, "^": UP, ".": TODO, "~": ITSELF, ">": "running", "r": RETRY}
    names = [*BEFORE, "distribute"]
    tasks = []
    for step, letter in zip(["plan", *names], states.replace(" ", ""), strict=True):
        state = letters[letter]
        more = state if isinstance(state, dict) else {"state": state}
        index = sum(one.step == step for one in tasks) if step in ("replicate", "distribute") else -1
        tasks.append(Task(step=step, index=index, **more))
    tasks += [Task(step="denied", state=SKIP), Task(step="report", state=NO)]
    values = dict(list(LEFT.items())[:left])
    return Facts(**({"state": "running", "tasks": tuple(tasks), "marks": marks} | values | changes))


AFTER_BUILD = "assemble scan gate publish quarantine replicate distribute distribute"
ROWS: dict[str, tuple[Facts, str]] = {
    "cancelled in build, its failed tasks cleared": (facts("+. --- -- - --", RUN, left=1), AFTER_BUILD),
    "the same, with an event log that is cleaned": (facts("+. --- -- - --", left=1), AFTER_BUILD),
    "the same, and the build has begun": (facts("+> --- -- - --", RUN, left=1), AFTER_BUILD),
    "build failed and it alone is cleared": (
        facts("+. ^^^ ^^ ^ ~~", cleared("build"), left=1), AFTER_BUILD,
    ),
    "all of it failed after the build, and was reset by Airflow": (
        facts("+. ... .. . ~~", RUN, left=1), "distribute distribute",
    ),
    "cancelled while the plan waited for its next try": (
        facts("r --- ---- --", RUN, left=0), f"plan build {AFTER_BUILD}",
    ),
    "cancelled while the build waited for its next try": (
        facts("+r --- -- - --", RUN, left=1), f"build {AFTER_BUILD}",
    ),
    "cancelled while a delivery waited for its next try": (
        facts("+~ +++ +- + +r", RUN, left=5), "distribute",
    ),
    "cancelled in publish": (facts("+~ +++ .- - --", RUN, left=3), "replicate distribute distribute"),
    "cancelled in quarantine": (facts("+~ +++ -. - ~~", RUN, left=3, verdict=BLOCKED), ""),
    "cancelled in scan": (
        facts("+~ +.- -- - --", RUN, left=2), "gate publish quarantine replicate distribute distribute",
    ),
    "cancelled in a copy": (facts("+~ +++ +- . --", RUN, left=4), "distribute distribute"),
    "a copy failed and it alone is cleared": (facts("+~ +++ +- . +~", cleared("replicate")), "distribute"),
    "a delivery is cleared": (facts("+~ +++ +- + .~", cleared("distribute"), left=5), ""),
    "cancelled in plan": (facts(". --- ---- --", RUN, left=0), f"build {AFTER_BUILD}"),
    "cancelled before it began": (facts("- --- ---- --", RUN, left=0), f"plan build {AFTER_BUILD}"),
    "the same, and the report alone is cleared": (facts("- --- ---- --", cleared("report"), left=0), ""),
    "cancelled before it began, and it begins": (facts("- --- ---- --", STOPPED, left=0), ""),
    "cancelled between build and assemble": (facts("++ --- -- - --", RUN, left=1), AFTER_BUILD),
    "the same, and put into the queue": (
        facts("++ --- -- - --", Mark(by="anna", what="queued"), left=1), AFTER_BUILD,
    ),
    "cancelled between gate and publish": (
        facts("+~ +++ -- - --", RUN, left=3), "publish replicate distribute distribute",
    ),
    "cancelled between publish and its copies": (
        facts("+~ +++ +- - --", RUN, left=4), "replicate distribute distribute",
    ),
    "blocked, and run as a whole": (facts("+~ +++ -+ - ~~", RUN, left=3, verdict=BLOCKED), ""),
    "blocked, and its gate alone is cleared": (
        facts("+~ ++. -+ - ~~", cleared("gate"), left=3, verdict=BLOCKED), "publish replicate distribute distribute",
    ),
    "blocked, and its quarantine is cleared": (
        facts("+~ +++ -. - ~~", cleared("quarantine"), left=3, verdict=BLOCKED), "",
    ),
    "delivered, and scanned again": (facts("+~ +.+ +- + ++", cleared("scan")), ""),
    "delivered, and judged again": (facts("+~ ++. +- + ++", cleared("gate")), "quarantine"),
    "delivered, and published again": (facts("+~ +++ .- + +~", cleared("publish")), "distribute"),
    "superseded, and planned again": (facts(". --- ---- --", cleared("plan"), left=0), f"build {AFTER_BUILD}"),
    "superseded, and told again": (facts("~ --- ---- --", RUN, left=0), ""),
    "another step failed that nobody cleared": (facts("+~ +++ +- x .-", cleared("distribute"), left=4), ""),
    "a delivery that somebody marked as skipped": (
        facts(
            "+~ +++ +- . --", cleared("replicate"), Mark(by="c", what="skipped", step="distribute", index=1), left=4
        ),
        "distribute",
    ),
    "what a step left was changed": (facts("+~ +++ -- - --", RUN, left=3, altered=("gate",)), ""),
}  # fmt: skip


@pytest.mark.parametrize(("given_", "steps"), ROWS.values(), ids=ROWS)
def test_what_did_not_run_is_looked_at_again(given_: Facts, steps: str) -> None:
    """That is what follows a step which is done again, or where a cancelled run stopped."""
    assert [task.step for task in to_reset(given_)] == steps.split()


@pytest.mark.parametrize(
    ("states", "marks", "left", "stuck"),
    [
        ("++ --- -- - --", [RUN], 1, "assemble"),
        ("++ ^^^ ^^ ^ ~~", [cleared("build")], 1, "assemble"),
        ("+~ +++ +- + ~~", [cleared("publish")], 5, "distribute distribute"),
        ("++ --- -- - --", [RUN, AGAIN], 1, ""),
        ("++ --- -- - --", [RUN, STOPPED], 1, ""),
        ("++ --- -- - --", [STOPPED], 1, ""),
        ("++ --- -- - --", [], 1, ""),
        ("++ --- -- - --", [cleared("report"), cleared("denied")], 1, ""),
        ("+x ^^^ ^^ ^ ~~", [RUN], 1, ""),
        ("~ --- ---- --", [RUN], 0, ""),
        ("+~ +++ +- + ++", [RUN], 6, ""),
    ],
)
def test_a_run_that_ends_though_it_was_cleared_is_stuck(
    states: str, marks: list[Mark], left: int, stuck: str
) -> None:
    """Nothing failed, nobody stopped it since, and a step did not run; once for each clear."""
    one = facts(states, *marks, left=left)
    found = stalled(one) if is_stuck(one) else ()
    assert " ".join(task.step for task in found) == stuck


@given(
    states=st.lists(st.sampled_from("+x-^.~>"), min_size=10, max_size=10),
    marks=st.lists(st.sampled_from([RUN, STOPPED, AGAIN, cleared("build"), cleared("report")])),
    left=st.integers(0, 6),
)
def test_nothing_that_ran_is_reset(states: list[str], marks: list[Mark], left: int) -> None:
    """Whatever the states are: only what did not run is looked at again, once, and never what tells of the end."""
    one = facts("".join(states), *marks, left=left)
    found = to_reset(one)
    assert {task.state for task in found} <= NOT_RUN
    assert len(set(found)) == len(found)
    assert {task.step for task in found} <= {"plan", *BEFORE}
    if not [task for task in one.tasks if task.state not in DONE and task.step != "report"]:
        # Nothing of a run that ended is touched against the word of who stopped it.
        assert STOPPED not in marks or not found


@given(
    states=st.lists(st.sampled_from("+x-^.~>"), min_size=10, max_size=10),
    marks=st.lists(st.sampled_from([RUN, STOPPED, cleared("build")])),
    left=st.integers(0, 6),
)
def test_what_is_reset_waits_for_something_that_is_done_again(
    states: list[str], marks: list[Mark], left: int
) -> None:
    """Each one follows a step that is on its way, or is where the run stopped; a second look finds nothing more."""
    one = facts("".join(states), *marks, left=left)
    found, first = to_reset(one), stalled(one)
    todo = {task.step for task in (*one.tasks, *found) if task.state not in DONE} | {
        task.step for task in found
    }
    assert all(task in first or todo.intersection(BEFORE[task.step]) for task in found)
    reset = replace(one, tasks=tuple(replace(t, state="") if t in found else t for t in one.tasks))
    assert to_reset(reset) == ()


def test_every_step_but_the_closing_ones_waits_for_something() -> None:
    """The table is in the order of the steps."""
    assert [step for step in STEPS if step in BEFORE] == list(BEFORE)
    assert set(STEPS) - set(BEFORE) == {"plan", "denied", "report"}


def test_who_let_a_run_go_on_is_said() -> None:
    """The last one who cleared something; nobody where the log does not say."""
    marks = [Mark(by="anna", what="cleared", step="gate"), Mark(by="bob", what="cleared")]
    assert (resumed(marks), resumed([STOPPED])) == ("resumed: cleared by bob", "resumed")
