# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run it pay for that
"""An Airflow database with chains, with the plugin's receiver in front; tests send signed webhooks to it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Self

import httpx

from delivery_chain.core.events.event import Event
from delivery_chain.core.events.ledger import Entry
from delivery_chain.core.spec.in_force import INDEX, Kept, State, fingerprint, kept_key
from delivery_chain.core.spec.in_force import Entry as Version
from delivery_chain.core.spec.in_force import Index as InForce
from delivery_chain.core.spec.model import ChainSpec
from delivery_chain.core.spec.slots import widths
from support.webhook_samples import standard_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    import pytest

    from delivery_chain.core.spec.standing import Standing

PREFIX = "/delivery-chain/webhooks"
SECRET = "the-secret-of-these-tests-0123456789"
OTHER_SECRET = "another-secret-of-these-tests-0123456789"
BUNDLE = "tests"
GIT_HOST = "https://git.example.com/shop"
MAIN = "refs/heads/main"
A, B, C, D = (letter * 40 for letter in "abcd")
DIGEST, OTHER_DIGEST = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


def commit(number: int) -> str:
    """A commit id for each number."""
    return f"{number:040x}"


def spec(name: str = "shop", **sections: Any) -> ChainSpec:
    """A chain that builds `api` from `git_shop`'s api.git (branch main, tags v1, …); given sections replace these."""
    body: dict[str, Any] = {
        "version": 1,
        "name": name,
        "scope": {"instance": "home", "namespace": name, "repositories": ["api"]},
        "sources": {"api": {"connection": "git_shop", "url": "api.git"}},
        "build": {
            "rules": [
                {"name": "main", "branch": "main", "tags": [{"tag": "edge"}]},
                {"name": "release", "tag": r"v(?<n>\d+)", "tags": [{"tag": "v${n}"}]},
            ],
            "timezone": "UTC",
        },
        **sections,
    }
    return ChainSpec.model_validate({key: value for key, value in body.items() if value is not None})


def images(name: str = "base", **sections: Any) -> ChainSpec:
    """A chain that takes all images of its namespace, and builds none."""
    scope = {"instance": "home", "namespace": name, "all": True}
    return ChainSpec.model_validate({"version": 1, "name": name, "scope": scope} | sections)


