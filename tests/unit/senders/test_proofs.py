"""Common to all senders: nothing is parsed without a proof, for this body and with this secret."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from datetime import timedelta

import pytest

from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import MEBIBYTE, Request, receive
from delivery_chain.senders.table import SENDERS
from support.webhook_samples import (
    FORGES,
    NOW,
    SECRET,
    as_form,
    cases,
    edited,
    hex_of,
    origin,
    proof,
    proven,
    sample,
    standard_of,
    with_headers,
)

FIRST = dict(reversed(cases()))
SIGNING = sorted({*FORGES} - {"azure", "gitlab"})


def refused(sender: str, request: Request, *secrets: str) -> bool:
    with pytest.raises(WebhookRefused) as caught:
        receive(SENDERS[sender], request, secrets or (SECRET,), NOW)
    return (caught.value.status, str(caught.value)) == (
        401,
        "the request carries no valid signature or token",
    )


def test_each_sender_has_samples() -> None:
    """Every sender has a sample, and every sample a sender and an origin."""
    assert {sender for sender, _ in cases()} == set(FORGES)
    for sender, case in cases():
        assert len(origin(sender, case)) > 20


@pytest.mark.parametrize(("sender", "case"), [case for case in cases() if case[1] != "push-minimal"])
def test_proven(sender: str, case: str) -> None:
    """Each sample with its sender's proof is either something to do or says in one sentence why not."""
    request = sample(sender, case)
    found = receive(SENDERS[sender], proven(sender, request), [SECRET], NOW)
    assert bool(found.pushes) is not bool(found.ignored)


@pytest.mark.parametrize("sender", FORGES)
@pytest.mark.parametrize("secrets", [(), ("",), ("wrong",), (SECRET[:-1],), (SECRET + "x",), ("ключ",)])
def test_other_secrets(sender: str, secrets: tuple[str, ...]) -> None:
    """No secret, an empty one and any other than the sender's let nothing in."""
    request = proven(sender, sample(sender, FIRST[sender]))
    with pytest.raises(WebhookRefused) as caught:
        receive(SENDERS[sender], request, secrets, NOW)
    assert caught.value.status == 401


@pytest.mark.parametrize("sender", FORGES)
def test_empty_secret_proves_nothing(sender: str) -> None:
    """Where no secret is set, a request that is signed with an empty one is not let in."""
    assert refused(sender, proven(sender, sample(sender, FIRST[sender]), ""), "")


@pytest.mark.parametrize("sender", FORGES)
@pytest.mark.parametrize("secrets", [("old", SECRET), (SECRET, "old"), ("", SECRET)])
def test_rotation(sender: str, secrets: tuple[str, ...]) -> None:
    """While a secret is being changed, both are taken."""
    request = sample(sender, FIRST[sender])
    found = [
        receive(SENDERS[sender], proven(sender, request, secret), secrets, NOW)
        for secret in secrets
        if secret
    ]
    assert len(set(found)) == 1


@pytest.mark.parametrize("sender", FORGES)
def test_no_proof(sender: str) -> None:
    """A request without a proof is refused before it is read."""
    assert refused(sender, replace(sample(sender, FIRST[sender]), body=b"not JSON"))


@pytest.mark.parametrize("sender", FORGES)
@pytest.mark.parametrize("other", FORGES)
def test_other_schemes(sender: str, other: str) -> None:
    """A proof of one scheme is not valid in another, even with the same secret and body."""
    request = sample(sender, FIRST[sender])
    if proof(sender, request).keys() & proof(other, with_headers(request, {"webhook-id": "x"})).keys():
        return
    if {sender, other} <= {"gitea", "forgejo", "gogs"}:
        return
    assert refused(sender, with_headers(request, proof(other, with_headers(request, {"webhook-id": "x"}))))


@pytest.mark.parametrize("sender", FORGES)
@pytest.mark.parametrize(
    "damage",
    [
        lambda value: "",
        lambda value: value[:-1],
        lambda value: value[:12],
        lambda value: value + "0",
        lambda value: value + "é",
        lambda value: "\ud800" + value,
        lambda value: value.replace("sha256=", "sha1="),
        lambda value: value.swapcase(),
        lambda value: f"{value} {value}x",
        lambda value: value.partition("=")[0],
    ],
)
def test_damaged_proof(sender: str, damage: object) -> None:
    """A proof that is truncated, longer, in another alphabet or under another algorithm's name is not valid."""
    assert callable(damage)
    request = sample(sender, FIRST[sender])
    whole = proof(sender, request)
    name, value = next((name, value) for name, value in whole.items() if name != "webhook-timestamp")
    broken = {**whole, name: damage(value)}
    if broken == whole or (sender == "standard" and damage(value).startswith(f"{value} ")):
        return  # nothing was damaged: several signatures in one header are that scheme's way
    assert refused(sender, with_headers(request, broken))


