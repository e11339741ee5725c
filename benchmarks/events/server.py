"""Runs the sandbox's Airflow as the target of the load; creates the requests, and selects the processes to measure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import itertools
import json
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from load import Shot
from matching import SHAPES, name_of, spec_text

from delivery_chain.core.events.event import Event, Kind
from delivery_chain.sandbox import database, services, stack
from delivery_chain.sandbox.airflow_parts import ADMIN, API_SERVER
from delivery_chain.sandbox.api import AirflowApi
from delivery_chain.sandbox.console import Console
from delivery_chain.sandbox.layout import Layout, load_secrets
from delivery_chain.tools.airflow_rest import AirflowServer, Login

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.sandbox.processes import Mark

ROOT = Path(__file__).parents[2]
REPOSITORIES = 8
"""Number of repositories, each with a chain of its own."""
RULE = "release"
DAG_SECONDS = 60.0
CONNECTION = "bench_hooks"
HOOKS = "/delivery-chain/webhooks/"
SECRET = "whsec_" + base64.b64encode(b"a secret of the benchmark").decode()
IDLE = ("airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
"""Components that are stopped while requests are measured: in production they run on other machines."""
_numbers = itertools.count(1)


@dataclass(slots=True)
class Target:
    """One running Airflow."""

    port: int
    token: str
    watched: dict[str, Mark]
    run: str = field(default_factory=lambda: f"{time.time_ns():x}"[-10:])
    """Distinguishes the pushes of this run from those of other runs on the same data."""

    def push(self, *, repositories: int = REPOSITORIES) -> Shot:
        """Return a signed push of a new tag to the next of some repositories."""
        number = next(_numbers)
        body = {
            "type": "source.push",
            "repository": f"{name_of(number % repositories)}/api",
            "actor": "bench",
            "pushes": [{"ref": self._ref(number), "before": "", "after": self._commit(number)}],
        }
        return signed(f"{self.run}-{number}", json.dumps(body).encode())

    def run_by_rest(self) -> Shot:
        """Return the request that starts the same run through Airflow's own endpoint."""
        number = next(_numbers)
        now = datetime.now(UTC)
        event = Event(
            kind=Kind.SOURCE_PUSH,
            repository="api",
            rule=RULE,
            ref=self._ref(number),
            commit=self._commit(number),
            pushed_at=now,
            seen_at=now,
            actor="bench",
            sender=f"webhook {CONNECTION}",
            delivery_id=f"{self.run}-{number}",
        )
        body = {"dag_run_id": f"rest__{self.run}-{number}", "logical_date": None, "conf": event.to_conf()}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        return Shot(
            "POST",
            f"/api/v2/dags/{name_of(number % REPOSITORIES)}/dagRuns",
            headers,
            json.dumps(body).encode(),
        )

    def bad_signature(self) -> Shot:
        """Return a push with a wrong signature."""
        shot = self.push()
        return Shot(
            shot.method, shot.path, {**shot.headers, "webhook-signature": "v1," + "A" * 43 + "="}, shot.body
        )

    def unknown(self) -> Shot:
        """Return a push for a connection that does not exist."""
        shot = self.push()
        return Shot(shot.method, HOOKS + "nobody", shot.headers, shot.body)

    def _ref(self, number: int) -> str:
        return f"refs/tags/v{int(self.run, 16) % 10**9}.{number}.0"

    def _commit(self, number: int) -> str:
        return hashlib.sha1(f"{self.run} {number}".encode(), usedforsecurity=False).hexdigest()


def signed(message_id: str, body: bytes) -> Shot:
    """Return a request in the format of Standard Webhooks."""
    seconds = str(int(time.time()))
    text = b".".join([message_id.encode(), seconds.encode(), body])
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    proof = base64.b64encode(hmac.digest(key, text, "sha256")).decode()
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": seconds,
        "webhook-signature": f"v1,{proof}",
    }
    return Shot("POST", HOOKS + CONNECTION, headers, body)


@contextmanager
def airflow(kind: str, folder: Path) -> Iterator[Target]:
    """Run a sandbox of its own with the database `sqlite` or `postgresql`; stop it at the end, whatever happens."""
    layout = Layout(folder)
    specs, dags = folder.with_name("specs"), folder.with_name("dags")
    for each in (specs, dags):
        each.mkdir()
    for number in range(REPOSITORIES):
        (specs / f"{name_of(number)}.yaml").write_text(spec_text(number, SHAPES[0]), encoding="utf-8")
    # Leave out the Dags that watch sources, because these repositories do not exist.
    shutil.copy(ROOT / "dags" / "delivery_chains.py", dags)
    options = stack.Options(database=kind, specs=str(specs), dags=str(dags))
    try:
        running = stack.up(layout, options, Console(io.StringIO()))
        yield target(layout, running)
    finally:
        stack.down(layout, Console(io.StringIO()), purge=True)


def target(layout: Layout, running: stack.Stack) -> Target:
    """Wait for the Dags, stop the components that are not measured, and create the sender's connection."""
    with AirflowApi(running.ui, ADMIN, load_secrets(layout)["admin"]) as api:
        until = time.monotonic() + DAG_SECONDS
        while len(api.dags()) < REPOSITORIES:
            if time.monotonic() > until:
                raise SystemExit(f"expected {REPOSITORIES} Dags within {DAG_SECONDS:g} s; see {layout.logs}")
            time.sleep(0.5)
    services.halt(
        [name for name in IDLE if name in running.state.processes], layout, running.state, lambda *_: None
    )
    admin = Login(user=ADMIN, password=load_secrets(layout)["admin"])
    server = AirflowServer(running.ui, admin)
    try:
        answer = server.call("POST", "/connections", body=_sender())
        if not answer.ok and answer.status != 409:  # noqa: PLR2004 - it exists already
            raise SystemExit(f"connection {CONNECTION}: {answer.status} {answer.text}")
        token = server._new_token()  # noqa: SLF001 - the load generator sends it itself
    finally:
        server.close()
    marks = running.state.processes
    watched = {"server": marks[API_SERVER]}
    if database.NAME in marks:
        watched["database"] = marks[database.NAME]
    return Target(running.state.ports[API_SERVER], token, watched)


def _sender() -> dict[str, str]:
    extra = {"sender": "standard", "speaks_for": "git_shop", "per_minute": 1_000_000}
    return {
        "connection_id": CONNECTION,
        "conn_type": "webhook_sender",
        "password": SECRET,
        "extra": json.dumps(extra),
    }
