"""Images that others pushed, redelivered after their runs were deleted: a mark beside the image decides."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from delivery_chain.core.events.announced import MARK, says
from delivery_chain.core.events.event import Event
from delivery_chain.core.events.routing import Start
from delivery_chain.core.plan import Plan
from delivery_chain.core.results import Subject
from delivery_chain.errors import UnderWay
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import EMPTY_BLOB, OCI_EMPTY, OCI_MANIFEST
from delivery_chain.oci.referrers import attach, list_referrers
from delivery_chain.operators.announced import leave_mark
from delivery_chain.operators.plan import PlanOperator
from support.chain_steps import DAY, NAME, Run, build_plan, chain, image_plan, push_platform

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry

SPEC = chain(build=None, sources=None)
HOUR = timedelta(hours=1)


def push(home: MemoryRegistry, tag: str = "v1", seed: str = "") -> str:
    """Push an image as others do; gives its digest."""
    with RegistryClient(home.registry) as client:
        return push_platform(client, image_plan("", tag), seed=seed)


def delivered(
    digest: str, *, seen_at: Any = DAY - HOUR, run_id: str = "earlier", tag: str = "v1", **said: Any
) -> None:
    """Let a run have delivered an image."""
    plan = image_plan(digest, tag, run_id=run_id, seen_at=seen_at, **said)
    leave_mark(plan, Subject(digest=digest, media_type=OCI_MANIFEST, size=1), logging.getLogger())


def planned(digest: str, run: Run | None = None, **said: Any) -> Plan:
    """The plan of a push of `v1`, seen at DAY."""
    conf = {
        "kind": "image_push",
        "repository": "api",
        "tag": "v1",
        "digest": digest,
        "pushed_at": DAY.isoformat(),
        "seen_at": DAY.isoformat(),
    } | said
    run = run or Run(SPEC)
    run.conf = conf
    return Plan.from_xcom(run.do(PlanOperator(task_id="plan", spec=SPEC))["plan"])


def test_what_was_delivered_before_is_not_announced_again(home: MemoryRegistry) -> None:
    """The run is skipped; its reason names the run that did it, and how to send the image on."""
    digest = push(home)
    delivered(digest)
    with pytest.raises(AirflowSkipException, match="was delivered before, by run earlier") as caught:
        planned(digest)
    assert str(caught.value).endswith("delivery-chain trigger shop --repository api --tag v1")


@pytest.mark.parametrize(
    ("said", "mark"),
    [
        pytest.param({}, None, id="nothing is known of it"),
        pytest.param({"left": (DAY - HOUR / 2).isoformat()}, {}, id="the tag was elsewhere since"),
        pytest.param({}, {"tag": "v2"}, id="delivered under another tag"),
        pytest.param({}, {"chain": "other"}, id="delivered by another chain"),
        pytest.param({}, {"seen_at": DAY + timedelta(days=36500)}, id="a mark that claims the future"),
        pytest.param({}, {"run_id": "r1", "seen_at": DAY}, id="the run that delivered it is cleared"),
        pytest.param({"kind": "manual"}, {}, id="a person asks for it"),
    ],
)
def test_it_is_announced(home: MemoryRegistry, said: dict[str, Any], mark: dict[str, Any] | None) -> None:
    """A push of its own, or somebody's wish."""
    digest = push(home)
    if mark is not None:
        delivered(digest, **mark)
    assert planned(digest, **said).digest == digest


def test_another_push_has_other_delivery_ids(home: MemoryRegistry) -> None:
    """Its run may have the id of an earlier one that was forgotten: a target that knows it would drop the delivery."""
    digest = push(home)
    left = (DAY - HOUR / 4).isoformat()
    found = [planned(digest, left=left).again]
    for number in (2, 1):
        delivered(digest, run_id="r1", seen_at=DAY - number * HOUR)
        delivered(digest, run_id="r2", seen_at=DAY - number * HOUR / 2)
        found.append(planned(digest, left=left).again)
    delivered(digest, run_id="r1", seen_at=DAY)
    assert (found, planned(digest, left=left).again) == ([0, 1, 2], 2)


def test_a_mark_that_was_copied_here_says_nothing(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """Referrers go along with images, and a region may have a chain of the same name."""
    digest = push(home)
    with RegistryClient(home.registry) as client:
        said = says(image_plan(digest, "v1", run_id="earlier"), west.registry.host)
        about = client.get_manifest(NAME, digest).descriptor()
        attach(client, NAME, about, MARK, EMPTY_BLOB, OCI_EMPTY, said)
    assert planned(digest).digest == digest


@pytest.mark.parametrize("between", ["delivered", "on its way", "not delivered"])
def test_there_and_back(home: MemoryRegistry, between: str) -> None:
    """The tag is said to have been at another image: whether that was delivered in between is what counts."""
    other, digest = push(home, "v2", "other"), push(home)
    delivered(digest)
    run = Run(SPEC)
    if between == "delivered":
        delivered(other, seen_at=DAY - HOUR / 2)
        assert planned(digest, elsewhere=[other]).digest == digest
        return
    if between == "on its way":
        event = Event(kind="image_push", repository="api", tag="v1", digest=other)
        run.run_states["shop", Start("shop", "shop", event).run_id(1)] = "running"
    error = UnderWay if between == "on its way" else AirflowSkipException
    with pytest.raises(error):
        planned(digest, run, elsewhere=[other])


@pytest.mark.parametrize(("tag", "own"), [("v1.2", True), ("v1", False)])
def test_what_the_chain_itself_built(home: MemoryRegistry, tag: str, own: bool) -> None:  # noqa: FBT001 - a column
    """Registries tell of what it publishes; once its run is forgotten, the image itself says so."""
    plan = build_plan(tags=("v1.2",))
    with RegistryClient(home.registry) as client:
        digest = push_platform(client, plan)
        client.put_manifest(NAME, tag, client.get_manifest(NAME, digest).raw, OCI_MANIFEST)
    if own:
        with pytest.raises(AirflowSkipException, match="was built by this chain itself"):
            planned(digest, tag=tag)
    else:
        assert planned(digest, tag=tag).digest == digest


def test_a_mark_is_left_once(home: MemoryRegistry) -> None:
    """However often its run is reported."""
    digest = push(home)
    delivered(digest)
    delivered(digest)
    with RegistryClient(home.registry) as client:
        assert len(list_referrers(client, NAME, digest, artifact_type=MARK)) == 1


def test_a_registry_that_takes_no_mark_fails_nothing(
    home: MemoryRegistry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delivery is done; the log says that it is not marked."""
    digest = push(home)
    monkeypatch.setenv("AIRFLOW_CONN_HOME", '{"conn_type": "oci_registry", "host": "127.0.0.1:1"}')
    delivered(digest)
    assert "did not accept the mark" in caplog.text
