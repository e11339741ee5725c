"""Runs whose image was blocked, and their quarantine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery_chain.core.gate.findings import Finding, Severity
from delivery_chain.core.results import Quarantined
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.referrers import attach
from delivery_chain.operators.quarantine import QuarantineOperator
from support.chain_steps import (
    NAME,
    Run,
    build_plan,
    chain,
    image_plan,
    judged,
    push_platform,
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
    """A blocked image that was pushed by others."""
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
