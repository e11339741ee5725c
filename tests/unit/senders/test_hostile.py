from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from delivery_chain.core.events.notification import Notification
from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import Request, receive
from delivery_chain.senders.table import SENDERS
from support.webhook_samples import FORGES, NOW, SECRET, cases, proof, proven, sample, with_headers

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["refs/heads/x", "refs/tags/v1", "-x", "a" * 40, "0" * 40, "0" * 64, "push", "\ud800", "\n"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
NO_PROOF = "401 the request carries no valid signature or token"
NAMES = sorted(
    {name for case in cases() for name in sample(*case).headers} | {"authorization", "webhook-signature"}
)
HEADERS = st.dictionaries(st.sampled_from(NAMES), st.text(max_size=40), max_size=8)
BODIES = st.binary(max_size=200) | JSON.map(json.dumps).map(str.encode)


def outcome(sender: str, request: Request, secret: str = SECRET) -> Notification | str:
    """What was read, or the refusal by its status and reason; anything else that is raised fails the test."""
    try:
        return receive(SENDERS[sender], request, [secret], NOW)
    except WebhookRefused as error:
        return f"{error.status} {error}"


def proper(found: Notification | str) -> bool:
    """Whether it is something to do, a reason why not, or a refusal in one line."""
    if isinstance(found, Notification):
        return bool(found.pushes) is not bool(found.ignored)
    return found.startswith(("400 ", "401 ")) and "\n" not in found and len(found) < 600


def mutated(value: Any, data: st.DataObject) -> Any:
    """The value with something in it replaced, left out or put in."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 4)):
        key = data.draw(st.sampled_from(sorted(value)))
        rest = {name: inner for name, inner in value.items() if name != key}
        return rest if not data.draw(st.integers(0, 4)) else rest | {key: mutated(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.integers(0, 4)):
        place = data.draw(st.integers(0, len(value) - 1))
        return [*value[:place], mutated(value[place], data), *value[place + 1 :]]
    return data.draw(JSON)


@settings(deadline=None)
@given(sender=st.sampled_from(sorted(SENDERS)), headers=HEADERS, body=BODIES, token=st.text(max_size=10))
def test_arbitrary_requests(sender: str, headers: dict[str, str], body: bytes, token: str) -> None:
    """Whatever comes without the secret is refused with 401, and nothing else happens."""
    assert outcome(sender, Request(headers=headers, body=body, token=token)) == NO_PROOF


@settings(deadline=None, max_examples=300)
@given(sender=st.sampled_from(FORGES), headers=HEADERS, body=BODIES)
def test_arbitrary_authentic_requests(sender: str, headers: dict[str, str], body: bytes) -> None:
    """Any request with a valid proof is parsed, or refused in one line."""
    request = Request(headers={"webhook-id": "e1"} | headers, body=body)
    found = outcome(sender, proven(sender, request))
    assert proper(found)


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(cases()), st.data())
def test_mutated_payloads(case: tuple[str, str], data: st.DataObject) -> None:
    """A sample with anything in it changed, and signed again, is read or refused in one line."""
    request = sample(*case)
    assume(request.body.startswith(b"{"))
    body = json.dumps(mutated(json.loads(request.body), data)).encode()
    found = outcome(case[0], proven(case[0], replace(request, body=body)))
    assert proper(found)
    assert found != NO_PROOF


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(cases()), HEADERS)
def test_mutated_headers(case: tuple[str, str], headers: dict[str, str]) -> None:
    """A sample with other headers, and signed again, is read or refused in one line."""
    assert proper(outcome(case[0], proven(case[0], with_headers(sample(*case), headers))))


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(cases()), st.data())
def test_damaged_proofs(case: tuple[str, str], data: st.DataObject) -> None:
    """One letter of the proof changed, and it is refused."""
    sender, _ = case
    request = proven(sender, sample(*case))
    name = data.draw(st.sampled_from(sorted(proof(sender, request))))
    value = request.headers[name]
    # The first letters of Azure's are the user's name, which nobody looks at; the last ones hold bits of nothing.
    last = len(value) - 1
    place = data.draw(st.integers(16, last - 4) if sender == "azure" else st.integers(0, last))
    letter = data.draw(
        st.characters(codec="latin-1").filter(lambda letter: letter.lower() != value[place].lower())
    )
    changed = with_headers(request, {name: value[:place] + letter + value[place + 1 :]})
    assert outcome(sender, changed) == NO_PROOF


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([case for case in cases() if case[0] not in {"azure", "gitlab"}]), st.data())
def test_damaged_bodies(case: tuple[str, str], data: st.DataObject) -> None:
    """One bit of a signed body changed, and it is refused."""
    request = proven(case[0], sample(*case))
    body = bytearray(request.body)
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert outcome(case[0], replace(request, body=bytes(body))) == NO_PROOF


@settings(deadline=None)
@given(st.sampled_from(cases()), st.text(max_size=30))
def test_other_secrets(case: tuple[str, str], secret: str) -> None:
    """Any other secret than the sender's, and it is refused."""
    assume(secret != SECRET)
    assert outcome(case[0], proven(case[0], sample(*case)), secret) == NO_PROOF
