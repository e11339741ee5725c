from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from delivery_chain.errors import WebhookRefused
from delivery_chain.web import limits
from delivery_chain.web.limits import MOST_SENDERS, Bodies, Rate

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 1000


class Sent:
    """A request whose chunks come as a test lets them; None is a sender that hangs up, and a Future one that waits."""

    def __init__(self, *chunks: bytes | asyncio.Future[bytes] | None, length: str | None = None) -> None:
        self.chunks = list(chunks)
        headers = [] if length is None else [(b"content-length", length.encode("latin-1"))]
        self.request = Request({"type": "http", "method": "POST", "headers": headers}, self.receive)

    async def receive(self) -> dict[str, Any]:
        if not self.chunks:
            return {"type": "http.request", "body": b"", "more_body": False}
        chunk = self.chunks.pop(0)
        if chunk is None:
            return {"type": "http.disconnect"}
        body = chunk if isinstance(chunk, bytes) else await chunk
        return {"type": "http.request", "body": body, "more_body": True}


def refusal(call: Callable[[], Any]) -> tuple[int, float | None]:
    with pytest.raises(WebhookRefused) as caught:
        call()
    return caught.value.status, caught.value.retry_after


async def take(bodies: Bodies, sent: Sent, name: str = "hook") -> bytes:
    async with bodies.read(sent.request, MOST, name=name) as body:
        return body


def read(bodies: Bodies, sent: Sent) -> bytes:
    return asyncio.run(take(bodies, sent))


def test_a_minutes_worth_may_come_at_once() -> None:
    """And no more; then one each so many seconds, as the refusal says."""
    rate = Rate()
    for _ in range(30):
        rate.take("hook", 30, now=100.0)
    assert refusal(lambda: rate.take("hook", 30, now=100.0)) == (429, 2.0)
    assert refusal(lambda: rate.take("hook", 30, now=101.0)) == (429, 1.0)
    rate.take("hook", 30, now=102.0)
    assert refusal(lambda: rate.take("hook", 30, now=102.0)) == (429, 2.0)


def test_refused_ones_do_not_count() -> None:
    """Who goes on asking gets its turn all the same."""
    rate = Rate()
    rate.take("hook", 1, now=0.0)
    for second in range(1, 60):
        assert refusal(lambda second=second: rate.take("hook", 1, now=float(second)))[0] == 429
    rate.take("hook", 1, now=60.0)


def test_no_more_than_a_minutes_worth_is_saved() -> None:
    """A quiet hour is no right to an hour's worth at once."""
    rate = Rate()
    rate.take("hook", 2, now=0.0)
    for _ in range(2):
        rate.take("hook", 2, now=3600.0)
    assert refusal(lambda: rate.take("hook", 2, now=3600.0))[0] == 429


def test_senders_have_a_bucket_each() -> None:
    """One that is loud costs no other its deliveries, and all buckets together are bounded."""
    rate = Rate()
    rate.take("loud", 1, now=0.0)
    assert refusal(lambda: rate.take("loud", 1, now=0.0))[0] == 429
    for number in range(2 * MOST_SENDERS):
        rate.take(f"hook{number}", 1, now=0.0)
    assert len(rate._buckets) == MOST_SENDERS


@pytest.mark.parametrize(
    ("chunks", "length"),
    [
        ((b"abc",), "3"),
        ((b"a", b"b", b"c"), None),
        ((b"abc",), "2"),
        ((b"abc",), "900"),
        ((), "0"),
        ((), None),
        ((b"x" * MOST,), str(MOST)),
        ((b"x" * (MOST - 1), b"x"), None),
    ],
    ids=["told", "chunked", "more than told", "less than told", "empty", "nothing", "most", "most in chunks"],
)
def test_bodies_that_fit(chunks: tuple[bytes, ...], length: str | None) -> None:
    """What came is the body, whatever its length was said to be; afterwards nothing is held."""
    bodies = Bodies()
    assert read(bodies, Sent(*chunks, length=length)) == b"".join(chunks)
    assert bodies.held == {}


