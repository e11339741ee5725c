"""The plan of a redelivered push: the images in the home registry decide."""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk.execution_time import task_runner

from delivery_chain.core.events.event import Event
from delivery_chain.core.events.routing import Start
from delivery_chain.core.plan import Plan
from delivery_chain.errors import UnderWay
from delivery_chain.oci.client import RegistryClient
from delivery_chain.operators import plan as plan_step
from delivery_chain.operators.plan import PlanOperator
from delivery_chain.tools.git import refs as git
from support.chain_steps import COMMIT, DAY, NAME, Run, build_plan, chain, push_platform

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry

OTHER = "b" * 40
REF = "refs/tags/v1.2"
HOUR = timedelta(hours=1)
PUSH = {
    "kind": "source_push",
    "repository": "api",
    "rule": "release",
    "ref": REF,
    "commit": COMMIT,
    "pushed_at": DAY.isoformat(),
    "seen_at": DAY.isoformat(),
}
TIMED = chain(
    build={
        "rules": [
            {
                "name": "release",
                "tag": "v(?<n>.*)",
                "tags": [{"tag": "v${n}", "build_time": "minute", "commit_id": 6}],
            }
        ],
        "timezone": "UTC",
    }
)


@pytest.fixture(autouse=True)
def refs(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the git source holds."""
    found = {REF: COMMIT}
    where = {"conn_type": "git", "host": "https://git.example.com/shop"}
    monkeypatch.setenv("AIRFLOW_CONN_GIT_SHOP", json.dumps(where))
    monkeypatch.setattr(git, "list_refs", lambda source, *, deadline: found)
    return found


def out(
    home: MemoryRegistry, *, tags: tuple[str, ...] = ("v1.2", "latest"), commit: str = COMMIT, **fields: Any
) -> str:
    """Let an image of the ref be out, which was seen an hour before the tests' push unless told otherwise."""
    plan = build_plan(
        tags=tags, **({"run_id": "earlier", "seen_at": DAY - HOUR, "pushed_at": DAY - HOUR} | fields)
    )
    assert plan.build is not None
    plan = plan.model_copy(update={"build": plan.build.model_copy(update={"commit": commit})})
    with RegistryClient(home.registry) as client:
        digest = push_platform(client, plan, seed=commit)
        raw = client.get_manifest(NAME, digest)
        for tag in tags:
            client.put_manifest(NAME, tag, raw.raw, raw.media_type)
    return digest


def planned(spec: Any = None, **said: Any) -> Plan:
    spec = spec or chain()
    conf = {key: value for key, value in (PUSH | said).items() if value is not None}
    return Plan.from_xcom(Run(spec, conf=conf).do(PlanOperator(task_id="plan", spec=spec))["plan"])


@pytest.mark.parametrize(
    ("said", "image"),
    [
        pytest.param({}, {}, id="told again"),
        pytest.param({"left": (DAY - 2 * HOUR).isoformat()}, {}, id="the ref was elsewhere before the image"),
        pytest.param({"announce": False}, {"announce": False}, id="neither tells anybody"),
    ],
)
def test_it_was_built_before(home: MemoryRegistry, said: dict[str, Any], image: dict[str, Any]) -> None:
    """The run is skipped, and its reason names the image and the run."""
    out(home, **image)
    with pytest.raises(
        AirflowSkipException, match=f"{REF} at aaaaaaaaaaaa was built before: .* by run earlier, pushed"
    ):
        planned(**said)


@pytest.mark.parametrize(
    ("said", "image", "pushed_at"),
    [
        pytest.param({"left": (DAY - HOUR / 2).isoformat()}, {}, DAY, id="the ref was elsewhere since"),
        pytest.param({}, {"commit": OTHER}, DAY, id="an image of another commit"),
        pytest.param({}, {"announce": False}, DAY - HOUR, id="built without triggers"),
        pytest.param({}, {"run_id": "r1", "seen_at": DAY}, DAY - HOUR, id="the run that built it is cleared"),
        pytest.param({"kind": "manual", "rule": None}, {}, DAY - HOUR, id="by hand"),
    ],
)
def test_it_is_built(
    home: MemoryRegistry, said: dict[str, Any], image: dict[str, Any], pushed_at: Any
) -> None:
    """What is built of a push that was seen before is no newer than it was then."""
    out(home, **image)
    assert planned(**said).pushed_at == pushed_at


def test_the_ref_came_back(home: MemoryRegistry) -> None:
    """An image of another commit is newer than what was told: the ref is here now, so this is the newer one."""
    out(home, commit=OTHER, seen_at=DAY + HOUR, pushed_at=DAY + HOUR)
    found = planned()
    assert (found.pushed_at, (found.seen_at or DAY) > DAY + HOUR) == (DAY + HOUR, True)


def test_tags_with_a_time_in_them(home: MemoryRegistry) -> None:
    """Told again, a push would get another name: its image is found under the one that it had."""
    out(home, tags=("v1.2-202605201100-aaaaaa",))
    with pytest.raises(AirflowSkipException, match="was built before"):
        planned(TIMED)
    assert planned(TIMED, kind="manual", rule=None).tags == ("v1.2-202605201100-aaaaaa",)


@pytest.mark.parametrize("seen", [0, -2])
def test_an_earlier_run_is_waited_for(
    home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch, seen: int
) -> None:
    """In doubt there is a second run of one push; a run of before the ref was elsewhere is none of it."""
    start = Start("shop", "shop", Event.from_conf(PUSH))
    run = Run(chain(), build_plan(run_id=start.run_id(2)), conf=PUSH | {"left": (DAY - HOUR).isoformat()})
    run.run_states["shop", start.run_id(1)] = "running"
    conf = PUSH | {"seen_at": (DAY + seen * HOUR).isoformat()}
    row = SimpleNamespace(conf=conf, run_type="manual", triggering_user_name="webhook x", run_after=DAY)
    monkeypatch.setattr(plan_step, "version_for", lambda spec, _: (spec, 0))
    monkeypatch.setattr("delivery_chain.spec_store.in_force.removed_chains", tuple)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=lambda _: row), raising=False)
    step = PlanOperator(task_id="plan", spec=chain())
    if seen < -1:
        assert run.do(step)["plan"]["run_id"] == start.run_id(2)
        return
    with pytest.raises(UnderWay, match="may be of this very push") as caught:
        run.do(step)
    assert caught.value.retryable