@dataclass(frozen=True, slots=True)
class Sent:
    """The response to a delivery."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(compare=False, default_factory=dict)

    @property
    def entries(self) -> list[Entry]:
        """The changes listed in the response."""
        return [Entry.model_validate(one) for one in self.body["changes"]]

    @property
    def sentences(self) -> list[str]:
        """The changes as sentences."""
        return [entry.sentence for entry in self.entries]

    @property
    def run_ids(self) -> list[str]:
        """The ids of the runs that the response names."""
        return [outcome.run_id for entry in self.entries for outcome in entry.outcomes if outcome.run_id]

    @property
    def made(self) -> list[str]:
        """The ids of the runs that this delivery started."""
        return [one.run_id for entry in self.entries for one in entry.outcomes if one.made]


@dataclass(slots=True)
class Receiver:
    """The plugin's receiver in one server process, called over ASGI."""

    app: Any
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def __enter__(self) -> Self:
        self.runner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.runner.__exit__(*error)  # type: ignore[arg-type]

    def run(self, call: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
        """Call a function with a client."""

        async def go() -> Any:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
                return await call(client)

        return self.runner.run(go())

    def request(
        self,
        method: str,
        path: str,
        *,
        content: Any = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Sent:
        """Send one request."""

        async def go(client: httpx.AsyncClient) -> Sent:
            return await _send(client, method, path, content, headers or {})

        return self.run(go)

    def post(self, conn_id: str, body: bytes, headers: Mapping[str, str]) -> Sent:
        """Send one delivery as it is."""
        return self.request("POST", f"{PREFIX}/{conn_id}", content=body, headers=headers)

    def all(self, deliveries: Iterable[tuple[str, bytes, Mapping[str, str]]]) -> list[Sent]:
        """Send many deliveries concurrently: connection, body and headers of each."""

        async def go(client: httpx.AsyncClient) -> list[Sent]:
            calls = [
                _send(client, "POST", f"{PREFIX}/{conn_id}", body, headers)
                for conn_id, body, headers in deliveries
            ]
            return await asyncio.gather(*calls)

        return self.run(go)

    def deliver(
        self,
        said: Mapping[str, Any],
        *,
        delivery: str = "",
        conn_id: str = "hook",
        secret: str = SECRET,
    ) -> Sent:
        """Send one delivery in our own format, signed now; with a new id unless one is given."""
        return self.post(*signed(said, delivery=delivery, conn_id=conn_id, secret=secret))

    def push(
        self, ref: str, before: str | None, after: str, *, repository: str = "shop/api", **how: Any
    ) -> Sent:
        """Report one ref that moved."""
        return self.deliver(moved((ref, before, after), repository=repository), **how)


def signed(
    said: Mapping[str, Any], *, delivery: str = "", conn_id: str = "hook", secret: str = SECRET
) -> tuple[str, bytes, dict[str, str]]:
    """Connection, body and headers of a delivery in our own format."""
    body = json.dumps(said).encode()
    event_id, stamp = delivery or token_hex(8), str(int(time.time()))
    signature = standard_of(event_id, body, key=secret.encode(), stamp=stamp)
    return (
        conn_id,
        body,
        {"webhook-id": event_id, "webhook-timestamp": stamp, "webhook-signature": signature},
    )


def moved(*moves: tuple[str, str | None, str], repository: str = "shop/api", **more: Any) -> dict[str, Any]:
    """A payload in our own format: each ref with its old and new commit."""
    pushes = [
        {"ref": ref, "after": after} | ({} if before is None else {"before": before})
        for ref, before, after in moves
    ]
    return {"type": "source.push", "repository": repository, "pushes": pushes} | more


def pushed(*named: tuple[str, str, str]) -> dict[str, Any]:
    """A payload in our own format: each image's name, tag and digest."""
    found = [
        {key: value for key, value in zip(("name", "tag", "digest"), one, strict=True) if value}
        for one in named
    ]
    return {"type": "image.push", "images": found}


async def _send(
    client: httpx.AsyncClient, method: str, path: str, content: Any, headers: Mapping[str, str]
) -> Sent:
    answer = await client.request(method, path, content=content, headers=dict(headers))
    try:
        body = answer.json()
    except ValueError:
        body = answer.text
    return Sent(answer.status_code, body, dict(answer.headers))


def connect(monkeypatch: pytest.MonkeyPatch, conn_id: str = "hook", **changes: Any) -> None:
    """Define the connection of a sender for the git server and the registry of these tests."""
    extra = {"sender": "standard", "speaks_for": "git_shop home", "per_minute": 100_000}
    more = changes.pop("extra", {})
    fields = {"conn_type": "webhook_sender", "password": SECRET, "extra": extra | more} | changes
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


def connect_git(monkeypatch: pytest.MonkeyPatch, conn_id: str = "git_shop", host: str = GIT_HOST) -> None:
    """Define the connection of a git server."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({"conn_type": "git", "host": host}))


def make_receiver() -> Receiver:
    """The plugin's own receiver, where Airflow mounts it, with empty caches."""
    from starlette.applications import Starlette

    from delivery_chain import web

    web._receiver.cache_clear()
    app = Starlette()
    app.mount(PREFIX, web.webhooks)
    return Receiver(app)


@dataclass(slots=True)
class Stored:
    """The contents of Airflow's database."""

    kind: str
    """`sqlite` or `postgresql`."""
    url: str = field(repr=False)

    def add(self, *specs: ChainSpec, standing: Standing | None = None) -> None:
        """Store chains as the Dag processor does: a row, and a new serialized version if something changed."""
        from delivery_chain.dag_files.factory import make_chain_dag

        self.add_dags(*(make_chain_dag(one, standing=standing) for one in specs))

    def add_dags(self, *dags: Any) -> None:
        """Store any Dags in the same way."""
        from airflow.models.dagbundle import DagBundleModel
        from airflow.models.serialized_dag import SerializedDagModel
        from airflow.serialization.definitions.dag import SerializedDAG
        from airflow.serialization.serialized_objects import LazyDeserializedDAG
        from airflow.utils.session import create_session

        with create_session() as session:
            if session.get(DagBundleModel, BUNDLE) is None:
                session.add(DagBundleModel(name=BUNDLE))
                session.flush()
            lazy = [LazyDeserializedDAG.from_dag(one) for one in dags]
            SerializedDAG.bulk_write_to_db(BUNDLE, None, lazy, session=session)
            for dag in lazy:
                SerializedDagModel.write_dag(dag, bundle_name=BUNDLE, session=session)
            session.flush()
        self.mark(*(one.dag_id for one in dags), is_paused=False)

    def put_in_force(self, *specs: ChainSpec, state: State = State.CURRENT) -> None:
        """Store the versions of chains as the Dag processor does before it stores their Dags."""
        from airflow.models.variable import Variable
        from airflow.utils.session import create_session

        chains = {
            one.name: Version(
                number=1,
                fingerprint=fingerprint(one),
                file=f"{one.name}.yaml",
                slots=widths(one),
                state=state,
            )
            for one in specs
        }
        with create_session() as session:
            for one in specs:
                kept = Kept.of(one, chains[one.name]).model_dump_json(exclude_defaults=True)
                Variable.set(kept_key(one.name), kept, session=session)
            Variable.set(
                INDEX, InForce(chains=chains).model_dump_json(exclude_defaults=True), session=session
            )

    def mark(self, *dag_ids: str, **values: Any) -> None:
        """Set columns of Dags: is_paused, is_stale, has_import_errors."""
        from airflow.models.dag import DagModel
        from airflow.utils.session import create_session
        from sqlalchemy import update

        with create_session() as session:
            session.execute(update(DagModel).where(DagModel.dag_id.in_(dag_ids)).values(**values))

    def clear(self) -> None:
        """Remove all runs, Dags, Variables and log rows."""
        from airflow import models
        from airflow.models.base import Base
        from airflow.utils.session import create_session
        from sqlalchemy import text

        assert models
        kept = {"alembic_version", "slot_pool", "log_template"}
        with create_session() as session:
            if self.kind == "sqlite":
                session.execute(text("PRAGMA defer_foreign_keys = ON"))
            if self.kind == "postgresql":
                names = ", ".join(f'"{name}"' for name in Base.metadata.tables if name not in kept)
                session.execute(text(f"TRUNCATE {names} CASCADE"))
                return
            for table in reversed(Base.metadata.sorted_tables):
                if table.name not in kept:
                    session.execute(table.delete())

    def runs(self, dag_id: str | None = None) -> list[tuple[str, str]]:
        """Dag id and run id of each run, in the order of creation."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import select

        wanted = select(DagRun.dag_id, DagRun.run_id).order_by(DagRun.id)
        with create_session() as session:
            rows = session.execute(wanted.where(DagRun.dag_id == dag_id) if dag_id else wanted)
            return [(row.dag_id, row.run_id) for row in rows]

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Everything known about a run."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            found = session.scalars(
                select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
            ).one()
            tasks = sorted(ti.task_id for ti in found.task_instances)
            return {
                "state": str(found.state),
                "note": found.note,
                "by": found.triggering_user_name,
                "type": str(found.run_type),
                "event": Event.from_conf(found.conf),
                "tasks": tasks,
            }

    def ledger(self) -> list[Entry]:
        """The receiver's entries in Airflow's event log."""
        from airflow.models.log import Log
        from airflow.utils.session import create_session
        from sqlalchemy import select

        from delivery_chain.core.events.ledger import EVENT

        with create_session() as session:
            rows = session.scalars(select(Log).where(Log.event == EVENT).order_by(Log.id))
            return [Entry.model_validate_json(row.extra or "") for row in rows]

    def variables(self) -> dict[str, Any]:
        """All Variables, parsed."""
        from airflow.models.variable import Variable
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            return {one.key: json.loads(one.val) for one in session.scalars(select(Variable))}

    def saw(self, dag_id: str, refs: Mapping[str, str], looked: datetime | None = None) -> None:
        """Set a sensor's cursor."""
        from airflow.models.variable import Variable
        from airflow.utils.session import create_session

        said = {"looked": (looked or datetime.now(UTC)).isoformat(), "refs": dict(refs)}
        with create_session() as session:
            Variable.set(dag_id, json.dumps(said), session=session)

    def nothing(self) -> bool:
        """Whether webhooks have left nothing."""
        return (self.runs(), self.ledger(), self.variables()) == ([], [], {})
