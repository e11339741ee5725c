from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from delivery_chain.core.gate.findings import REPORT_TYPE, Finding, Severity
from delivery_chain.core.results import Quarantined
from delivery_chain.errors import ConfigurationError, DeletesDisabled, DeliveryChainError, PolicyViolation
from delivery_chain.oci import tag_holders
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import OCI_INDEX, build_index
from delivery_chain.oci.referrers import attach, list_referrers
from delivery_chain.operators.quarantine import DeniedOperator, QuarantineOperator
from delivery_chain.retry import ChainRetryPolicy
from support.chain_steps import (
    NAME,
    Run,
    build_plan,
    chain,
    image_plan,
    judged,
    push_platform,
    report_of,
    verdict,
)

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry

SAFE = "shop-quarantine/api"
BACKUP = f"{SAFE}:v1.2.20260520T120000Z"
REPORT = "application/vnd.report+json"
DIGEST = "sha256:" + "9" * 64
BAD = Finding(id="CVE-2026-1", severity=Severity.HIGH, package="libc6", installed="2.36", fixed="2.37")


def policy(*, backup: bool, delete: bool) -> Any:
    return chain(scan={"block": {"severity": "high", "on_block": {"backup": backup, "delete": delete}}})


def digests(run: Run) -> list[str]:
    """The manifests of a run's images."""
    return [image["digest"] for image in run.left("assemble")["images"]]


def blocked(home: MemoryRegistry, spec: Any, *platforms: str) -> tuple[Run, str]:
    """A blocked build of one platform or more, with a scan report at each."""
    run, digest = judged(home.registry, spec, build_plan(*platforms), passed=False)
    with RegistryClient(home.registry) as client:
        for child in digests(run):
            subject = client.get_manifest(NAME, child).descriptor()
            attach(client, NAME, subject, REPORT, b"{}", REPORT)
    return run, digest


def pushed(home: MemoryRegistry, spec: Any, *tags: str, passed: bool = False) -> tuple[Run, str]:
    """A blocked image that others pushed."""
    with RegistryClient(home.registry) as client:
        digest = push_platform(client, image_plan(DIGEST, *tags))
    run = Run(spec, image_plan(digest, *tags))
    run.leave(
        "assemble",
        {
            "digest": digest,
            "media_type": "m",
            "size": 1,
            "images": [{"digest": digest, "platform": "linux/amd64"}],
        },
    )
    run.leave("gate", verdict(digest, passed=passed))
    return run, digest


def kept_away(run: Run) -> Quarantined:
    return Quarantined.from_xcom(run.do(QuarantineOperator(task_id="quarantine")))


@pytest.mark.parametrize("backup", [False, True])
@pytest.mark.parametrize("delete", [False, True])
@pytest.mark.parametrize("platforms", [("linux/amd64",), ("linux/amd64", "linux/arm64")])
def test_what_the_rule_says_is_done(
    home: MemoryRegistry, platforms: tuple[str, ...], *, delete: bool, backup: bool
) -> None:
    """Backed up or not, deleted or not: the image is in the places that the result names, and nowhere else."""
    run, digest = blocked(home, policy(backup=backup, delete=delete), *platforms)
    plan = build_plan(*platforms)
    before = dict(home.tags)
    found = kept_away(run)
    parts = (digest, *(one for one in digests(run) if one != digest))
    slugs = [one.replace("/", "-") for one in platforms]
    tags = (*(f"{plan.staging()}-{slug}" for slug in slugs), plan.staging())
    assert found == Quarantined(
        digest=digest,
        backup=f"{home.registry.host}/{BACKUP}" if backup else "",
        deleted=(*tags, *parts) if delete else (),
        kept="" if delete else f"{home.registry.host}/{NAME}:{plan.staging()}@{digest}",
    )
    assert {key for key in home.tags if key.startswith(f"{NAME}:")} == (set() if delete else set(before))
    assert [f"{NAME}@{part}" in home.manifests for part in parts] == [not delete] * len(parts)
    assert [f"{SAFE}@{part}" in home.manifests for part in parts] == [backup] * len(parts)
    assert home.tags.get(BACKUP) == (digest if backup else None)