@pytest.mark.parametrize("sender", SIGNING)
@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b'{"ref": "refs/heads/main"}'])
def test_other_body(sender: str, body: bytes) -> None:
    """A signature is good for the body that it was made for."""
    request = proven(sender, sample(sender, FIRST[sender]))
    assert refused(sender, replace(request, body=body))
    assert refused(sender, replace(request, body=request.body + b" "))


@pytest.mark.parametrize("sender", SIGNING)
def test_sha1_alone(sender: str) -> None:
    """SHA-1, which GitHub and Gitea still send beside SHA-256, proves nothing."""
    request = sample(sender, FIRST[sender])
    old = hmac.new(SECRET.encode(), request.body, hashlib.sha1).hexdigest()
    for name in ("x-hub-signature", "x-hub-signature-256", f"x-{sender}-signature"):
        assert refused(sender, with_headers(request, {name: "sha1=" + old}))
        assert refused(sender, with_headers(request, {name: old}))


def test_githubs_own_example() -> None:
    """GitHub's documentation gives a secret, a body and its signature."""
    request = Request(
        headers={
            "x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        },
        body=b"Hello, World!",
    )
    assert SENDERS["github"].authentic(request, "It's a Secret to Everybody", NOW)


def test_gidgethubs_own_example() -> None:
    """A body of gidgethub's own tests with the signature that is there (Apache-2.0)."""
    signature = "sha256=0340d06469a1b35662ebd7a67ea2c0c328239f319f1cfafb221451de629e0430"
    request = Request(headers={"x-hub-signature-256": signature}, body=b'{"action": "opened"}')
    assert SENDERS["github"].authentic(request, "123456", NOW)


@pytest.mark.parametrize("seconds", [-301, 301, 3600, -86400])
@pytest.mark.parametrize("sender", ["standard", "gitlab"])
def test_stale_and_early(sender: str, seconds: int) -> None:
    """A signed time five minutes off is too old, or too new, whatever else is right."""
    stamp = str(int((NOW + timedelta(seconds=seconds)).timestamp()))
    request = sample(sender, FIRST[sender])
    headers = {"webhook-id": "e1", "webhook-timestamp": stamp}
    assert refused(
        sender,
        with_headers(request, headers | {"webhook-signature": standard_of("e1", request.body, stamp=stamp)}),
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"webhook-id": ""},
        {"webhook-id": "e2"},
        {"webhook-id": "\ud800"},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "0" + str(int(NOW.timestamp()))},
        {"webhook-timestamp": str(NOW.timestamp())},
        {"webhook-timestamp": "-1"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-timestamp": "١٧١٧١٧٤١١٧"},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,"},
        {"webhook-signature": ","},
    ],
)
def test_malformed_standard_headers(headers: dict[str, str]) -> None:
    """Headers that are not as the specification has them prove nothing, and break nothing."""
    request = proven("standard", sample("standard", "source-push"))
    assert refused("standard", with_headers(request, headers))


def test_v2_alone() -> None:
    """The right digest under another version's name is no proof."""
    request = proven("standard", sample("standard", "source-push"))
    signature = request.headers["webhook-signature"].replace("v1,", "v1a,")
    assert refused("standard", with_headers(request, {"webhook-signature": signature}))


@pytest.mark.parametrize(
    "around", ["{}", "v1,AAAA {}", "{} v1,AAAA", "v1a,AAAA v2,x {} v1,", "  {}"], ids=str
)
def test_several_signatures(around: str) -> None:
    """While the sender changes its secret it may sign twice: one that fits is enough."""
    request = proven("standard", sample("standard", "ping"))
    signature = around.format(request.headers["webhook-signature"])
    found = receive(
        SENDERS["standard"], with_headers(request, {"webhook-signature": signature}), [SECRET], NOW
    )
    assert found.ignored


@pytest.mark.parametrize("padding", ["", "="])
@pytest.mark.parametrize("sender", ["standard", "gitlab"])
def test_base64_secret(sender: str, padding: str) -> None:
    """A secret with the specification's prefix is base64, with its padding or without."""
    secret = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q" + padding
    request = sample(sender, FIRST[sender])
    signature = standard_of("e1", request.body, key=b"test" * 8)
    headers = {"webhook-id": "e1", "webhook-timestamp": str(int(NOW.timestamp()))}
    signed = with_headers(request, headers | {"webhook-signature": signature})
    assert receive(SENDERS[sender], signed, [secret], NOW).delivery_id == "e1"


