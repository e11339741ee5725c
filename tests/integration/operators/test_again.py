"""Effects of a clear and of a retry on each step, with real registries: the table in docs/runs.md."""

from __future__ import annotations

import json
from datetime import timedelta
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pytest
import requests

from delivery_chain.core.results import Published, Quarantined, RegionResult, Subject
from delivery_chain.errors import DeliveryUnavailable, NotFound, RegistryUnreachable, Unjudged
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.api import put_tag
from delivery_chain.operators import quarantine
from delivery_chain.operators.build import AssembleOperator
from delivery_chain.operators.distribute import DistributeOperator
from delivery_chain.operators.publish import PublishOperator
from delivery_chain.operators.quarantine import QuarantineOperator
from delivery_chain.operators.replicate import ReplicateOperator, TaskState
from delivery_chain.operators.scan import GateOperator, ScanOperator
from support.chain_steps import DAY, Run, build_plan, built, chain, judged, report_of, scanned, verdict
from support.oci_images import push_image
from support.webhook_target import answer, webhook_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.core.names.registry import Registry
    from support.webhook_target import Target

pytestmark = pytest.mark.integration
PROD = {"name": "prod", "url_connection": "prod_hook", "after": ["to-west"]}
REGION = {"name": "to-west", "to": "west"}


@pytest.fixture
def deletes() -> bool:
    """The registry of these tests has deletes enabled."""
    return True


@pytest.fixture
def namespace() -> str:
    """A namespace for this test."""
    return f"t-{token_hex(4)}"


@pytest.fixture
def west(registries: dict[bool, Registry], monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryClient]:
    """A region."""
    registry = registries[False]
    fields = {"conn_type": "oci_registry", "host": registry.host, "extra": {"plain_http": True}}
    monkeypatch.setenv("AIRFLOW_CONN_WEST", json.dumps(fields))
    with RegistryClient(registry) as client:
        yield client


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    with webhook_target() as running:
        fields = {"conn_type": "delivery_webhook", "host": running.url}
        monkeypatch.setenv("AIRFLOW_CONN_PROD_HOOK", json.dumps(fields))
        yield running


def spec_of(namespace: str, **sections: Any) -> Any:
    return chain(scope={"instance": "home", "namespace": namespace, "repositories": ["api"]}, **sections)


def passed(home: RegistryClient, namespace: str, **sections: Any) -> tuple[Run, str]:
    """A run whose gate passed its image."""
    return judged(
        home.registry, spec_of(namespace, **sections), build_plan(namespace=namespace), seed=namespace
    )


def blocked(home: RegistryClient, namespace: str) -> tuple[Run, str]:
    """A run whose image has to be backed up and removed."""
    block = {"severity": "high", "on_block": {"backup": True, "delete": True}}
    spec = spec_of(namespace, scan={"block": block})
    run, subject = built(home.registry, spec, build_plan(namespace=namespace), seed=namespace)
    scanned(home.registry, run)
    run.leave("gate", verdict(subject.digest, passed=False))
    return run, subject.digest


def publish(run: Run) -> Published:
    return Published.from_xcom(run.do(PublishOperator(task_id="publish")))


def replicate(run: Run) -> RegionResult:
    return RegionResult.from_xcom(run.do(ReplicateOperator(task_id="replicate", slot=0), 0))


def fire(run: Run) -> Any:
    return run.do(DistributeOperator(task_id="distribute", slot=0), 0)


def clean(run: Run) -> None:
    """Remove the staging tags, as the end of a run does."""
    report_of(run)


def lose(home: RegistryClient, namespace: str, digest: str) -> None:
    """Delete an untagged image, as a registry's garbage collection may do."""
    home.delete_manifest(f"{namespace}/api", digest)


# assemble


def test_assemble_again_gives_the_same_image(home: RegistryClient, namespace: str) -> None:
    """For clear and retry alike, even after the end of the run removed its staging tags."""
    run, digest = passed(home, namespace)
    publish(run)
    clean(run)
    run.clear("assemble")
    again = Subject.from_xcom(run.do(AssembleOperator(task_id="assemble")))
    assert again.digest == digest
    assert home.head_digest(f"{namespace}/api", run.plan.staging() if run.plan else "") == digest


def test_assemble_after_the_build_is_gone_says_what_to_clear(home: RegistryClient, namespace: str) -> None:
    """The registry has removed untagged images: only a build can restore them."""
    run, digest = passed(home, namespace)
    clean(run)
    lose(home, namespace, digest)
    with pytest.raises(NotFound, match=r"is no longer in .*: .* clear `build` and everything downstream"):
        run.do(AssembleOperator(task_id="assemble"))


