"""Base class and helpers of all steps: leave results for later steps, and read those of earlier ones.

The plan contains the spec that it was made from, so editing the spec never changes a run in flight.
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
"""Maximum number of runs that one task starts: Airflow maps over at most `[core] max_map_length`, 1024 by default."""


# The order of the bases matters: if the first one isn't an operator, Airflow takes its `__init__` for the operator's
# own, and mapped tasks then get None instead of lists.
class ChainOperator(BaseOperator, LeavesReason):
    """A step of a chain."""

    ui_color = "#eef4fb"


def names_in_scope(client: RegistryClient, spec: ChainSpec) -> tuple[str, ...]:
    """Return the repositories that a chain covers, as `namespace/repository`; a whole namespace takes a query."""
    namespace = spec.scope.namespace
    repositories: Iterable[str] = spec.scope.repositories
    if spec.scope.all:
        listed = client.list_repositories(f"{namespace}/")
        repositories = [name.removeprefix(f"{namespace}/") for name in listed]
    return tuple(f"{namespace}/{repository}" for repository in repositories if spec.scope.covers(repository))


def skip(reason: str) -> AirflowSkipException:
    """Return the exception that marks a task as skipped and logs the reason."""
    return AirflowSkipException(reason)


def leave(context: Context, value: Value) -> dict[str, Any]:
    """Seal a value as the return value of this task instance, so that later steps can prove where it came from."""
    return sealed(value.to_xcom(), place_of(context["ti"]), _secret())


def _secret() -> str:
    # Imported late, because parsing a Dag file imports this module but needs no Variable.
    from delivery_chain.hooks.signing_secret import signing_secret

    return signing_secret()


def pull(ti: TaskInstance, task_id: str, model: type[V], *, map_index: int | None = None) -> V | None:
    """Return what a task of this run returned, or None if it returned nothing.

    Raises:
        SealBroken: The value was not left by that task. Not retryable.
    """
    data = ti.xcom_pull(task_ids=task_id, map_indexes=-1 if map_index is None else map_index)
    return None if data is None else _open(data, place_of(ti, task_id, map_index), model)


def pull_all(ti: TaskInstance, task_id: str, model: type[V]) -> tuple[V, ...]:
    """Return what the instances of a mapped task returned, in order, omitting skipped and failed ones.

    Raises:
        SealBroken: A value was not left by that task, or is present twice. Not retryable.
    """
    found = [item for item in ti.xcom_pull(task_ids=[task_id]) or () if item is not None]
    by_index = {claimed_index(item): item for item in found}
    if len(by_index) < len(found):
        raise SealBroken(
            f"what the task `{task_id}` left in run {ti.run_id!r} is present twice, so it was copied through Airflow's "
            f"REST API or in its database: clear `{task_id}` and everything downstream, so that it is produced again"
        )
    return tuple(_open(by_index[index], place_of(ti, task_id, index), model) for index in sorted(by_index))


def _open(data: Any, place: Place, model: type[V]) -> V:
    return model.from_xcom(opened(data, place, _secret()))


def planned(ti: TaskInstance) -> tuple[Plan, ChainSpec]:
    """Return the run's plan and the spec that it was made from.

    Raises:
        ConfigurationError: `plan` left no result: its state was set by hand, or its XCom was removed.
        SealBroken: The value was not left by `plan`. Not retryable.
    """
    found = pull(ti, Step.PLAN, Planned)
    if found is None:
        raise ConfigurationError("this run has no plan: clear the task `plan`, so that it runs again")
    return found.plan, found.spec


def subject_of(ti: TaskInstance) -> Subject:
    """Return the image that the run is about.

    Raises:
        ConfigurationError: `assemble` left no result.
        Unjudged: The image was assembled for an earlier plan of the run. Not retryable.
        SealBroken: The value was not left by `assemble`. Not retryable.
    """
    subject = pull(ti, Step.ASSEMBLE, Subject)
    if subject is None:
        raise ConfigurationError(
            "this run has no image yet: clear the task `assemble`, so that it runs again"
        )
    if subject.plan != made_for(*planned(ti)):
        raise Unjudged(
            "the run was planned again after its image was made: clear `build`, `assemble` and everything downstream"
        )
    return subject
