from __future__ import annotations

import base64
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from delivery_chain.core.events.notification import MOST_PUSHES, Notification
from delivery_chain.core.events.push import Push
from delivery_chain.senders import standard as module
from delivery_chain.senders.base import Request, receive
from delivery_chain.senders.table import SENDERS
from support.webhook_samples import NOW, SECRET, edited, read, sample, why_not, with_headers

A, B, C = (
    "9836a96a253cce25d17988fcf41b8c4205cf779f",
    "4522cbcefc20728a5b72b3a86af35e608622c514",
    "6dcb09b5b57875f334f61aebed695e2e4193db5e",
)
DIGEST = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_source_push() -> None:
    """Refs that moved, as a post-receive hook knows them."""
    assert read("standard", sample("standard", "source-push")) == Notification(
        event="source.push",
        delivery_id="push-5f0c1a01",
        repositories=("shop/api",),
        pushes=(
            Push(ref="refs/heads/main", before=A, after=B),
            Push(ref="refs/heads/new", before="", after=C),
            Push(ref="refs/heads/old", before=C, after=""),
            Push(ref="refs/tags/v1.2.0", before=None, after=B),
        ),
        actor="mona",
        pushed_at=datetime(2024, 5, 31, 16, 48, 37, tzinfo=UTC),
    )


def test_image_push() -> None:
    """Images that were pushed."""
    assert read("standard", sample("standard", "image-push")) == Notification(
        event="image.push",
        delivery_id="push-5f0c1a02",
        pushes=(
            Push.of_image(name="shop/api", tag="v1.2.0", digest=DIGEST),
            Push.of_image(name="shop/web", tag="latest"),
        ),
        actor="ci",
    )


def test_ping() -> None:
    """A test of the connection does nothing."""
    expected = Notification(event="ping", delivery_id="push-5f0c1a03", ignored="a ping: the webhook works")
    assert read("standard", sample("standard", "ping")) == expected


def test_the_documented_way_to_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of the module's text that sign a body are followed word by word."""
    assert module.__doc__ is not None
    lines = module.__doc__.partition("    def headers(")[2].splitlines()
    names: dict[str, Any] = {"base64": base64, "hmac": hmac, "time": time}
    exec("def headers(" + "\n".join(lines), names)  # noqa: S102 - it is our own text
    monkeypatch.setattr(time, "time", NOW.timestamp)
    body = sample("standard", "source-push").body
    request = Request(headers=names["headers"](SECRET, "e1", body), body=body)
    assert receive(SENDERS["standard"], request, [SECRET], NOW).delivery_id == "e1"


def test_the_documented_bodies() -> None:
    """The keys that the module's text shows are those that the forms have."""
    assert module.__doc__ is not None
    for form in (module.SourcePush, module.ImagesPush, module.MovedRef, module.NamedImage):
        assert [name for name in form.model_fields if f'"{name}":' not in module.__doc__] == []


@pytest.mark.parametrize("secret", ["whsec_" + base64.b64encode(b"k" * 32).decode(), SECRET])
def test_the_library_signs(secret: str) -> None:
    """A request that the specification's own library signed is taken."""
    body = sample("standard", "ping").body
    signer = Webhook(secret if secret.startswith("whsec_") else secret.encode())
    signature = signer.sign("e1", NOW, body.decode())
    headers = {
        "webhook-id": "e1",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": signature,
    }
    assert (
        receive(SENDERS["standard"], Request(headers=headers, body=body), [secret], NOW).delivery_id == "e1"
    )


def pushes(**changes: Any) -> dict[str, Any]:
    """One push with other values."""
    return {"pushes": [{"ref": "refs/heads/main", "before": A, "after": B} | changes]}


