"""A fake of the part of Airflow's REST API that concerns runs: logins, Dags, runs that end after some polls."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support.http_server import Handler, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

USER, PASSWORD = "deployer", "pässword \"quoted\" 'too' $HOME"
CHAINS = ("base-images", "shop-api")


@dataclass(slots=True)
class FakeAirflow:
    """The running fake. Tokens are `token-1`, `token-2`, … in the order in which they were requested."""

    url: str = ""
    tokens: set[str] = field(default_factory=set)
    runs: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    posted: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of all requests for a run or a connection."""
    connections: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Connections by id, as they were sent."""
    seen: list[str] = field(default_factory=list)
    """`METHOD path` of each request, in order."""
    paused: bool = False
    looks: list[tuple[str, str]] = field(default_factory=lambda: [("success", "")])
    """State and note for each poll of a run; the last one stays."""
    say: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    """Statuses and bodies for the next requests of `METHOD path`; these take precedence."""

    def answer(self, method: str, path: str, token: str, body: Any) -> tuple[int, Any]:
        """Return status and JSON for one request."""
        self.seen.append(f"{method} {path}")
        if self.say.get(f"{method} {path}"):
            return self.say[f"{method} {path}"].pop(0)
        if path == "/auth/token":
            return self._token(body)
        if token not in self.tokens:
            return 403, {"detail": "Invalid JWT token"}
        if found := re.fullmatch(r"/api/v2/dags/([^/]+)/dagRuns(?:/([^/]+))?", path):
            return self._post(found[1], body) if method == "POST" else self._look(found[1], found[2])
        if found := re.fullmatch(r"/api/v2/connections(?:/([^/]+))?", path):
            return self._connection(method, found[1], body)
        return self._other(path)

    def _connection(self, method: str, name: str | None, body: Any) -> tuple[int, Any]:
        """Behave like Airflow: secrets are shown as `***`, and a secret that is sent as `***` stays."""
        if method == "GET" and name is None:
            shown = [_masked(one) for _, one in sorted(self.connections.items())]
            return 200, {"connections": shown[:100], "total_entries": len(shown)}
        if name is not None and name not in self.connections:
            return 404, {"detail": f"The Connection with connection_id: `{name}` was not found"}
        if name is not None and method == "GET":
            return 200, _masked(self.connections[name])
        self.posted.append(body)
        if name is None and body["connection_id"] in self.connections:
            return 409, {"detail": {"reason": "Unique constraint violation"}}
        self.connections[body["connection_id"]] = body
        return (201 if name is None else 200), _masked(body)

    def _other(self, path: str) -> tuple[int, Any]:
        if path == "/api/v2/dags":
            return 200, {"dags": [{"dag_id": name} for name in CHAINS], "total_entries": len(CHAINS)}
        return 200, {"dag_id": path.rpartition("/")[2], "is_paused": self.paused}

    def _token(self, body: Any) -> tuple[int, Any]:
        if body != {"username": USER, "password": PASSWORD}:
            return 401, {"detail": "Invalid credentials"}
        token = f"token-{len([one for one in self.seen if one.endswith('/auth/token')])}"
        self.tokens.add(token)
        return 201, {"access_token": token}

    def _post(self, chain: str, body: Any) -> tuple[int, Any]:
        self.posted.append(body)
        if chain not in CHAINS:
            return 404, {"detail": f"Dag with dag_id: '{chain}' not found"}
        run_id = body.get("dag_run_id") or f"manual__{len(self.posted)}"
        if (chain, run_id) in self.runs:
            return 409, {"detail": {"reason": "Unique constraint violation"}}
        self.runs[chain, run_id] = {
            "dag_run_id": run_id,
            "state": "queued",
            "note": None,
            "conf": body["conf"],
        }
        return 200, self.runs[chain, run_id]

    def _look(self, chain: str, run_id: str) -> tuple[int, Any]:
        if (chain, run_id) not in self.runs:
            return 404, {"detail": "The DagRun was not found"}
        state, note = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return 200, self.runs[chain, run_id] | {"state": state, "note": note}


def _masked(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"password": "***" if body.get("password") else None}


@contextmanager
def airflow_at_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAirflow]:
    """Run a fake Airflow, with a login for it in the environment."""
    with fake_airflow() as fake:
        monkeypatch.setenv("AIRFLOW_API_URL", fake.url)
        monkeypatch.setenv("AIRFLOW_API_USERNAME", USER)
        monkeypatch.setenv("AIRFLOW_API_PASSWORD", PASSWORD)
        monkeypatch.delenv("AIRFLOW_API_TOKEN", raising=False)
        yield fake


@contextmanager
def fake_airflow() -> Iterator[FakeAirflow]:
    """Run a fake on a free port of 127.0.0.1 until the block ends."""
    fake = FakeAirflow()

    class Api(Handler):
        def answer(self) -> None:
            body = self.body()
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, said = fake.answer(
                self.command, self.path.partition("?")[0], token, json.loads(body) if body else None
            )
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.reply(status, {"Location": said.decode()} if 300 <= status < 400 else {}, content)

    with serving(Api) as port:
        fake.url = f"http://127.0.0.1:{port}"
        yield fake
