"""What the steps of a run left, as Airflow's database has it: each value proven, or named as changed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.models.xcom import XComModel
from sqlalchemy import Text, cast, or_, select

from delivery_chain.airflow_db.signing_secret import stored_secret
from delivery_chain.core.seal import Place, is_sealed, unproven
from delivery_chain.core.steps import STEPS, Step
from delivery_chain.core.value import Value
from delivery_chain.core.xcom_keys import REASON, RETURNED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Session

V = TypeVar("V", bound=Value)


@dataclass(frozen=True, slots=True)
class Left:
    """The XComs of one run's steps."""

    values: Mapping[str, list[dict[str, Any]]]
    """By task id, in the order of the map indexes; those alone that carry their proof."""
    reasons: Mapping[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    """Why a task ended without a result, and the error's name: by task id and map index."""
    altered: tuple[str, ...] = ()
    """Tasks whose value is not what they left, as `gate` or `scan[1]`."""

    def one(self, task: str, model: type[V]) -> V | None:
        """What a task left; None where it left nothing, or what is there is not proven."""
        return next(iter(self.all(task, model)), None)

    def all(self, task: str, model: type[V]) -> tuple[V, ...]:
        """What the instances of a mapped task left."""
        return tuple(model.from_xcom(value) for value in self.values.get(task, ()))


def left_in(connection: Session | Connection, dag_id: str, run_id: str) -> Left:
    """What a run's steps left."""
    values: dict[str, list[dict[str, Any]]] = {}
    reasons: dict[tuple[str, int], tuple[str, str]] = {}
    altered: list[str] = []
    wanted = (XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.task_id.in_(STEPS))
    for place, value in _proven(connection, *wanted, keys=(RETURNED, REASON)):
        if place.key == REASON:
            # One that is not proven says nothing; it is no result on which anything rests.
            said = value or {}
            reasons[place.task_id, place.map_index] = str(said.get("reason", "")), str(said.get("error", ""))
        elif value is None:
            altered.append(str(place))
        else:
            values.setdefault(place.task_id, []).append(value)
    return Left(values, reasons, tuple(altered))


def left_of_image(session: Session, asked: Iterable[Any], digest: str) -> list[dict[str, dict[str, Any]]]:
    """What `plan` and `assemble` left in the runs that are about an image, proven values alone: by task id.

    Args:
        session: Of Airflow's database.
        asked: Selects of ids of `DagRun`, of some of the runs.
        digest: The image's.
    """
    model = XComModel
    # The database finds the few of a thousand values that name the digest; what they say counts only as it is proven.
    about = select(model.dag_run_id).where(
        or_(*(model.dag_run_id.in_(ids.subquery().select()) for ids in asked)),
        model.task_id == Step.ASSEMBLE,
        model.key == RETURNED,
        cast(model.value, Text).contains(digest, autoescape=True),
    )
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    wanted = (
        model.dag_run_id.in_(session.scalars(about).all()),
        model.task_id.in_((Step.PLAN, Step.ASSEMBLE)),
    )
    for place, value in _proven(session, *wanted):
        if value is not None:
            found.setdefault((place.dag_id, place.run_id), {})[place.task_id] = value
    return list(found.values())


def _proven(
    connection: Session | Connection, *conditions: Any, keys: tuple[str, ...] = (RETURNED,)
) -> Iterator[tuple[Place, dict[str, Any] | None]]:
    """Each value under these keys, and where; None in the place of one that is not what its task left."""
    model = XComModel
    columns = (model.dag_id, model.run_id, model.task_id, model.map_index, model.key, model.value)
    wanted = select(*columns).where(model.key.in_(keys), *conditions)
    rows = connection.execute(wanted.order_by(model.task_id, model.map_index)).all()
    secret = stored_secret(connection) if rows else ""
    for *where, kept in rows:
        place, value = Place(*where), _json(kept)
        yield place, unproven(value) if secret and is_sealed(value, place, secret) else None


def _json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return None
