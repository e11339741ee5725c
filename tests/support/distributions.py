"""A trigger that is fired in front of a real target."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from delivery_chain.core.results import DeliveryResult
from delivery_chain.operators.distribute import DistributeOperator
from delivery_chain.operators.publish import PublishOperator
from delivery_chain.operators.replicate import ReplicateOperator
from support.chain_steps import Run, build_plan, chain, judged

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry
    from support.webhook_target import Target


SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
OTHER = "sha256:" + "9" * 64
PROD = {"name": "prod", "url_connection": "prod_hook"}
SPEC = chain(
    replicate=[{"name": "to-west", "to": "west"}, {"name": "betas", "to": "west", "tags": "beta.*"}],
    distribute=[
        PROD,
        {**PROD, "name": "releases", "on": {"regexp": "v.*"}},
        {**PROD, "name": "edge", "on": {"tags": ["edge"]}},
        {**PROD, "name": "at-once", "after": []},
        {**PROD, "name": "redeploy", "method": "GET", "after": []},
    ],
)


def published(home: MemoryRegistry, spec: Any = SPEC, **fields: Any) -> tuple[Run, str]:
    run, digest = judged(home.registry, spec, build_plan(**fields))
    run.do(PublishOperator(task_id="publish"))
    return run, digest


def everywhere(home: MemoryRegistry, **fields: Any) -> tuple[Run, str]:
    run, digest = published(home, **fields)
    run.do(ReplicateOperator(task_id="replicate", slot=0), 0)
    return run, digest


def fire(run: Run, trigger: str = "prod") -> DeliveryResult:
    slot = [one.name for one in run.spec.distribute].index(trigger)
    return DeliveryResult.from_xcom(run.do(DistributeOperator(task_id="distribute", slot=slot), slot))


def fired(run: Run, target: Target) -> list[bytes]:
    fire(run)
    return [got.body for got in target.got]