@pytest.mark.parametrize(
    ("case", "changes", "why"),
    [
        (
            "ping",
            {"type": None},
            "400 expected `type` to be one of ping, source.push, image.push, found 'None'",
        ),
        ("ping", {"type": []}, "400 expected `type` to be one of"),
        ("ping", {"type": "source.pushed"}, "400 expected `type` to be one of"),
        ("ping", {"more": 1}, "400 unknown key 'more': expected only documented keys"),
        ("ping", {"a\nb" * 100: 1}, "400 unknown key 'a\\nba"),
        ("source-push", {"more": 1}, "400 unknown key 'more': expected only documented keys"),
        ("source-push", {"images": []}, "400 unknown key 'images': expected only documented keys"),
        ("source-push", {"repository": None}, "400 'repository': "),
        ("source-push", {"repository": ""}, "400 'repository': "),
        ("source-push", {"actor": "x" * 201}, "400 'actor': "),
        ("source-push", {"pushed_at": "2024-05-31T16:48:37"}, "400 'pushed_at': "),
        ("source-push", {"pushed_at": "today"}, "400 'pushed_at': "),
        ("source-push", {"pushes": None}, "400 'pushes': "),
        ("source-push", {"pushes": []}, "400 'pushes': "),
        ("source-push", {"pushes": ["x"]}, "400 'pushes.0': "),
        ("source-push", {"pushes": [{}]}, "400 'pushes.0.ref': "),
        (
            "source-push",
            pushes(ref="main"),
            "400 expected a full git ref such as refs/heads/main, found 'main'",
        ),
        ("source-push", pushes(ref="-x"), "400 expected a full git ref"),
        ("source-push", pushes(ref="refs/heads/a b"), "400 'pushes.0.ref': "),
        (
            "source-push",
            pushes(ref="refs/heads/" + "x" * 549),
            "400 'pushes.0.ref': ",
        ),
        ("source-push", pushes(ref="refs/heads/-x"), "400 'pushes.0.ref': "),
        ("source-push", pushes(ref="refs/heads/\ud800"), "400 "),
        ("source-push", pushes(after=B[:12]), "400 'pushes.0.after': "),
        (
            "source-push",
            pushes(commit=B),
            "400 unknown key 'pushes.0.commit': expected only documented keys",
        ),
        (
            "source-push",
            pushes(peeled=False),
            "400 unknown key 'pushes.0.peeled': expected only documented keys",
        ),
        ("source-push", {"pushes": [{"ref": "refs/heads/x"}]}, "400 'pushes.0.after': "),
        (
            "source-push",
            {"pushes": [{"ref": "refs/heads/x", "after": B}] * (MOST_PUSHES + 1)},
            "400 'pushes': ",
        ),
        (
            "image-push",
            {"repository": "shop/api"},
            "400 unknown key 'repository': expected only documented keys",
        ),
        ("image-push", {"images": [{"name": "shop/api"}]}, "400 'images.0': "),
        ("image-push", {"images": [{"name": "Shop/api", "tag": "x"}]}, "400 'images.0.name': "),
        ("image-push", {"images": [{"name": "shop/api", "tag": "-x"}]}, "400 'images.0.tag': "),
        ("image-push", {"images": [{"name": "shop/api", "digest": "sha256:x"}]}, "400 'images.0.digest': "),
        (
            "image-push",
            {"images": [{"name": "shop/api", "tag": "x", "more": 1}]},
            "400 unknown key 'images.0.more'",
        ),
    ],
)
def test_refusals(case: str, changes: dict[str, Any], why: str) -> None:
    """What the form does not have is refused, in one line that says what was wrong."""
    assert why_not("standard", edited(sample("standard", case), **changes)).startswith(why)


def test_long_ids() -> None:
    """An id that is longer than the form has it is refused."""
    request = with_headers(sample("standard", "ping"), {"webhook-id": "x" * 201})
    assert why_not("standard", request).startswith(
        "400 the payload is not valid for this sender: delivery_id: "
    )


def test_an_empty_before_is_a_new_ref() -> None:
    """Zeros and an empty text say the same."""
    request = sample("standard", "source-push")
    for before in ("", "0" * 40, "0" * 64):
        found = read(
            "standard", edited(request, pushes=[{"ref": "refs/heads/x", "before": before, "after": B}])
        )
        assert found.pushes == (Push(ref="refs/heads/x", before="", after=B),)
    assert json.loads(request.body)["pushes"][1]["before"] == "0" * 40


@pytest.mark.parametrize(
    "ref", ["refs/heads/feature/-x", "refs/tags/é", "refs/heads/" + "/".join(["part" * 20] * 7)], ids=ascii
)
def test_every_ref_that_git_can_have_is_taken(ref: str) -> None:
    """The receiver's names are those that the chain can build."""
    found = read("standard", edited(sample("standard", "source-push"), **pushes(ref=ref)))

    assert [push.ref for push in found.pushes] == [ref]
