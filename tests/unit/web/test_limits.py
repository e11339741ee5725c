from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from delivery_chain.errors import WebhookRefused
from delivery_chain.web import limits
from delivery_chain.web.limits import MOST_SENDERS, Bodies, Rate, Strangers, check_length

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


async def take(bodies: Bodies, sent: Sent, name: str = "hook", *, keep: bool = True) -> bytes | None:
    check_length(sent.request.headers, MOST)
    async with bodies.read(sent.request, MOST, name=name, keep=keep) as body:
        return body


def read(bodies: Bodies, sent: Sent, *, keep: bool = True) -> bytes | None:
    return asyncio.run(take(bodies, sent, keep=keep))


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
@pytest.mark.parametrize("keep", [True, False], ids=["kept", "only counted"])
def test_bodies_that_do_not(
    chunks: tuple[bytes | None, ...],
    length: str | None,
    status: int,
    keep: bool,  # noqa: FBT001 - of the table
) -> None:
    """Refused by what is said where that is enough, else as soon as too much came; afterwards nothing is held."""
    bodies = Bodies()
    sent = Sent(*chunks, length=length)
    assert refusal(lambda: read(bodies, sent, keep=keep))[0] == status
    assert (bodies.held, bodies.kept) == ({}, 0)
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
    """Bytes that came count while they are needed: what is too much of one sender is told to come again.

    What is too much of all together is dropped; once there is room, it has its place.
    """
    bodies = Bodies(room=300)

    async def go() -> list[Any]:
        found: list[Any] = []
        async with bodies.read(Sent(b"x" * 140).request, MOST, name="one"):
            async with bodies.read(Sent(b"x" * 140).request, MOST, name="two"):
                found.append(dict(bodies.held))
                with pytest.raises(WebhookRefused) as caught:
                    await take(bodies, Sent(b"x" * 11), "one")
                found.append((caught.value.status, caught.value.retry_after))
                found.append(await take(bodies, Sent(b"x" * 21), "three"))
                found.append(await take(bodies, Sent(b"x" * 20), "three"))
            found.append(await take(bodies, Sent(b"x" * 150), "three"))
        return [*found, bodies.held, bodies.kept]

    full = {"one": 140, "two": 140}
    assert asyncio.run(go()) == [full, (503, 5.0), None, b"x" * 20, b"x" * 150, {}, 0]


def test_the_largest_gives_way() -> None:
    """Bodies that fill all the room keep out no small one: the largest that still arrives is dropped, and counted."""
    bodies = Bodies(room=300)

    async def go() -> list[Any]:
        rest = [asyncio.get_running_loop().create_future() for _ in range(2)]
        large = [
            asyncio.create_task(take(bodies, Sent(b"x" * (149 - at), one), f"loud{at}"))
            for at, one in enumerate(rest)
        ]
        await asyncio.sleep(0)
        small = await take(bodies, Sent(b"small"), "quiet")
        held = dict(bodies.held)
        for one in rest:
            one.set_result(b"y")
        return [small, held, *await asyncio.gather(*large)]

    assert asyncio.run(go()) == [b"small", {"loud0": 149, "loud1": 148}, None, b"x" * 148 + b"y"]
    assert (bodies.held, bodies.kept) == ({}, 0)


def test_what_is_only_counted_takes_no_room() -> None:
    """Each unknown sender has its share, as a known one has, and all of them together displace nothing."""
    bodies = Bodies(room=300)

    async def go() -> list[Any]:
        rest = asyncio.get_running_loop().create_future()
        unknown = [
            asyncio.create_task(take(bodies, Sent(b"x" * 150, rest), f"nobody{number}", keep=False))
            for number in range(20)
        ]
        await asyncio.sleep(0)
        with pytest.raises(WebhookRefused) as caught:
            await take(bodies, Sent(b"x"), "nobody0", keep=False)
        found = [
            caught.value.status,
            await take(bodies, Sent(b"x" * 150)),
            bodies.kept,
            set(bodies.held.values()),
        ]
        rest.set_result(b"")
        return [*found, *await asyncio.gather(*unknown)]

    assert asyncio.run(go()) == [503, b"x" * 150, 0, {150}, *[None] * 20]
    assert bodies.held == {}


def test_requests_without_proof_have_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many a minute; those that are proven afterwards do not count."""
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: 100.0))
    strangers = Strangers()
    assert [strangers.enter() for _ in range(limits.STRANGERS)] == [None] * limits.STRANGERS
    late = strangers.enter()
    assert late is not None
    assert (late.status, late.retry_after) == (429, 1.0)
    strangers.leave()
    assert [strangers.enter() is None for _ in range(2)] == [True, False]


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
