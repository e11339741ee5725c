from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delivery_chain.core.events.notification import Notification
from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import Request, receive
from delivery_chain.senders.ghcr import pushed_images
from delivery_chain.senders.registries import REGISTRIES
from support.registry_samples import NOW, SAMPLES, SECRET, sample

CASES = sorted((sender, case.name) for sender in REGISTRIES for case in (SAMPLES / sender).iterdir())
GHCR = sorted(case.name for case in (SAMPLES / "ghcr").iterdir())
TEXTS = st.text(max_size=20) | st.sampled_from(
    ["", "\ud800", "\x00", "a\nb", "x" * 300, "sha256:1", "-", "../..", "9" * 30, "2020-01-01", "NaN", "push"]
)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1e300, 10**400, -(2**63), "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path in a JSON value, its root as well."""
    keys = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, inner in keys for path in places(inner, (*here, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A JSON value with another at a path."""
    if not path:
        return new
    other = list(value) if isinstance(value, list) else dict(value)
    other[path[0]] = put(other[path[0]], path[1:], new)
    return other


@st.composite
def payloads(draw: st.DrawFn, body: bytes) -> Any:
    """A recorded payload with junk at one to three places."""
    value = json.loads(body)
    for _ in range(draw(st.integers(1, 3))):
        value = put(value, draw(st.sampled_from(places(value))), draw(JUNK))
    return value


@st.composite
def bodies(draw: st.DrawFn, body: bytes) -> bytes:
    """What could come instead of a recorded body."""
    kind = draw(st.sampled_from(["junk", "payload", "cut", "flipped"]))
    if kind == "junk":
        return draw(st.binary(max_size=60))
    if kind == "payload":
        return json.dumps(draw(payloads(body))).encode()
    at = draw(st.integers(0, len(body) - 1))
    return body[:at] if kind == "cut" else body[:at] + bytes([draw(st.integers(0, 255))]) + body[at + 1 :]


HEADERS = st.dictionaries(
    st.sampled_from(["authorization", "content-type", "x-token", "ce-type"]),
    st.sampled_from(["application/x-www-form-urlencoded", "Basic ", "Bearer", "Bearer \ud800"]) | TEXTS,
    max_size=3,
)


def check_message(message: str) -> None:
    """A refusal is one short line that can be logged."""
    assert "\n" not in message
    assert 0 < len(message.encode()) < 600


def checked(sender: str, request: Request, secrets: list[str]) -> Notification | int:
    """What came out, or the refusal's status."""
    try:
        return receive(REGISTRIES[sender], request, secrets, NOW)
    except WebhookRefused as refused:
        check_message(str(refused))
        return refused.status


@pytest.mark.parametrize(("sender", "case"), CASES)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_request_breaks_a_sender(sender: str, case: str, data: st.DataObject) -> None:
    """Whatever an authentic body holds, it is a delivery or a refusal with 400; and without proof it is neither."""
    recorded = sample(sender, case)
    headers = data.draw(HEADERS)
    # The sender's own secret stays in the address; what the headers say changes nothing.
    hostile = Request(headers=headers, body=data.draw(bodies(recorded.body)), token=SECRET)
    found = checked(sender, hostile, [SECRET])
    if isinstance(found, Notification):
        assert bool(found.pushes) == (not found.ignored)
        assert Notification.from_xcom(found.to_xcom()) == found
    else:
        assert found == 400
    for request in (replace(hostile, token=""), replace(hostile, token=data.draw(TEXTS))):
        assert checked(sender, request, [SECRET]) == 401
        assert checked(sender, request, ["", SECRET]) == 401
    assert checked(sender, hostile, []) == 401
    assert checked(sender, hostile, [""]) == 401


@pytest.mark.parametrize("case", GHCR)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_payload_breaks_the_reader_of_packages(case: str, data: st.DataObject) -> None:
    """What GitHub's sender passes on is an object, with anything in it."""
    payload = data.draw(payloads(sample("ghcr", case).body))
    if not isinstance(payload, dict):
        return
    try:
        images, why = pushed_images(payload)
    except WebhookRefused as refused:
        check_message(f"{refused.status} {refused}")
    else:
        assert bool(images) == (not why)