def test_a_backup_has_the_reports(home: MemoryRegistry) -> None:
    """What was found about an image goes with it, and can be listed there."""
    run, _ = blocked(home, policy(backup=True, delete=True), "linux/amd64", "linux/arm64")
    kept_away(run)
    with RegistryClient(home.registry) as client:
        listed = {
            platform: {entry.artifact_type for entry in list_referrers(client, SAFE, child)}
            for platform, child in zip(("linux/amd64", "linux/arm64"), digests(run), strict=True)
        }
    assert listed == {key: {REPORT, REPORT_TYPE} for key in ("linux/amd64", "linux/arm64")}


def test_a_rule_that_blocks_nothing_more_keeps_the_image(home: MemoryRegistry) -> None:
    """Without `on_block` nothing is written at all."""
    run, digest = blocked(home, chain(scan={"block": {"severity": "high"}}))
    home.requests.clear()
    assert kept_away(run).kept.endswith(f"@{digest}")
    assert home.writes() == []


def test_a_backup_that_fails_removes_nothing(home: MemoryRegistry) -> None:
    """The image stays where it is until its copy is whole."""
    run, _ = blocked(home, policy(backup=True, delete=True))
    before = (dict(home.tags), dict(home.manifests))
    home.fail("PUT", f"/v2/{SAFE}/manifests/.*", 500)
    with pytest.raises(DeliveryChainError) as caught:
        kept_away(run)
    assert (caught.value.retryable, home.tags, home.manifests) == (True, *before)


@pytest.mark.parametrize("lost_answer", [False, True])
@pytest.mark.parametrize("deletes_tags", [False, True])
@pytest.mark.parametrize("make", ["built", "pushed"])
def test_a_kill_at_any_request_ends_the_same(
    home: MemoryRegistry, make: str, *, deletes_tags: bool, lost_answer: bool
) -> None:
    """Cut off before or after any request, the image is in one place at least, and the retry ends as a whole try."""
    spec = policy(backup=True, delete=True)
    home.deletes_tags = deletes_tags
    run, digest = blocked(home, spec) if make == "built" else pushed(home, spec, "v1.2")
    start = (dict(home.tags), dict(home.manifests), dict(home.blobs))
    home.requests.clear()
    wanted = kept_away(run)
    ended, count = (dict(home.tags), set(home.manifests)), len(home.requests)
    ends = []
    for cut in range(count):
        home.tags, home.manifests, home.blobs = (dict(one) for one in start)
        home.dead_from, home.lost_answer = cut, lost_answer
        with pytest.raises(DeliveryChainError):
            kept_away(run)
        home.dead_from = None
        assert f"{NAME}@{digest}" in home.manifests or home.tags[BACKUP] == digest
        ends.append((kept_away(run), (dict(home.tags), set(home.manifests))))
    assert count > 20
    assert ended == (
        {BACKUP: digest} | {key: home.tags[key] for key in home.tags if "sha256-" in key},
        ended[1],
    )
    assert ends == [(wanted, ended)] * count


def test_an_image_of_others_is_removed_with_its_tag(home: MemoryRegistry) -> None:
    """The rule's `delete` holds for pushed images too."""
    run, digest = pushed(home, policy(backup=False, delete=True), "v7")
    assert kept_away(run) == Quarantined(digest=digest, deleted=("v7", digest))
    assert (home.tags, home.manifests) == ({}, {})


def test_an_image_of_others_is_kept_under_its_tag(home: MemoryRegistry) -> None:
    """Without `delete` the result says where it still is."""
    run, digest = pushed(home, policy(backup=False, delete=False), "v7")
    assert kept_away(run).kept == f"{home.registry.host}/{NAME}:v7@{digest}"


def test_a_tag_that_was_pushed_again_is_not_removed(home: MemoryRegistry) -> None:
    """Somebody pushed the fixed image meanwhile: its own run judges it, and this one takes the blocked digest alone."""
    run, digest = pushed(home, policy(backup=False, delete=True), "v7")
    with RegistryClient(home.registry) as client:
        fixed = push_platform(client, image_plan(DIGEST, "v7"), seed="fixed")
    assert kept_away(run) == Quarantined(digest=digest, deleted=(digest,))
    assert (home.tags, list(home.manifests)) == ({f"{NAME}:v7": fixed}, [f"{NAME}@{fixed}"])


def test_a_digest_under_another_tag_stays(home: MemoryRegistry) -> None:
    """Registries delete a manifest with all its tags: one that this run is not about is not taken along."""
    run, digest = pushed(home, policy(backup=False, delete=True), "v7")
    home.tags[f"{NAME}:stable"] = digest
    assert kept_away(run) == Quarantined(
        digest=digest, deleted=("v7",), kept=f"{home.registry.host}/{NAME}:stable@{digest}"
    )
    assert (home.tags, list(home.manifests)) == ({f"{NAME}:stable": digest}, [f"{NAME}@{digest}"])


