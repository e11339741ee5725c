"""How runs end, row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.results import (
    Published,
    Quarantined,
    Record,
    TagMove,
)
from delivery_chain.core.run.end import FINE, OPEN, End
from delivery_chain.core.run.facts import Facts
from delivery_chain.core.run.marks import Mark
from delivery_chain.core.run.state import outcome
from delivery_chain.core.steps import Task
from support.run_facts import (
    AFTER_GATE,
    BLOCKED_RUN,
    BY_ANNA,
    CANCELLED_BUILD,
    DIGEST,
    DONE,
    LOST,
    NOTHING_OUT,
    OTHER,
    PASSED,
    PUBLISHED,
    RETRYING,
    SKIPPED,
    TITLE,
    UNBUILT,
    UNJUDGED,
    tasks,
    without_plan,
)

ROWS: dict[str, tuple[Facts, End, str, str, bool]] = {
    "delivered": (
        DONE,
        End.DELIVERED,
        "",
        f"delivered: {TITLE} passed with no findings, published, copied to west, 1 trigger fired",
        True,
    ),
    "delivered, one of its tags stayed with a newer push": (
        replace(
            DONE,
            published=Published(
                digest=DIGEST, tags=(*PUBLISHED.tags, TagMove(tag="latest", state="kept", digest=OTHER))
            ),
        ),
        End.DELIVERED,
        "",
        (f"delivered: {TITLE} passed with no findings, published but for latest, which a newer push holds, "
        "copied to west, 1 trigger fired"),
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
        ("failed in publish: it did not run, or left nothing: clear it and everything downstream; "
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
    "delivered, marked as failed, and cleared with *only failed*, which finds nothing": (
        replace(DONE, state="failed", marks=(Mark(by="carl", what="cleared"),)),
        End.DELIVERED,
        "",
        (f"delivered: {TITLE} passed with no findings, published, copied to west, 1 trigger fired; "
        "marked as failed by hand"),
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


@given(state=st.sampled_from(["success", "failed", "running", "queued"]), row=st.sampled_from(sorted(ROWS)))
def test_a_good_end_is_a_green_run(state: str, row: str) -> None:
    """Airflow's state and the outcome never contradict each other in what is called good."""
    found = outcome(replace(ROWS[row][0], state=state))
    assert not found.good or (state == "success" and found.end in FINE)
    assert (found.end in OPEN) == (state not in {"success", "failed"})
