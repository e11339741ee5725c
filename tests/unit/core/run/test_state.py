"""How runs end, row by row, and that nothing is called delivered without its proof."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.events.event import Kind
from delivery_chain.core.gate.judge import Hit, Verdict
from delivery_chain.core.plan import Plan, Planned, made_for
from delivery_chain.core.results import (
    DeliveryResult,
    Published,
    Quarantined,
    Record,
    RegionResult,
    Subject,
    TagMove,
)
from delivery_chain.core.run.marks import Mark
from delivery_chain.core.run.state import FINE, OPEN, End, Facts, closed, outcome
from delivery_chain.core.spec.model import ChainSpec
from delivery_chain.core.steps import Task

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = datetime(2026, 5, 20, 12, 0, tzinfo=UTC)
DIGEST, OTHER = "sha256:" + "9" * 64, "sha256:" + "8" * 64
SPEC = ChainSpec.model_validate(
    {
        "version": 1,
        "name": "shop",
        "scope": {"instance": "home", "namespace": "shop", "repositories": ["api"]},
        "replicate": [
            {"name": "west", "to": "west"},
            {"name": "devs", "to": "east", "tags": "dev-.*"},
        ],
        "distribute": [{"name": "prod", "url_connection": "prod_hook"}],
    }
)
PLAN = Plan(
    chain="shop",
    run_id="r1",
    kind=Kind.IMAGE_PUSH,
    instance="home",
    namespace="shop",
    repository="api",
    tags=("v7",),
    digest=DIGEST,
    pushed_at=DAY,
)
PLANNED = Planned(plan=PLAN, spec=SPEC)
SUBJECT = Subject(plan=made_for(PLAN, SPEC), digest=DIGEST, media_type="m", size=1)
PASSED = Verdict(digest=DIGEST, passed=True, judged_at=DAY, counts={"high": 0})
BLOCKED = PASSED.model_copy(update={"passed": False, "hits": (Hit(clause="findings", count=3),)})
PUBLISHED = Published(digest=DIGEST, tags=(TagMove(tag="v7", state="moved", digest=DIGEST),))
WEST = RegionResult(
    rule="west", region="west", host="w", name="shop/api", digest=DIGEST, tags=(), copied=1, skipped=0, bytes=1,
    seconds=1.0,
)  # fmt: skip
TOLD = DeliveryResult(trigger="prod", url="https://t", digest=DIGEST, delivered=("v7",), attempts=())
TITLE = "shop/api v7 at sha256:999999999999"
LOST = "it left no reason: it was marked by hand, or its worker was lost"


def tasks(**changes: Any) -> tuple[Task, ...]:
    """A delivered run's task instances; a change is a state, or fields of `Task`."""
    states: dict[str, Any] = {
        "plan": "success",
        "build": {"state": "skipped", "error": "skipped", "label": "linux/amd64"},
        "assemble": "success",
        "scan": "success",
        "gate": "success",
        "publish": "success",
        "quarantine": "skipped",
        "denied": "skipped",
        "west": "success",
        "devs": {"state": "skipped", "error": "skipped"},
        "prod": "success",
        "report": "success",
    }
    places = {"west": ("replicate", 0), "devs": ("replicate", 1), "prod": ("distribute", 0)}
    made = []
    for name, said in (states | changes).items():
        fields = {"state": said} if isinstance(said, str) else said
        step, index = places.get(name, (name, -1))
        label = {"label": name} if name in places else {}
        made.append(Task(step=step, index=index, **(label | fields)))
    return tuple(made)


DONE = Facts(
    state="success",
    tasks=tasks(),
    planned=PLANNED,
    subject=SUBJECT,
    verdict=PASSED,
    published=PUBLISHED,
    regions=(WEST,),
    deliveries=(TOLD,),
)
NOTHING_OUT = {"published": None, "regions": (), "deliveries": ()}
UNJUDGED: dict[str, Any] = NOTHING_OUT | {"verdict": None}
UNBUILT: dict[str, Any] = UNJUDGED | {"subject": None}
AFTER_GATE = {"publish": "upstream_failed", "west": "upstream_failed", "prod": "skipped", "report": "failed"}
SKIPPED = dict.fromkeys(("assemble", "scan", "gate", "publish", "west", "devs", "prod"), "skipped")
BY_ANNA = Mark(by="anna", what="failed")
CANCELLED_BUILD = replace(
    DONE,
    state="failed",
    tasks=tasks(build={"state": "failed", "label": "linux/amd64"}, **SKIPPED, report="failed"),
    marks=(BY_ANNA,),
    **UNBUILT,
)
BLOCKED_RUN = replace(
    DONE, state="failed", verdict=BLOCKED,
    tasks=tasks(**AFTER_GATE | {"publish": "skipped", "denied": {"state": "failed", "reason": "blocked"}}),
    **NOTHING_OUT,
)  # fmt: skip
RETRYING = {"state": "up_for_retry", "reason": "busy", "error": "RegistryBusy"}


