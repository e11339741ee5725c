"""Facts about runs, with their tasks and results: of a complete run, and of runs that ended early."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from delivery_chain.core.events.event import Kind
from delivery_chain.core.gate.judge import Hit, Verdict
from delivery_chain.core.plan import Plan, Planned, made_for
from delivery_chain.core.results import (
    DeliveryResult,
    Published,
    RegionResult,
    Subject,
    TagMove,
)
from delivery_chain.core.run.facts import Facts
from delivery_chain.core.run.marks import Mark
from delivery_chain.core.spec.model import ChainSpec
from delivery_chain.core.steps import Task

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
