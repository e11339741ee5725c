"""Reads the XComs of a run's steps from Airflow's database: each value is either proven, or reported as changed."""

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
    """Proven values by task id, ordered by map index."""
    reasons: Mapping[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    """Reason and error name of each task without a result, by task id and map index."""
    altered: tuple[str, ...] = ()
    """Tasks whose value was changed, as `gate` or `scan[1]`."""

    def one(self, task: str, model: type[V]) -> V | None:
        """The value of a task; None if absent or not proven."""
        return next(iter(self.all(task, model)), None)

    def all(self, task: str, model: type[V]) -> tuple[V, ...]:
        """The values of a mapped task's instances."""
        return tuple(model.from_xcom(value) for value in self.values.get(task, ()))


def left_in(connection: Session | Connection, dag_id: str, run_id: str) -> Left:
    """Read the XComs of a run's steps."""
    values: dict[str, list[dict[str, Any]]] = {}
    reasons: dict[tuple[str, int], tuple[str, str]] = {}
    altered: list[str] = []
    wanted = (XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.task_id.in_(STEPS))
    for place, value in _proven(connection, *wanted, keys=(RETURNED, REASON)):
        if place.key == REASON:
            # Unproven reasons are ignored; no decision depends on them.
            said = value or {}
            reasons[place.task_id, place.map_index] = str(said.get("reason", "")), str(said.get("error", ""))
        elif value is None:
            altered.append(str(place))
        else:
            values.setdefault(place.task_id, []).append(value)
    return Left(values, reasons, tuple(altered))


def left_of_image(session: Session, asked: Iterable[Any], digest: str) -> list[dict[str, dict[str, Any]]]:
    """Read the proven values of `plan` and `assemble` in the runs about an image, by task id.

    Args:
        session: Session of Airflow's database.
        asked: Select statements of `DagRun` ids; only these runs are read.
        digest: Digest of the image.
    """
    model = XComModel
    # Let the database find the few among thousands of values that contain the digest. Only proven ones count.
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
    """Yield each value under these keys and its location, with None for an unproven value."""
    model = XComModel
    columns = (model.dag_id, model.run_id, model.task_id, model.map_index, model.key, model.value)
    wanted = select(*columns).where(model.key.in_(keys), *conditions)
    rows = connection.execute(wanted.order_by(model.task_id, model.map_index)).all()
    secret = stored_secret(connection) if rows else ""
    for *where, kept in rows:
        place, value = Place(*where), decoded(kept)
        yield place, unproven(value) if secret and is_sealed(value, place, secret) else None


def decoded(value: Any) -> Any:
    """Decode an XCom's JSON; None if malformed: a user who may edit the Dag can store anything there."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None