def without_plan(state: str, error: str = "", reason: str = "why", **more: Any) -> Facts:
    plan = Task(step="plan", state=state, error=error, reason=reason if error else "")
    run = "failed" if state == "failed" or not error else "success"
    return Facts(**({"state": run, "tasks": (plan, Task(step="report", state=run))} | more))


ROWS: dict[str, tuple[Facts, End, str, str, bool]] = {
    "delivered": (
        DONE,
        End.DELIVERED,
        "",
        f"delivered: {TITLE} passed with no findings, published, copied to west, 1 trigger fired",
        True,
    ),
    "a region's copy failed": (
        replace(
            DONE, state="failed", regions=(), deliveries=(),
            tasks=tasks(
                west={"state": "failed", "reason": "its tag is taken"},
                prod={"state": "failed", "reason": "it waits for west"},
            ),
        ),
        End.PARTLY,
        "replicate [west]",
        (f"partly delivered: {TITLE} passed with no findings, published; NOT DONE: west failed, prod failed; "
        "replicate [west]: its tag is taken; distribute [prod]: it waits for west"),
        False,
    ),
    "blocked": (BLOCKED_RUN, End.BLOCKED, "gate", f"blocked: 3 findings; {TITLE}", False),
    "blocked, its backup kept": (
        replace(BLOCKED_RUN, quarantined=Quarantined(digest=DIGEST, backup="home/shop-quarantine/api:v7")),
        End.BLOCKED,
        "gate",
        f"blocked: 3 findings; {TITLE}; kept as home/shop-quarantine/api:v7",
        False,
    ),
    "blocked, and marked green": (
        replace(BLOCKED_RUN, state="success", marks=(Mark(by="bob", what="success"),)),
        End.BLOCKED,
        "gate",
        f"blocked: 3 findings; {TITLE}; marked as success by bob",
        False,
    ),
    "blocked, and green with nobody known": (
        replace(BLOCKED_RUN, state="success"),
        End.BLOCKED,
        "gate",
        f"blocked: 3 findings; {TITLE}; marked as success by hand",
        False,
    ),
    "built before": (
        without_plan("skipped", "BuiltBefore"), End.BUILT, "", "built before: why", True,
    ),
    "superseded in plan": (
        without_plan("skipped", "Superseded"), End.SUPERSEDED, "", "superseded: why", True,
    ),
    "superseded in publish": (
        replace(
            DONE, regions=(), deliveries=(), tasks=tasks(west={"state": "skipped", "error": "skipped"}, prod="skipped"),
            published=Published(digest=DIGEST, tags=(TagMove(tag="v7", state="kept", digest=OTHER),)),
        ),
        End.SUPERSEDED,
        "",
        f"superseded: {TITLE} passed with no findings, a newer push holds its tags",
        True,
    ),
    "no image": (without_plan("skipped", "skipped"), End.IGNORED, "", "not for this chain: why", True),
    "refused": (without_plan("failed", "EventRefused"), End.REFUSED, "plan", "refused: why", False),
    "wrong conf": (without_plan("failed", "UsageError"), End.REFUSED, "plan", "refused: why", False),
    "no source": (
        without_plan("failed", "SourceError"), End.FAILED, "plan", "failed in plan: why; nothing was built", False,
    ),
    "cancelled in plan": (
        without_plan("failed", marks=(BY_ANNA,)),
        End.CANCELLED,
        "plan",
        "cancelled by anna in plan; nothing was built",
        False,
    ),
    "cancelled before it began": (
        without_plan("skipped", marks=(BY_ANNA,)),
        End.CANCELLED,
        "plan",
        "cancelled by anna in plan; nothing was built",
        False,
    ),
    "cancelled in build": (
        CANCELLED_BUILD,
        End.CANCELLED,
        "build [linux/amd64]",
        "cancelled by anna in build [linux/amd64]; shop/api v7 was not published",
        False,
    ),
    "cancelled, the event log cleaned": (
        replace(CANCELLED_BUILD, marks=()),
        End.CANCELLED,
        "build [linux/amd64]",
        "cancelled in build [linux/amd64]; shop/api v7 was not published",
        False,
    ),
    "cancelled while the build waited for its next try": (
        replace(
            CANCELLED_BUILD,
            tasks=tasks(**SKIPPED, build={"state": "skipped", "error": "RegistryBusy", "reason": "busy"}),
        ),
        End.CANCELLED,
        "build",
        "cancelled by anna in build; shop/api v7 was not published",
        False,
    ),
    "marked green while it built": (
        replace(
            CANCELLED_BUILD,
            tasks=tasks(**SKIPPED, build={"state": "success", "label": "linux/amd64"}, report="failed"),
            marks=(Mark(by="bob", what="success"),),
        ),
        End.CANCELLED,
        "assemble",
        "cancelled by bob in assemble; shop/api v7 was not published",
        False,
    ),
    "one task marked as failed": (
        replace(
            DONE, state="failed", marks=(Mark(by="carl", what="failed", step="scan"),),
            tasks=tasks(scan="failed", gate="upstream_failed", **AFTER_GATE), **UNJUDGED,
        ),
        End.CANCELLED,
        "scan",
        f"cancelled by carl in scan; {TITLE} was not published",
        False,
    ),
    "cancelled while its trigger was fired": (
        replace(DONE, state="failed", deliveries=(), tasks=tasks(prod="failed"), marks=(BY_ANNA,)),
        End.CANCELLED,
        "distribute [prod]",
        (f"cancelled by anna in distribute [prod]; {TITLE} passed with no findings, published, copied to west; "
        "NOT DONE: prod failed"),
        False,
    ),
    "failed, and marked as failed afterwards": (
        replace(
            DONE, state="failed", marks=(BY_ANNA,),
            tasks=tasks(
                build={"state": "failed", "reason": "Dockerfile:12: no", "label": "linux/amd64"},
                **dict.fromkeys(("assemble", "scan", "gate", "publish", "west", "devs", "prod"), "upstream_failed"),
            ),
            **UNBUILT,
        ),
        End.FAILED,
        "build [linux/amd64]",
        "failed in build [linux/amd64]: Dockerfile:12: no; shop/api v7 was not published",
        False,
    ),
    "a worker was lost": (
        replace(
            DONE, state="failed", tasks=tasks(scan="failed", gate="upstream_failed", **AFTER_GATE), **UNJUDGED
        ),
        End.FAILED,
        "scan",
        f"failed in scan: {LOST}; {TITLE} was not published",
        False,
    ),
    "publish failed half way": (
        replace(
            DONE, state="failed", tasks=tasks(**AFTER_GATE | {"publish": {"state": "failed", "reason": "away"}}),
            **NOTHING_OUT,
        ),
        End.FAILED,
        "publish",
        f"failed in publish: away; {TITLE} may have some of its tags",
        False,
    ),
    "publish refused": (
        replace(
            DONE,
            state="failed",
            tasks=tasks(**AFTER_GATE | {"publish": {"state": "failed", "reason": "no", "error": "Unjudged"}}),
            **NOTHING_OUT,
        ),
        End.FAILED,
        "publish",
        f"failed in publish: no; {TITLE} was not published",
        False,
    ),
    "the gate was cleared alone, and passes now": (
        replace(BLOCKED_RUN, verdict=PASSED, tasks=tasks(publish="skipped", west="skipped", prod="skipped")),
        End.FAILED,
        "publish",
        ("failed in publish: it did not run, or left nothing: clear it and all that follow it; "
        f"{TITLE} was not published"),
        False,
    ),
    "delivered, and marked as failed": (
        replace(DONE, state="failed", marks=(BY_ANNA,)),
        End.DELIVERED,
        "",
        (f"delivered: {TITLE} passed with no findings, published, copied to west, 1 trigger fired; "
        "marked as failed by anna"),
        False,
    ),
    "delivered, and its report was lost": (
        replace(DONE, state="failed", tasks=tasks(report="failed")),
        End.DELIVERED,
        "",
        (f"delivered: {TITLE} passed with no findings, published, copied to west, 1 trigger fired; "
        "Airflow has it as failed because of its task `report`: clear that task"),
        False,
    ),
    "its verdict was removed": (
        replace(
            BLOCKED_RUN, verdict=None, state="success",
            record=Record(chain="shop", image="shop/api", tags=(), verdict="blocked: 3", sentence="x"),
        ),
        End.FAILED,
        "denied",
        f"failed in denied: blocked; {TITLE} was not published; its verdict was removed; marked as success by hand",
        False,
    ),
    "paused": (
        replace(DONE, state="running", held="its Dag is paused: unpause it", tasks=tasks(prod="")),
        End.WAITING,
        "",
        f"waiting: its Dag is paused: unpause it; {TITLE}",
        False,
    ),
    "stopped in the queue of a paused Dag": (
        Facts(state="queued", held="its Dag is paused: unpause it", marks=(BY_ANNA,)),
        End.WAITING,
        "",
        "waiting: its Dag is paused: unpause it; marked as failed by anna",
        False,
    ),
    "queued": (
        Facts(state="queued"), End.WAITING, "", "waiting: Airflow has not started it yet", False,
    ),
    "waiting for its next try": (
        replace(DONE, state="running", tasks=tasks(prod=RETRYING)),
        End.WAITING,
        "distribute [prod]",
        f"waiting to try again: distribute [prod]: busy; {TITLE}",
        False,
    ),
    "a task was deleted that others wait for": (
        replace(DONE, state="running", tasks=tasks(west="", prod="", report=""), deleted=("publish",), **NOTHING_OUT),
        End.WAITING,
        "publish",
        f"waiting for `publish`, which was deleted by hand: mark the run as failed, then clear it; {TITLE}",
        False,
    ),
    "a task was deleted": (
        replace(DONE, state="failed", tasks=tasks(west="", prod="", report=""), deleted=("publish",), **NOTHING_OUT),
        End.FAILED,
        "publish",
        f"failed in publish: its task was deleted: clear the run; {TITLE} was not published",
        False,
    ),
    "its plan was deleted": (
        Facts(state="failed", tasks=(Task(step="report", state="failed"),), deleted=("plan",)),
        End.FAILED,
        "plan",
        "failed in plan: its task was deleted: clear the run; nothing was built",
        False,
    ),
    "running": (
        replace(DONE, state="running", tasks=tasks(west="running", prod=RETRYING)),
        End.RUNNING,
        "replicate [west]",
        f"running replicate [west]; {TITLE}",
        False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_end_has_its_row(row: tuple[Facts, End, str, str, bool]) -> None:
    """The end, the step, the sentence, and whether it is a good one."""
    facts, end, step, sentence, good = row
    found = outcome(facts)
    assert (found.end, found.step, found.sentence, found.good) == (end, step, sentence, good)


def test_every_end_is_in_the_table() -> None:
    """No end is left out above."""
    assert {row[1] for row in ROWS.values()} == set(End)


def test_every_end_is_in_the_documentation() -> None:
    """One row each, in the order of their definition."""
    text = (Path(__file__).parents[4] / "docs" / "runs.md").read_text("utf-8").partition("\n## Cancel")[0]
    rows = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert rows == [str(end) for end in End]


def test_a_step_that_was_cleared_and_stopped_has_no_old_result() -> None:
    """That somebody cleared it is no word of what it would have done."""
    tasks_ = tasks(**AFTER_GATE | {"gate": "skipped", "publish": "skipped", "denied": "skipped"})
    cleared = (Mark(by="anna", what="cleared", step="gate"),)
    found = outcome(replace(BLOCKED_RUN, tasks=tasks_, marks=cleared))
    assert (found.end, found.step) == (End.FAILED, "gate")


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
    marks=st.lists(
        st.sampled_from([BY_ANNA, Mark(by="b", what="success"), Mark(by="c", what="success", step="report")])
    ),
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


@given(state=st.sampled_from(["success", "failed", "running", "queued"]), row=st.sampled_from(sorted(ROWS)))
def test_a_good_end_is_a_green_run(state: str, row: str) -> None:
    """Airflow's state and the outcome never contradict each other in what is called good."""
    found = outcome(replace(ROWS[row][0], state=state))
    assert not found.good or (state == "success" and found.end in FINE)
    assert (found.end in OPEN) == (state not in {"success", "failed"})


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
