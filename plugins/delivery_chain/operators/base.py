"""What the steps of a chain share: reading what earlier steps left, and the one question nobody may skip.

The plan holds the spec it was made from, so an edit of the spec never changes a run that is on its way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from delivery_chain.core.gate import Verdict
from delivery_chain.core.plan import Plan
from delivery_chain.core.reference import short_digest
from delivery_chain.core.results import Subject
from delivery_chain.core.spec import ChainSpec
from delivery_chain.core.value import Value
from delivery_chain.errors import ConfigurationError, Unjudged

if TYPE_CHECKING:
    from collections.abc import Iterable

V = TypeVar("V", bound=Value)


MOST_RUNS = 1000
"""Runs that one task may start at once: Airflow maps over no more than `[core] max_map_length`, 1024 by default."""


REASON = "reason"
"""XCom key under which `plan` leaves why it made no plan, for the run's note."""


class ChainOperator(BaseOperator):
    """A step of a chain."""

    ui_color = "#eef4fb"


def names_in_scope(client: Any, spec: ChainSpec) -> tuple[str, ...]:
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


def pull(ti: Any, task_id: str, model: type[V], *, map_index: int | None = None) -> V | None:
    """What a task of this run returned, or None where it returned nothing."""
    data = ti.xcom_pull(task_ids=task_id, map_indexes=-1 if map_index is None else map_index)
    return None if data is None else model.from_xcom(data)


def pull_all(ti: Any, task_id: str, model: type[V]) -> tuple[V, ...]:
    """What the instances of a mapped task returned, skipped and failed ones left out."""
    data = ti.xcom_pull(task_ids=[task_id])
    return tuple(model.from_xcom(item) for item in data or () if item is not None)


def planned(ti: Any) -> tuple[Plan, ChainSpec]:
    """The run's plan and the spec it was made from.

    Raises:
        ConfigurationError: plan left nothing, because it was marked by hand, or its XCom was removed.
    """
    data = ti.xcom_pull(task_ids="plan", map_indexes=-1)
    if not data:
        raise ConfigurationError("this run has no plan: clear the task `plan`, so that it runs again")
    return Plan.from_xcom(data["plan"]), ChainSpec.from_xcom(data["spec"])


def subject_of(ti: Any) -> Subject:
    """The digest that the run is about.

    Raises:
        ConfigurationError: assemble left nothing.
    """
    subject = pull(ti, "assemble", Subject)
    if subject is None:
        raise ConfigurationError(
            "this run has no image yet: clear the task `assemble`, so that it runs again"
        )
    return subject


def passed(ti: Any) -> tuple[Plan, ChainSpec, Subject, Verdict]:
    """Plan, spec, image and verdict of a run whose gate passed exactly this image.

    The states of tasks are not asked: a person may have changed them.

    Raises:
        Unjudged: There is no verdict, it is about another digest, or it is not a pass.
    """
    plan, spec = planned(ti)
    subject = subject_of(ti)
    verdict = pull(ti, "gate", Verdict)
    shown = short_digest(subject.digest)
    if verdict is None:
        raise Unjudged(f"no gate of this run judged {shown}, so it is not let out: clear the task `gate`")
    if verdict.digest != subject.digest:
        raise Unjudged(
            f"the gate judged {short_digest(verdict.digest)}, this run's image is {shown} now: clear `scan` and `gate`"
        )
    if not verdict.passed:
        raise Unjudged(f"the gate refused {shown}: {verdict.sentence}")
    return plan, spec, subject, verdict
