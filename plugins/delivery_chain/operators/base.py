"""What the steps of a chain share: leaving something for later steps, and reading what earlier ones left.

The plan holds the spec it was made from, so an edit of the spec never changes a run that is on its way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from delivery_chain.core.plan import Planned, made_for
from delivery_chain.core.results import Subject
from delivery_chain.core.seal import claimed_index, opened, sealed
from delivery_chain.core.steps import Step
from delivery_chain.core.value import Value
from delivery_chain.errors import ConfigurationError, SealBroken, Unjudged
from delivery_chain.operators.reasons import LeavesReason
from delivery_chain.operators.task_instance import place_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context

    from delivery_chain.core.plan import Plan
    from delivery_chain.core.seal import Place
    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.operators.task_instance import TaskInstance

V = TypeVar("V", bound=Value)


MOST_RUNS = 1000
"""Runs that one task may start at once: Airflow maps over no more than `[core] max_map_length`, 1024 by default."""


# In this order: Airflow takes a first base that is no operator for a constructor of its own, and its mapped tasks then
# have None in the place of lists.
class ChainOperator(BaseOperator, LeavesReason):
    """A step of a chain."""

    ui_color = "#eef4fb"


def names_in_scope(client: RegistryClient, spec: ChainSpec) -> tuple[str, ...]:
    """The repositories that a chain covers, as `namespace/repository`; for a whole namespace the registry is asked."""
    namespace = spec.scope.namespace
    repositories: Iterable[str] = spec.scope.repositories
    if spec.scope.all:
        listed = client.list_repositories(f"{namespace}/")
        repositories = [name.removeprefix(f"{namespace}/") for name in listed]
    return tuple(f"{namespace}/{repository}" for repository in repositories if spec.scope.covers(repository))


def skip(reason: str) -> AirflowSkipException:
    """The exception that ends a task as skipped, with its reason in the log."""
    return AirflowSkipException(reason)


def leave(context: Context, value: Value) -> dict[str, Any]:
    """What a step returns for the steps after it: the value with the proof that this task instance left it."""
    return sealed(value.to_xcom(), place_of(context["ti"]), _secret())


def _secret() -> str:
    # Not at the top: a parse of a Dag file imports this module, and asks for no Variable.
    from delivery_chain.hooks.signing_secret import signing_secret

    return signing_secret()


def pull(ti: TaskInstance, task_id: str, model: type[V], *, map_index: int | None = None) -> V | None:
    """What a task of this run returned, or None where it returned nothing.

    Raises:
        SealBroken: What is there was not left by that task. Not retryable.
    """
    data = ti.xcom_pull(task_ids=task_id, map_indexes=-1 if map_index is None else map_index)
    return None if data is None else _open(data, place_of(ti, task_id, map_index), model)


def pull_all(ti: TaskInstance, task_id: str, model: type[V]) -> tuple[V, ...]:
    """What the instances of a mapped task returned, in their order, skipped and failed ones left out.

    Raises:
        SealBroken: One was not left by that task, or is there twice. Not retryable.
    """
    found = [item for item in ti.xcom_pull(task_ids=[task_id]) or () if item is not None]
    by_index = {claimed_index(item): item for item in found}
    if len(by_index) < len(found):
        raise SealBroken(
            f"what the task `{task_id}` left in run {ti.run_id!r} is there twice, so it was copied over Airflow's REST "
            f"API or in its database. Clear the task `{task_id}` and all that follow it, so that it is made again"
        )
    return tuple(_open(by_index[index], place_of(ti, task_id, index), model) for index in sorted(by_index))


def _open(data: Any, place: Place, model: type[V]) -> V:
    return model.from_xcom(opened(data, place, _secret()))


def planned(ti: TaskInstance) -> tuple[Plan, ChainSpec]:
    """The run's plan and the spec it was made from.

    Raises:
        ConfigurationError: plan left nothing, because it was marked by hand, or its XCom was removed.
        SealBroken: What is there was not left by that task. Not retryable.
    """
    found = pull(ti, Step.PLAN, Planned)
    if found is None:
        raise ConfigurationError("this run has no plan: clear the task `plan`, so that it runs again")
    return found.plan, found.spec


def subject_of(ti: TaskInstance) -> Subject:
    """The digest that the run is about.

    Raises:
        ConfigurationError: assemble left nothing.
        Unjudged: What it left was made for another plan than the run has now. Not retryable.
        SealBroken: What is there was not left by that task. Not retryable.
    """
    subject = pull(ti, Step.ASSEMBLE, Subject)
    if subject is None:
        raise ConfigurationError(
            "this run has no image yet: clear the task `assemble`, so that it runs again"
        )
    if subject.plan != made_for(*planned(ti)):
        raise Unjudged(
            "the run's plan was made again since its image was: clear `build`, `assemble` and all that follow them"
        )
    return subject