def test_parts_of_an_image_of_others_stay(home: MemoryRegistry) -> None:
    """Its platforms may be parts of other images."""
    run, digest = pushed(home, policy(backup=False, delete=True), "v7")
    with RegistryClient(home.registry) as client:
        child = push_platform(client, image_plan(DIGEST, "part"), seed="child")
    run.leave("assemble", run.left("assemble") | {"images": [{"digest": child, "platform": "linux/amd64"}]})
    del home.tags[f"{NAME}:part"]
    assert kept_away(run).deleted == ("v7", digest)
    assert list(home.manifests) == [f"{NAME}@{child}"]


@pytest.mark.parametrize("step", [QuarantineOperator, DeniedOperator])
def test_a_passed_image_is_not_touched(home: MemoryRegistry, step: Any) -> None:
    """Whoever makes the branch lead here: the verdict says that there is nothing to block."""
    run, _ = pushed(home, policy(backup=True, delete=True), "v7", passed=True)
    home.requests.clear()
    with pytest.raises(AirflowSkipException, match="passed the image"):
        run.do(step(task_id="x"))
    assert home.requests == []


@pytest.mark.parametrize("step", [QuarantineOperator, DeniedOperator])
def test_without_a_verdict_nothing_is_removed(home: MemoryRegistry, step: Any) -> None:
    """Nobody knows whether it is blocked."""
    run, _ = pushed(home, policy(backup=True, delete=True), "v7")
    run.xcoms.pop(("gate", -1, "return_value"))
    home.requests.clear()
    with pytest.raises(ConfigurationError, match="clear the task `gate`"):
        run.do(step(task_id="x"))
    assert home.requests == []


def test_a_denied_run_says_why() -> None:
    """The message names image, digest, clause, findings and what to do; trying again helps nobody."""
    run = Run(chain(), image_plan(DIGEST, "v7"))
    run.leave("gate", verdict(DIGEST, passed=False, deciding=(BAD,)))
    with pytest.raises(PolicyViolation) as caught:
        run.do(DeniedOperator(task_id="denied"))
    text = str(caught.value)
    wanted = [f"{NAME} v7", DIGEST, "blocked: 1 finding", "at or above high", "CVE-2026-1", "libc6", "2.37"]
    assert [part for part in wanted if part not in text] == []
    assert text.endswith("Fix the packages and push again, or change the chain's scan.block with a reason.")
    assert re.match("FAIL", ChainRetryPolicy().evaluate(caught.value, 1, 3).action.name)


def test_a_backup_under_a_taken_name_is_the_blocked_image(home: MemoryRegistry) -> None:
    """What the result names is this run's image, also where the name was another's before."""
    run, digest = blocked(home, policy(backup=True, delete=False))
    with RegistryClient(home.registry) as client:
        other = image_plan(DIGEST, BACKUP.rpartition(":")[2], namespace="shop-quarantine")
        assert push_platform(client, other, seed="other") == home.tags[BACKUP]
    kept_away(run)
    assert home.tags[BACKUP] == digest


def test_an_index_is_not_broken(home: MemoryRegistry) -> None:
    """A platform that an index of others has stays for it, also where the index itself was never judged."""
    run, digest = pushed(home, policy(backup=False, delete=True), "v2-amd64")
    with RegistryClient(home.registry) as client:
        arm = push_platform(client, image_plan(DIGEST, "v2-arm64"), "linux/arm64")
        children = [client.get_manifest(NAME, one).descriptor() for one in (digest, arm)]
        index = client.put_manifest(NAME, "v2", build_index(children), OCI_INDEX)
    kept = f"{home.registry.host}/{NAME}:v2@{index} (an index that has it)"
    assert kept_away(run) == Quarantined(digest=digest, deleted=("v2-amd64",), kept=kept)
    assert home.tags == {f"{NAME}:v2": index, f"{NAME}:v2-arm64": arm}
    assert {f"{NAME}@{one}" for one in (digest, arm, index)} == set(home.manifests)


def test_another_runs_staging_tag_holds_too(home: MemoryRegistry) -> None:
    """What another run has under its staging tag is not taken from under it."""
    run, digest = blocked(home, policy(backup=False, delete=True))
    home.tags[f"{NAME}:_staging-0123456789ab"] = digest
    found = kept_away(run)
    assert (digest in found.deleted, found.kept) == (
        False,
        f"{home.registry.host}/{NAME}:_staging-0123456789ab@{digest}",
    )


