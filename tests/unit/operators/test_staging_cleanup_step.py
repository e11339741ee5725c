from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from delivery_chain.core.placeholder import deleted_tag_digest
from delivery_chain.core.seal import Place, sealed
from delivery_chain.errors import DeliveryChainError
from delivery_chain.hooks.signing_secret import signing_secret
from delivery_chain.oci.client import RegistryClient
from delivery_chain.operators.staging_cleanup import StagingCleanupOperator
from support.chain_steps import NAME, Run, build_plan, built, chain, image_plan, push_platform, verdict

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry

SPEC = chain()
KEEPS = chain(scan={"block": {"severity": "high"}})
DELETES = chain(scan={"block": {"severity": "high", "on_block": {"delete": True}}})
HOURS = 24
DIGEST = "sha256:" + "9" * 64


@pytest.fixture(autouse=True)
def keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__STAGING_KEEP_HOURS", str(HOURS))


def answered(kind: ErrorType, **detail: Any) -> AirflowRuntimeError:
    return AirflowRuntimeError(ErrorResponse(error=kind, detail=detail or None))


UNKNOWN = answered(ErrorType.API_SERVER_ERROR, status_code=404, message="no such run")
BROKEN = answered(ErrorType.API_SERVER_ERROR, status_code=500, message="oops")
LOST = answered(ErrorType.GENERIC_ERROR)


def staged(
    home: MemoryRegistry, hours: float = HOURS + 1, spec: Any = SPEC, **fields: Any
) -> tuple[str, ...]:
    """The staging tags of a crashed run that was pushed some hours ago."""
    before = set(home.tags)
    plan = build_plan(pushed_at=datetime.now(UTC) - timedelta(hours=hours), run_id="crashed", **fields)
    built(home.registry, spec, plan)
    return tuple(sorted(key for key in home.tags if key not in before))


def sweep(spec: Any = SPEC, state: str | Exception = "failed", judgement: Any = None) -> tuple[str, ...]:
    run = Run(spec, run_states={("shop", "crashed"): state})
    if judgement is not None:
        place = Place("shop", "crashed", "gate")
        left = (
            judgement if isinstance(judgement, dict) else sealed(judgement.to_xcom(), place, signing_secret())
        )
        run.others["shop", "crashed"] = {("gate", -1, "return_value"): left}
    return tuple(sorted(run.do(StagingCleanupOperator(task_id="sweep-shop", spec=spec))))


@pytest.mark.parametrize("state", ["failed", "success", UNKNOWN])
def test_what_a_crashed_run_left_is_removed(home: MemoryRegistry, state: str | Exception) -> None:
    """Its staging tags go once they are old enough, also where Airflow no longer knows the run."""
    tags = staged(home)
    assert len(tags) == 2
    assert (sweep(state=state), home.tags) == (tags, {})


@pytest.mark.parametrize(
    ("hours", "state"),
    [
        (HOURS - 1, "failed"),
        (0, "failed"),
        (HOURS + 1, "running"),
        (HOURS + 1, "queued"),
        (HOURS - 1, UNKNOWN),
    ],
)
def test_what_may_be_needed_is_left(home: MemoryRegistry, hours: float, state: str | Exception) -> None:
    """A young tag, and one of a run that is on its way, however old its push: a run may have been cleared."""
    tags = staged(home, hours)
    assert (sweep(state=state), tuple(sorted(home.tags))) == ((), tags)


@pytest.mark.parametrize("error", [BROKEN, LOST])
def test_a_run_whose_state_cannot_be_asked_is_left(home: MemoryRegistry, error: Exception) -> None:
    """Airflow's own trouble is no proof that a run is over: the task fails and is tried again."""
    tags = staged(home)
    with pytest.raises(AirflowRuntimeError):
        sweep(state=error)
    assert tuple(sorted(home.tags)) == tags


def foreign_chain(home: MemoryRegistry) -> None:
    staged(home, chain="other")


def user_tags(home: MemoryRegistry) -> None:
    (first, *_) = staged(home)
    home.tags = {f"{NAME}:v1.2": home.tags[first], f"{NAME}:staging-x": home.tags[first]}


def no_annotation(home: MemoryRegistry) -> None:
    with RegistryClient(home.registry) as client:
        push_platform(client, image_plan(DIGEST, "_staging-0123456789ab"))


def other_repository(home: MemoryRegistry) -> None:
    staged(home, repository="web")


@pytest.mark.parametrize("make", [foreign_chain, user_tags, no_annotation, other_repository])
def test_what_is_not_the_chains_is_left(home: MemoryRegistry, make: Any) -> None:
    """Staging tags of other chains and repositories, tags of users, and images that nobody of us made."""
    make(home)
    before = dict(home.tags)
    assert before
    assert (sweep(), home.tags) == ((), before)


