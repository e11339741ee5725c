"""A chain's own writes and deletions come back as events of a real registry, and start no run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.results import Image, Subject
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.api import put_tag
from delivery_chain.oci.manifest import OCI_MANIFEST
from delivery_chain.oci.referrers import attach
from delivery_chain.operators.quarantine import QuarantineOperator
from support.airflow_database import SQLITE
from support.chain_steps import Run, build_plan, chain, image_plan, judged, push_platform, report_of, verdict
from support.notifications import Endpoint, endpoint, notifying
from support.oci_registry import docker_registry
from support.webhook_airflow import SECRET, connect, images

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.webhook_airflow import Receiver
    from support.webhook_store import Stored

pytestmark = [pytest.mark.integration, pytest.mark.parametrize("metadata", [SQLITE], indirect=True)]
REPORT = "application/vnd.report+json"
POLICY = {"severity": "high", "on_block": {"backup": True, "delete": True}}


@pytest.fixture
def told() -> Iterator[Endpoint]:
    """The endpoint that receives the registry's notifications."""
    with endpoint() as found:
        yield found


@pytest.fixture(params=[True, False], ids=["with references", "without references"])
def home(
    request: pytest.FixtureRequest, told: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RegistryClient]:
    """A client of the registry behind the connection `home`, whose notifications may include manifests' references."""
    sections: dict[str, Any] = notifying(told.url, SECRET)
    sections["events"]["includereferences"] = request.param
    with docker_registry(tmp_path, notifications=sections) as registry, RegistryClient(registry) as client:
        fields = {"conn_type": "oci_registry", "host": registry.host, "extra": {"plain_http": True}}
        monkeypatch.setenv("AIRFLOW_CONN_HOME", json.dumps(fields))
        yield client


def block(home: RegistryClient, namespace: str, tag: str, *others: str) -> None:
    """Push an image as others do, under some tags; the run for the first tag blocks it, backs it up and removes it."""
    spec = chain(
        scope={"instance": "home", "namespace": namespace, "repositories": ["api"]}, scan={"block": POLICY}
    )
    digest = push_platform(home, image_plan(f"sha256:{'9' * 64}", tag, namespace=namespace), seed=namespace)
    for other in others:
        put_tag(home, f"{namespace}/api", other, digest)
    attach(
        home,
        f"{namespace}/api",
        home.get_manifest(f"{namespace}/api", digest).descriptor(),
        REPORT,
        b"{}",
        REPORT,
    )
    run = Run(spec, image_plan(digest, tag, namespace=namespace))
    image = Image(digest=digest, platform="linux/amd64")
    run.leave("assemble", Subject(digest=digest, media_type=OCI_MANIFEST, size=1, images=(image,)))
    run.leave("gate", verdict(digest, passed=False))
    run.do(QuarantineOperator(task_id="quarantine"))


def build(home: RegistryClient, namespace: str) -> None:
    """A chain builds, blocks, and cleans up."""
    spec = chain(
        scope={"instance": "home", "namespace": namespace, "repositories": ["api"]}, scan={"block": POLICY}
    )
    run, _ = judged(
        home.registry, spec, build_plan("linux/amd64", "linux/arm64", namespace=namespace), passed=False
    )
    run.do(QuarantineOperator(task_id="quarantine"))
    report_of(run)


def tags_told(told: Endpoint) -> list[tuple[str, str]]:
    events = [event for _, body in told.received for event in json.loads(body)["events"]]
    return [
        (event["target"]["repository"], event["target"]["tag"])
        for event in events
        if event["action"] == "push" and "tag" in event["target"]
    ]


def test_only_what_others_push_starts_runs(
    stored: Stored, receiver: Receiver, told: Endpoint, home: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backups, staging tags, reports, stand-ins and deletions are recognized, even by chains of parent namespaces."""
    connect(monkeypatch, "registry", extra={"sender": "distribution"})
    everything = [
        images("team"),
        images("outer", scope={"instance": "home", "namespace": "team-quarantine", "all": True}),
    ]
    deep = {"scope": {"instance": "home", "namespace": "team/deep", "repositories": ["api"]}}
    stored.add(*everything, images("deep", **deep))
    block(home, "team", "v1", "prod")
    block(home, "team/deep", "v1")
    build(home, "team/deep")
    push_platform(home, image_plan("sha256:" + "9" * 64, "last", namespace="team"), seed="last")
    told.wait(lambda _: ("team/api", "last") in tags_told(told))

    # The stand-in for `v1` was reported, because `prod` still serves the image, and so were the backups.
    assert tags_told(told).count(("team/api", "v1")) == 2
    assert any(name == "team/deep-quarantine/api" for name, _ in tags_told(told))
    answers = [receiver.post("registry", body, headers) for headers, body in told.received]
    assert {one.status for one in answers} == {200}
    found = [(chain_id, stored.run(chain_id, run_id)["event"]) for chain_id, run_id in stored.runs()]
    assert [(chain_id, event.repository, event.tag) for chain_id, event in found] == [
        ("team", "api", "v1"),
        ("team", "api", "prod"),
        ("deep", "api", "v1"),
        ("team", "api", "last"),
    ]
    whys = {entry.why for one in answers for entry in (one.entries if one.body["changes"] else [])}
    ignored = " ".join(one.body["ignored"] for one in answers)
    assert "a chain's backup of a blocked image" in whys
    # If a registry reports the manifests' references, the event itself shows that the stand-in is no image.
    mark = "a chain's own mark of a tag that it is deleting" in whys
    assert mark != ("an artifact other than an image: application/vnd.oci.empty.v1+json" in ignored)