# scan, gate


def test_scan_after_the_image_is_gone_says_what_to_clear(home: RegistryClient, namespace: str) -> None:
    """As after a quarantine that removed a blocked image: users clear the scan, and learn what is needed."""
    run, _ = blocked(home, namespace)
    run.do(QuarantineOperator(task_id="quarantine"))
    with pytest.raises(NotFound, match="clear `build` and everything downstream") as caught:
        run.do(ScanOperator(task_id="scan", slot=0), 0)
    assert not caught.value.retryable


def test_gate_again_judges_the_same_reports(
    home: RegistryClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a clear, it uses only the results of the scans."""
    run, digest = blocked(home, namespace)
    monkeypatch.setattr(GateOperator, "skip_all_except", lambda *_, **__: None)
    for _ in range(2):
        run.clear("gate")
        GateOperator(task_id="gate").choose_branch(run.context("gate"))
        assert run.left("gate")["digest"] == digest


def test_gate_without_its_reports_says_what_to_clear(home: RegistryClient, namespace: str) -> None:
    """The reports disappeared along with the referrers; the image exists, and can be scanned again."""
    run, digest = blocked(home, namespace)
    report = run.left("scan", index=0)["results"][0]["report"]
    home.delete_blob(f"{namespace}/api", report) if hasattr(home, "delete_blob") else delete_blob(
        home, namespace, report
    )
    with pytest.raises(Unjudged, match="clear `scan` and everything downstream"):
        GateOperator(task_id="gate").choose_branch(run.context("gate"))
    assert home.head_digest(f"{namespace}/api", digest) == digest


def delete_blob(home: RegistryClient, namespace: str, digest: str) -> None:
    url = f"{home.registry.base_url}/v2/{namespace}/api/blobs/{digest}"
    assert requests.delete(url, timeout=10).status_code == 202


# publish


def tags_moved(run: Run) -> dict[str, str]:
    return {move.tag: move.state for move in publish(run).tags}


def test_publish_again_changes_nothing(home: RegistryClient, namespace: str) -> None:
    """For clear and retry alike, if the tags were not moved meanwhile."""
    run, digest = passed(home, namespace)
    assert tags_moved(run) == {"v1.2": "moved", "latest": "moved"}
    run.clear("publish")
    assert tags_moved(run) == {"v1.2": "unchanged", "latest": "unchanged"}
    assert home.head_digest(f"{namespace}/api", "latest") == digest


def test_publish_again_puts_back_what_was_deleted(home: RegistryClient, namespace: str) -> None:
    """A tag that was deleted points at the run's image again."""
    run, digest = passed(home, namespace)
    publish(run)
    home.delete_tag(f"{namespace}/api", "v1.2")
    run.clear("publish")
    assert tags_moved(run) == {"v1.2": "moved", "latest": "unchanged"}
    assert home.head_digest(f"{namespace}/api", "v1.2") == digest


def later(home: RegistryClient, namespace: str, by: timedelta) -> str:
    """A newer push of another commit takes `latest`."""
    plan = build_plan(namespace=namespace, run_id="r2", tags=("v1.3", "latest"), pushed_at=DAY + by)
    run, digest = judged(home.registry, spec_of(namespace), plan, seed=f"{namespace}-2")
    publish(run)
    return digest


def test_publish_again_leaves_newer_pushes_alone(home: RegistryClient, namespace: str) -> None:
    """The run's own tag stays its own; `latest` never goes back."""
    run, digest = passed(home, namespace)
    publish(run)
    newer = later(home, namespace, timedelta(seconds=1))
    run.clear("publish")
    assert tags_moved(run) == {"v1.2": "unchanged", "latest": "kept"}
    name = f"{namespace}/api"
    assert [home.head_digest(name, tag) for tag in ("v1.2", "latest")] == [digest, newer]


def test_publish_after_the_image_is_gone_says_what_to_clear(home: RegistryClient, namespace: str) -> None:
    """No tag is moved."""
    run, digest = passed(home, namespace)
    lose(home, namespace, digest)
    with pytest.raises(NotFound, match="clear `build` and everything downstream"):
        publish(run)


# quarantine


def test_quarantine_again_is_the_same(home: RegistryClient, namespace: str) -> None:
    """Cleared after the image was removed: the backup is found, and the record is the same."""
    run, digest = blocked(home, namespace)
    first = Quarantined.from_xcom(run.do(QuarantineOperator(task_id="quarantine")))
    run.clear("quarantine")
    again = Quarantined.from_xcom(run.do(QuarantineOperator(task_id="quarantine")))
    assert (again, again.kept, home.head_digest(f"{namespace}/api", digest)) == (first, "", None)


def test_quarantine_of_a_second_verdict_finds_the_first_ones_backup(
    home: RegistryClient, namespace: str
) -> None:
    """The gate was cleared, too: its verdict has another time, and the image exists only in the quarantine."""
    run, digest = blocked(home, namespace)
    run.do(QuarantineOperator(task_id="quarantine"))
    run.leave("gate", verdict(digest, passed=False, judged_at=DAY + timedelta(days=1)))
    again = Quarantined.from_xcom(run.do(QuarantineOperator(task_id="quarantine")))
    name, tag = f"{namespace}-quarantine/api", again.backup.rpartition(":")[2]
    assert home.head_digest(name, tag) == digest


def test_quarantine_of_what_is_nowhere_says_what_to_clear(home: RegistryClient, namespace: str) -> None:
    """With neither the image nor a backup, a backup is impossible."""
    run, digest = blocked(home, namespace)
    lose(home, namespace, digest)
    with pytest.raises(NotFound, match="clear `build` and everything downstream"):
        run.do(QuarantineOperator(task_id="quarantine"))


def test_a_retry_of_a_quarantine_goes_on(
    home: RegistryClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between backup and removal: the image is removed, with one backup."""
    run, digest = blocked(home, namespace)

    def dies(*_: Any) -> Any:
        raise RegistryUnreachable("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(quarantine._Here, "remove", dies)
        with pytest.raises(RegistryUnreachable):
            run.do(QuarantineOperator(task_id="quarantine"))
    found = Quarantined.from_xcom(run.do(QuarantineOperator(task_id="quarantine")))
    assert (found.kept, home.head_digest(f"{namespace}/api", digest)) == ("", None)
    tags = home.list_tags(f"{namespace}-quarantine/api")
    assert len([tag for tag in tags if not tag.startswith("sha256-")]) == 1


# replicate


def test_replicate_again_puts_right_what_is_wrong_there(
    home: RegistryClient, namespace: str, west: RegistryClient
) -> None:
    """A clear checks everything in the region again."""
    run, digest = passed(home, namespace, replicate=[REGION])
    publish(run)
    replicate(run)
    name = f"{namespace}/api"
    put_tag(west, name, "v1.2", push_image(west, name, seed=3).digest)
    run.clear("replicate", 0)
    assert {move.tag: move.state for move in replicate(run).tags} == {"v1.2": "moved", "latest": "unchanged"}
    assert west.head_digest(name, "v1.2") == digest


def test_replicate_keeps_uploads_for_its_retries_alone(home: RegistryClient, namespace: str) -> None:
    """A retry resumes an open upload; a clear opens a new one."""
    run, _ = passed(home, namespace)
    TaskState(run.context("replicate", 0)).save({"blob": "upload"})
    run.tries["replicate", 0] = 1
    assert TaskState(run.context("replicate", 0)).load() == {"blob": "upload"}
    run.clear("replicate", 0)
    assert TaskState(run.context("replicate", 0)).load() == {}


def test_replicate_after_the_image_is_gone_says_what_to_clear(
    home: RegistryClient, namespace: str, west: RegistryClient
) -> None:
    """The region is unchanged."""
    run, digest = passed(home, namespace, replicate=[REGION])
    publish(run)
    lose(home, namespace, digest)
    with pytest.raises(NotFound, match="clear `build` and everything downstream"):
        replicate(run)


# distribute


def test_distribute_again_sends_again_and_a_retry_does_not(
    home: RegistryClient, namespace: str, west: RegistryClient, target: Target
) -> None:
    """The ids are the same each time."""
    run, _ = passed(home, namespace, replicate=[REGION], distribute=[PROD])
    publish(run)
    replicate(run)
    target.replies = [answer(200), answer(503)]
    with pytest.raises(DeliveryUnavailable):
        fire(run)
    fire(run)
    run.clear("distribute", 0)
    fire(run)
    told = [(json.loads(got.body)["push_data"]["tag"], got.headers["webhook-id"]) for got in target.got]
    assert [tag for tag, _ in told] == ["v1.2", "latest", "latest", "v1.2", "latest"]
    assert len(set(told)) == 2