@pytest.mark.parametrize(
    ("spec", "passed", "removed"),
    [(KEEPS, False, False), (DELETES, False, True), (KEEPS, True, True), (SPEC, False, True)],
)
def test_a_blocked_image_stays_if_its_rule_keeps_it(
    home: MemoryRegistry, spec: Any, *, passed: bool, removed: bool
) -> None:
    """Without `delete` a blocked image is kept under its staging tag for as long as people want it."""
    tags = staged(home, spec=spec)
    found = sweep(spec, judgement=verdict(DIGEST, passed=passed))
    assert found == (tags if removed else ())


@pytest.mark.parametrize("forged", [verdict(DIGEST).to_xcom(), {}, {"passed": True, "seal": "-1:00"}])
def test_an_image_stays_if_its_verdict_was_changed(home: MemoryRegistry, forged: dict[str, Any]) -> None:
    """It may have been a refusal, and whoever looks into it needs the image."""
    tags = staged(home, spec=KEEPS)
    assert (sweep(KEEPS, judgement=forged), tuple(sorted(home.tags))) == ((), tags)


def test_a_tag_that_was_being_removed_goes(home: MemoryRegistry) -> None:
    """docker-registry 2 has a stand-in under the tag for a moment; a kill right then leaves it for the sweep."""
    tags = staged(home)
    home.deletes_tags = False
    count = 0
    while home.tags:
        count += 1
        with home.dying(2 * count), suppress(DeliveryChainError):
            sweep()
    assert (home.tags, len(tags)) == ({}, 2)


def test_a_stand_in_goes_whatever_its_age(home: MemoryRegistry) -> None:
    """It has no push time: somebody wanted it gone."""
    (first, _) = staged(home, 0)
    tag = first.rpartition(":")[2]
    home.deletes_tags = False
    deletion = f"/v2/{NAME}/manifests/{deleted_tag_digest(tag)}"
    home.on("PUT", f"/v2/{NAME}/manifests/{tag}", lambda: home.fail("DELETE", deletion, 500, times=1))
    with RegistryClient(home.registry) as client, pytest.raises(DeliveryChainError):
        client.delete_tag(NAME, tag)
    assert home.tags[first] == deleted_tag_digest(tag)
    assert sweep() == (first,)


def test_a_whole_namespace_is_swept(home: MemoryRegistry) -> None:
    """With `all: true` every repository of the namespace is looked at, apart from excluded and others' ones."""
    spec = chain(
        scope={"instance": "home", "namespace": "shop", "all": True, "exclude": ["web"]},
        sources=None,
        build=None,
    )
    tags = [*staged(home), *staged(home, repository="deep/er")]
    staged(home, repository="web")
    staged(home, namespace="shopping")
    assert sweep(spec) == tuple(sorted(tags))


def test_a_repository_that_is_not_there_yet(home: MemoryRegistry) -> None:
    """A new chain has nothing to sweep, and that is no error."""
    assert sweep() == ()


def test_a_time_that_nobody_can_read_counts_as_old(home: MemoryRegistry) -> None:
    """A staging tag of ours with a broken annotation does not stay for ever."""
    (first, *_) = staged(home, 0)
    name, _, tag = first.rpartition(":")
    digest = home.tags[first]
    kind, raw = home.manifests[f"{name}@{digest}"]
    stamp = raw.split(b'pushed-at": "')[1].split(b'"')[0]
    with RegistryClient(home.registry) as client:
        client.put_manifest(name, tag, raw.replace(stamp, b"yesterday"), kind)
    assert sweep() == (first,)


def test_deletes_that_are_off_are_said_once(home: MemoryRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    """No stand-in is left, the sweep does not fail, and one line says what to do."""
    staged(home)
    before = dict(home.tags)
    home.deletes = home.deletes_tags = False
    assert (sweep(), home.tags) == ((), before)
    assert capsys.readouterr().out.count("REGISTRY_STORAGE_DELETE_ENABLED=true") == 1


def test_a_time_in_the_future_counts_as_old(home: MemoryRegistry) -> None:
    """A staging tag whose image claims to be of next year does not stay until then."""
    (first, *_) = staged(home, 0)
    name, _, tag = first.rpartition(":")
    kind, raw = home.manifests[f"{name}@{home.tags[first]}"]
    stamp = raw.split(b'pushed-at": "')[1].split(b'"')[0]
    with RegistryClient(home.registry) as client:
        client.put_manifest(name, tag, raw.replace(stamp, b"2999-01-01T00:00:00Z"), kind)
    assert sweep() == (first,)