def test_what_can_not_be_looked_through_is_kept(
    home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows who else serves it: its tag goes, the manifest stays, and both are said."""
    monkeypatch.setattr(tag_holders, "MOST_TAGS", 2)
    run, digest = pushed(home, policy(backup=False, delete=True), "v7")
    with RegistryClient(home.registry) as client:
        for number in range(3):
            push_platform(client, image_plan(DIGEST, f"v{number}"), seed=str(number))
    found = kept_away(run)
    assert (found.deleted, f"{NAME}@{digest}" in home.manifests) == (("v7",), True)
    assert found.kept == (
        f"{home.registry.host}/{NAME}@{digest}, perhaps more, for not all of {NAME} was looked through: "
        "it has more than 2 tags"
    )


@pytest.mark.parametrize("make", ["built", "pushed"])
@pytest.mark.parametrize("held", [False, True])
def test_deletes_that_are_off_leave_everything(home: MemoryRegistry, make: str, *, held: bool) -> None:
    """The backup is made, nothing else is written, and the result says where the image is, though the task fails."""
    spec = policy(backup=True, delete=True)
    run, digest = blocked(home, spec) if make == "built" else pushed(home, spec, "v7")
    if held:
        home.tags[f"{NAME}:prod"] = digest
    home.deletes = home.deletes_tags = False
    before = dict(home.tags)
    with pytest.raises(DeletesDisabled, match="REGISTRY_STORAGE_DELETE_ENABLED=true"):
        kept_away(run)
    left = Quarantined.from_xcom(run.left("quarantine"))
    assert {tag: to for tag, to in home.tags.items() if not tag.startswith(SAFE)} == before
    assert (left.deleted, f":prod@{digest}" in left.kept) == ((), held)
    assert home.tags[left.backup.partition("/")[2]] == digest
    run.states = {"quarantine": "failed", "denied": "upstream_failed"}
    sentence = report_of(run).sentence
    assert f"; kept as {left.backup}" in sentence
    assert "; failed in quarantine: manifest " in sentence


@pytest.mark.parametrize("status", [400, 409, 412])
def test_registries_that_want_tags_gone_first(home: MemoryRegistry, status: int) -> None:
    """Some refuse a digest while a tag points at it: the tags go by their names, then the digest."""
    run, digest = pushed(home, policy(backup=False, delete=True), "v7")
    home.fail("DELETE", f"/v2/{NAME}/manifests/{digest}", status, times=1)
    assert kept_away(run) == Quarantined(digest=digest, deleted=("v7", digest))
    assert (home.tags, home.manifests) == ({}, {})


def test_a_registry_that_never_lets_go_of_a_digest(home: MemoryRegistry) -> None:
    """The tag is gone, and the image is said to be there still by its digest."""
    run, digest = pushed(home, policy(backup=False, delete=True), "v7")
    home.fail("DELETE", f"/v2/{NAME}/manifests/{digest}", 409)
    kept = f"{home.registry.host}/{NAME}@{digest}"
    assert kept_away(run) == Quarantined(digest=digest, deleted=("v7",), kept=kept)


def test_a_tag_that_moves_while_it_is_removed_stays(home: MemoryRegistry) -> None:
    """The fixed image is pushed between the look and the deletion: by digest, only the blocked one goes."""
    run, digest = pushed(home, policy(backup=False, delete=True), "v7")
    with RegistryClient(home.registry) as client:
        fixed = push_platform(client, image_plan(DIGEST, "fixed"), seed="fixed")

    def move() -> None:
        home.tags[f"{NAME}:v7"] = fixed

    home.on("DELETE", f"/v2/{NAME}/manifests/{digest}", move)
    assert kept_away(run) == Quarantined(digest=digest, deleted=(digest,))
    assert home.tags[f"{NAME}:v7"] == fixed


def test_without_a_result_nothing_is_claimed() -> None:
    """The task `quarantine` was marked by hand: `denied` says what it knows, and no more."""
    run = Run(chain(), image_plan(DIGEST, "v7"))
    run.leave("gate", verdict(DIGEST, passed=False))
    with pytest.raises(PolicyViolation, match=r"could be pulled, before it was judged.*left no result"):
        run.do(DeniedOperator(task_id="denied"))
