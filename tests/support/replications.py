"""Runs up to and including their replication."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from delivery_chain.core.results import RegionResult
from delivery_chain.errors import DeliveryChainError
from delivery_chain.oci.client import RegistryClient
from delivery_chain.operators.build import AssembleOperator
from delivery_chain.operators.publish import PublishOperator
from delivery_chain.operators.replicate import ReplicateOperator
from support.chain_steps import DAY, NAME, Run, build_plan, chain, image_plan, judged, push_platform, verdict

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry

SPEC = chain(replicate=[{"name": "to-west", "to": "west"}, {"name": "releases", "to": "west", "tags": "v.*"}])
OTHER = "sha256:" + "9" * 64
LATER = DAY + timedelta(minutes=1)


def published(home: MemoryRegistry, run_id: str = "r1", spec: Any = SPEC, **fields: Any) -> tuple[Run, str]:
    run, digest = judged(home.registry, spec, build_plan(run_id=run_id, **fields), seed=run_id)
    run.do(PublishOperator(task_id="publish"))
    return run, digest


def pushed(home: MemoryRegistry, tag: str) -> Run:
    """A run for an image that was pushed by others, after its gate."""
    with RegistryClient(home.registry) as client:
        digest = push_platform(client, image_plan(OTHER, tag), seed="pushed")
    run = Run(SPEC, image_plan(digest, tag, run_id="pushed"))
    run.do(AssembleOperator(task_id="assemble"))
    run.leave("gate", verdict(digest))
    run.do(PublishOperator(task_id="publish"))
    return run


def copied(run: Run, rule: str = "to-west") -> RegionResult:
    slot = [one.name for one in run.spec.replicate].index(rule)
    return RegionResult.from_xcom(run.do(ReplicateOperator(task_id="replicate", slot=slot), slot))


def until_done(run: Run, tries: int = 4) -> RegionResult:
    """Retry as Airflow does, after errors that say that a retry may help."""
    for _ in range(tries):
        try:
            return copied(run)
        except DeliveryChainError as error:
            if not error.retryable:
                raise
    raise AssertionError(f"not done after {tries} tries")


def put(held: MemoryRegistry, tag: str, digest: str) -> None:
    held.tags[f"{NAME}:{tag}"] = digest