@pytest.mark.parametrize("secret", ["whsec_", "whsec_====", "whsec_ключ", "whsec_a b", "whsec_*"])
@pytest.mark.parametrize("key", [b"", b"\x69\xb7", SECRET.encode()])
def test_broken_base64_secret(secret: str, key: bytes) -> None:
    """A secret that says to be base64, and is not, proves nothing."""
    request = sample("standard", "ping")
    signature = standard_of("e1", request.body, key=key)
    headers = {"webhook-id": "e1", "webhook-timestamp": str(int(NOW.timestamp()))}
    assert refused("standard", with_headers(request, headers | {"webhook-signature": signature}), secret)


@pytest.mark.parametrize("sender", ["gitea", "forgejo", "gogs"])
def test_forms_of_gitea(sender: str) -> None:
    """Gitea signs the JSON that it puts into a form, not the form: no proof is over what was sent."""
    request = sample(sender, "push")
    assert refused(sender, with_headers(as_form(request), proof(sender, request)))


def test_forms_of_github() -> None:
    """GitHub signs the form as it is sent; it says what the JSON says."""
    request = sample("github", "tag-created")
    found = [
        receive(SENDERS["github"], proven("github", one), [SECRET], NOW)
        for one in (request, as_form(request))
    ]
    assert found[0].model_copy(update={"delivery_id": ""}) == found[1].model_copy(update={"delivery_id": ""})
    assert refused("github", with_headers(as_form(request), proof("github", request)))


@pytest.mark.parametrize("sender", ["github", "bitbucket", "bitbucket-dc"])
def test_a_request_that_somebody_saw_is_the_same_delivery(sender: str) -> None:
    """The id in a header that no proof is over makes no new event of a body that is sent again."""
    request = proven(sender, sample(sender, FIRST[sender]))
    names = {"x-github-delivery": "other", "x-request-uuid": "other", "x-request-id": "other"}
    ids = {
        receive(SENDERS[sender], one, [SECRET], NOW).delivery_id
        for one in (request, with_headers(request, names))
    }
    assert ids == {f"sha256:{hashlib.sha256(request.body).hexdigest()}"}


@pytest.mark.parametrize("sender", FORGES)
def test_signed_json_is_not_read_as_a_form(sender: str) -> None:
    """What somebody wrote into a commit's message does not become the payload when the type of the body is changed."""
    planted = edited(sample(sender, FIRST[sender]), message="&payload=%7B%22ref%22%3A1%7D&")
    request = with_headers(proven(sender, planted), {"content-type": "application/x-www-form-urlencoded"})
    with pytest.raises(WebhookRefused) as caught:
        receive(SENDERS[sender], request, [SECRET], NOW)
    assert caught.value.status in {400, 401}


@pytest.mark.parametrize("more", [b"&payload=%7B%7D", b"&x=1", b"&"])
@pytest.mark.parametrize("sender", ["github", "gitea"])
def test_more_than_one_field(sender: str, more: bytes) -> None:
    """A form with anything beside its payload is none of theirs."""
    form = as_form(sample(sender, FIRST[sender]))
    with pytest.raises(WebhookRefused) as caught:
        SENDERS[sender].parse(replace(form, body=form.body + more))
    assert str(caught.value) == "the body is not a form with the one field `payload`"


def test_careless_base64() -> None:
    """Letters that are not base64 are not passed over: the key would be shorter than it looks."""
    request = sample("standard", "ping")
    headers = {"webhook-id": "e1", "webhook-timestamp": str(int(NOW.timestamp()))}
    signed = with_headers(
        request, headers | {"webhook-signature": standard_of("e1", request.body, key=b"test")}
    )
    assert receive(SENDERS["standard"], signed, ["whsec_dGVzdA=="], NOW).delivery_id == "e1"
    assert refused("standard", signed, "whsec_dGVz!!!!dA==")


def test_limits() -> None:
    """The forges that send up to 25 MiB may; nobody else sends more than one."""
    largest = {name: SENDERS[name].largest // MEBIBYTE for name in FORGES}
    assert {name: size for name, size in largest.items() if size > 1} == {"github": 25, "gitlab": 25}


def test_proofs_of_these_tests() -> None:
    """The tests' own computation is that of `printf 'Hello, World!' | openssl dgst -sha256 -hmac …`."""
    assert hex_of(b"Hello, World!") == "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
