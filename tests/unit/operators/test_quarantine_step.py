"""The effect of a blocking rule on an image: removed, backed up or kept, and the same again after a kill."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from delivery_chain.core.gate.findings import REPORT_TYPE
from delivery_chain.core.results import Quarantined
from delivery_chain.errors import ConfigurationError, DeliveryChainError, PolicyViolation
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.referrers import list_referrers
from delivery_chain.operators.quarantine import DeniedOperator, QuarantineOperator
from delivery_chain.retry import ChainRetryPolicy
from support.chain_steps import (
    NAME,
    Run,
    build_plan,
    chain,
    image_plan,
    push_platform,
    verdict,
)
from support.quarantines import BACKUP, BAD, DIGEST, REPORT, SAFE, blocked, digests, kept_away, policy, pushed

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry


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
        with home.dying(cut, lost_answer=lost_answer), pytest.raises(DeliveryChainError):
            kept_away(run)
        assert f"{NAME}@{digest}" in home.manifests or home.tags[BACKUP] == digest
        ends.append((kept_away(run), (dict(home.tags), set(home.manifests))))
    assert count > 20
    assert ended == (
        {BACKUP: digest} | {key: home.tags[key] for key in home.tags if "sha256-" in key},
        ended[1],
    )
    assert ends == [(wanted, ended)] * count


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
    """The message names image, digest, clause, findings and the next step; it is not retryable."""
    run = Run(chain(), image_plan(DIGEST, "v7"))
    run.leave("gate", verdict(DIGEST, passed=False, deciding=(BAD,)))
    with pytest.raises(PolicyViolation) as caught:
        run.do(DeniedOperator(task_id="denied"))
    text = str(caught.value)
    wanted = [f"{NAME} v7", DIGEST, "blocked: 1 finding", "at or above high", "CVE-2026-1", "libc6", "2.37"]
    assert [part for part in wanted if part not in text] == []
    assert text.endswith("Fix the packages and push again, or change the chain's scan.block.")
    assert re.match("FAIL", ChainRetryPolicy().evaluate(caught.value, 1, 3).action.name)


def test_a_backup_under_a_taken_name_is_the_blocked_image(home: MemoryRegistry) -> None:
    """What the result names is this run's image, also where the name was another's before."""
    run, digest = blocked(home, policy(backup=True, delete=False))
    with RegistryClient(home.registry) as client:
        other = image_plan(DIGEST, BACKUP.rpartition(":")[2], namespace="shop-quarantine")
        assert push_platform(client, other, seed="other") == home.tags[BACKUP]
    kept_away(run)
    assert home.tags[BACKUP] == digest


def test_without_a_result_nothing_is_claimed() -> None:
    """The task `quarantine` was marked by hand: `denied` says what it knows, and no more."""
    run = Run(chain(), image_plan(DIGEST, "v7"))
    run.leave("gate", verdict(DIGEST, passed=False))
    with pytest.raises(PolicyViolation, match=r"could be pulled, before it was judged.*left no result"):
        run.do(DeniedOperator(task_id="denied"))
