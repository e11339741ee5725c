"""The webhook receiver, over real sockets."""

from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING

import pytest

from delivery_chain.sandbox.receiver import MAX_BODY_BYTES, Receiver, read_deliveries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """A receiver on a free port."""
    with Receiver(0, tmp_path / "deliveries.jsonl") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def send(
    receiver: Receiver,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.server_port, timeout=5)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_delivery_is_kept_as_it_came(receiver: Receiver) -> None:
    """Path, headers and the exact body can be read, over HTTP and in the file."""
    body = '{"name": "ü"}'
    assert send(receiver, "POST", "/hooks/prod", body.encode(), {"Webhook-Id": "1"})[0] == 200
    (kept,) = read_deliveries(receiver.file)
    assert (kept["method"], kept["path"], kept["body"], kept["headers"]["webhook-id"]) == (
        "POST",
        "/hooks/prod",
        body,
        "1",
    )
    assert send(receiver, "GET", "/deliveries") == (200, {"deliveries": [kept]})


def test_a_get_is_a_delivery_too(receiver: Receiver) -> None:
    """Redeploy URLs that expect GET work."""
    assert send(receiver, "GET", "/hooks/staging?tag=v1")[0] == 200
    assert [one["path"] for one in read_deliveries(receiver.file)] == ["/hooks/staging?tag=v1"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/elsewhere", {}, 404),
        ("/hooks/prod", {"Content-Length": str(MAX_BODY_BYTES + 1)}, 413),
        ("/hooks/prod", {"Content-Length": "-1"}, 411),
        ("/hooks/prod", {"Transfer-Encoding": "chunked"}, 411),
    ],
)
def test_what_is_no_delivery_is_refused(
    receiver: Receiver, path: str, headers: dict[str, str], status: int
) -> None:
    """Another path, or a body without a length or above the limit, is refused unread, and nothing is stored."""
    assert send(receiver, "POST", path, None, headers)[0] == status
    assert read_deliveries(receiver.file) == []


def test_many_at_once_are_all_kept(receiver: Receiver) -> None:
    """Concurrent deliveries do not mix."""
    threads = [
        threading.Thread(target=send, args=(receiver, "POST", "/hooks/prod", str(number).encode() * 2000))
        for number in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one["body"] for one in read_deliveries(receiver.file)) == [
        str(number) * 2000 for number in range(10)
    ]
