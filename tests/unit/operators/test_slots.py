"""The plan determines the item of a mapped step's instance, even if the spec has changed since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowSkipException

from delivery_chain.operators.build import BuildOperator
from delivery_chain.operators.distribute import DistributeOperator
from delivery_chain.operators.plan import PlanOperator
from delivery_chain.operators.replicate import ReplicateOperator
from delivery_chain.operators.scan import ScanOperator
from support.chain_steps import Run, both_platforms, build_plan, verdict

if TYPE_CHECKING:
    from delivery_chain.operators.slots import SlotOperator

SPEC = both_platforms(
    replicate=[{"name": "to-west", "to": "west"}, {"name": "to-east", "to": "east"}],
    distribute=[{"name": "prod", "url_connection": "prod_hook"}],
)
STEPS: dict[str, type[SlotOperator]] = {
    "build": BuildOperator,
    "scan": ScanOperator,
    "replicate": ReplicateOperator,
    "distribute": DistributeOperator,
}


def step(name: str, slot: int) -> Any:
    return STEPS[name](task_id=name, slot=slot)


@pytest.mark.parametrize(
    ("name", "slot", "label"),
    [
        ("build", 1, "linux/arm64"),
        ("scan", 2, "other platforms"),
        ("replicate", 1, "to-east"),
        ("distribute", 0, "prod"),
        ("distribute", 1, ""),
    ],
)
def test_an_instance_is_named_by_the_plan(name: str, slot: int, label: str) -> None:
    """Before it runs too; one that the plan has nothing for has no name."""
    run = Run(SPEC, build_plan())
    assert step(name, slot).about(run.context(name, slot)["ti"]) == label


def test_without_a_plan_an_instance_has_no_name() -> None:
    """What is raised where Airflow renders it would hide why the step failed."""
    assert step("build", 0).about(Run(SPEC).context("build", 0)["ti"]) == ""


def test_without_a_plan_an_instance_is_named_by_the_dag() -> None:
    """As a run whose `plan` failed: its triggers are skipped, and keep their names."""
    with DAG("shop", schedule=None):
        PlanOperator(task_id="plan", spec=SPEC)
        trigger = step("distribute", 0)
    assert trigger.about(Run(SPEC).context("distribute", 0)["ti"]) == "prod"


@pytest.mark.parametrize("name", STEPS)
def test_an_instance_more_than_the_plan_has_is_skipped(name: str) -> None:
    """A rule was added since: the run ends by what it was planned with."""
    run = Run(SPEC, build_plan())
    run.leave("gate", verdict("sha256:" + "1" * 64))
    with pytest.raises(AirflowSkipException, match=r"this run was planned with \d "):
        run.do(step(name, 4), 4)
