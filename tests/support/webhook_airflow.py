# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run it pay for that
"""An Airflow database with chains, with the plugin's receiver in front; tests send signed webhooks to it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Self

import httpx

from delivery_chain.core.events.ledger import Entry
from delivery_chain.core.spec.model import ChainSpec
from support.webhook_samples import standard_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    import pytest


PREFIX = "/delivery-chain/webhooks"
SECRET = "the-secret-of-these-tests-0123456789"
OTHER_SECRET = "another-secret-of-these-tests-0123456789"
BUNDLE = "tests"
GIT_HOST = "https://git.example.com/shop"
MAIN = "refs/heads/main"
V1, V2 = "refs/tags/v1", "refs/tags/v2"
IF_NEW = "; if its spec is new, redeliver the push after the next parse"
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