@pytest.mark.parametrize(
    ("chunks", "length", "status"),
    [
        ((), "1001", 413),
        ((), "9" * 30, 413),
        ((), "0" * 21, 413),
        ((), "-1", 400),
        ((), "+1", 400),
        ((), "1e3", 400),
        ((), "1, 1", 400),
        ((), "\u00b2", 400),
        ((b"x" * 1001,), None, 413),
        ((b"x" * 1000, b"x"), None, 413),
        ((b"x" * 600, b"x" * 600), "10", 413),
        ((b"abc", None), "10", 400),
        ((None,), None, 400),
    ],
)
def test_bodies_that_do_not(chunks: tuple[bytes | None, ...], length: str | None, status: int) -> None:
    """Refused by what is said where that is enough, else as soon as too much came; afterwards nothing is held."""
    bodies = Bodies()
    sent = Sent(*chunks, length=length)
    assert refusal(lambda: read(bodies, sent))[0] == status
    assert bodies.held == {}
    assert length is None or bool(chunks) or sent.chunks == []


def test_the_rest_of_a_large_body_is_not_read() -> None:
    """A request that is refused anyway does not wait."""
    sent = Sent(*[b"x" * 600] * 10)
    refusal(lambda: read(Bodies(), sent))
    assert len(sent.chunks) == 8


def test_a_slow_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for so long and no longer, and its room is given back."""
    monkeypatch.setattr(limits, "LONGEST_READ", 0.01)
    bodies = Bodies()

    async def go() -> tuple[int, str]:
        with pytest.raises(WebhookRefused) as caught:
            await take(bodies, Sent(b"abc", asyncio.get_running_loop().create_future()))
        return caught.value.status, str(caught.value)

    assert asyncio.run(go()) == (408, "the body did not arrive within 0.01 s")
    assert bodies.held == {}


def test_room_for_many_at_once() -> None:
    """Bytes that came count while they are needed: what is too much is told to come again, and then has its place."""
    bodies = Bodies(room=300)

    async def go() -> list[Any]:
        found: list[Any] = []
        async with bodies.read(Sent(b"x" * 140).request, MOST, name="one"):
            async with bodies.read(Sent(b"x" * 140).request, MOST, name="two"):
                found.append(dict(bodies.held))
                for name, size in (("one", 11), ("three", 21)):
                    with pytest.raises(WebhookRefused) as caught:
                        await take(bodies, Sent(b"x" * size), name)
                    found.append((caught.value.status, caught.value.retry_after))
                found.append(len(await take(bodies, Sent(b"x" * 20), "three")))
            found.append(len(await take(bodies, Sent(b"x" * 150), "three")))
        return [*found, bodies.held]

    assert asyncio.run(go()) == [{"one": 140, "two": 140}, (503, 5.0), (503, 5.0), 20, 150, {}]


def test_slow_senders_hold_nothing_that_did_not_come() -> None:
    """Many that announce much and send little keep nobody else out."""
    bodies = Bodies(room=2 * MOST)

    async def go() -> int:
        loop = asyncio.get_running_loop()
        slow = [Sent(b"x", loop.create_future(), length=str(MOST)) for _ in range(50)]
        tasks = [asyncio.create_task(take(bodies, sent, "slow")) for sent in slow]
        await asyncio.sleep(0)
        held = dict(bodies.held)
        read = len(await take(bodies, Sent(b"x" * MOST, length=str(MOST))))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert held == {"slow": 50}
        return read

    assert asyncio.run(go()) == MOST
    assert bodies.held == {}


def test_room_is_given_back_after_an_error() -> None:
    """Whatever goes wrong while the body is needed."""
    bodies = Bodies()

    async def go() -> None:
        async with bodies.read(Sent(b"abc").request, MOST, name="hook"):
            assert bodies.held == {"hook": 3}
            raise KeyError("anything")

    with pytest.raises(KeyError):
        asyncio.run(go())
    assert bodies.held == {}
