from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from delivery_chain.core.events.notification import Notification
from delivery_chain.core.events.push import Push
from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import Request, receive
from delivery_chain.senders.distribution import DISTRIBUTION
from support.registry_samples import NOW, SECRET, changed, sample

IMAGE = "sha256:d804ea788636af2d77cfbda06e1625a7ee9ee41c66c2d7a713f579e0868bec0c"
INDEX = "sha256:049400b1ee14a1a18bfa855815cb9965b7174a9f4006f8a01cc24a8b572224ec"
DIGEST_ONLY = "pushed without a tag, like the platforms of an index and an image's referrers"


def read(request: Request) -> Notification:
    return receive(DISTRIBUTION, request, [SECRET], NOW)


def event(case: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sample("distribution", case).body)["events"][0]
    return found


def envelope(*events: Any) -> Request:
    request = sample("distribution", "image-push")
    return Request(headers=request.headers, body=json.dumps({"events": events}).encode())


@pytest.mark.parametrize(
    ("case", "tag", "digest"), [("image-push", "v1.2.0", IMAGE), ("index-push", "v1.2.1", INDEX)]
)
def test_a_tagged_push_is_an_image(case: str, tag: str, digest: str) -> None:
    """An image and an index under a tag, as docker-registry 2.8.2 sent them."""
    recorded = event(case)
    assert read(sample("distribution", case)) == Notification(
        event="push",
        delivery_id=recorded["id"],
        pushes=(Push.of_image(name="shop/api", tag=tag, digest=digest),),
        actor="robot",
        pushed_at=datetime.fromisoformat(recorded["timestamp"]),
    )


def test_dockers_own_kinds_of_manifest_count_as_well() -> None:
    """The documented envelope with a tag: Docker's manifest is the image, the layer beside it is none."""
    request = changed(
        "distribution",
        "documented-envelope",
        events__0__target__tag="0.01",
        events__0__timestamp="2018-10-11T13:53:21.859222576Z",
    )
    found = read(request)
    assert found == Notification(
        event="push",
        delivery_id=read(sample("distribution", "documented-envelope")).delivery_id,
        pushes=(
            Push.of_image(
                name="library/test",
                tag="0.01",
                digest="sha256:fea8895f450959fa676bcc1df0611ea93823a735a01205fd8622846041d0c7cf",
            ),
        ),
        actor="test-actor",
        pushed_at=datetime(2018, 10, 11, 13, 53, 21, 859222, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("case", "action", "why"),
    [
        ("blob-push", "push", "a layer or another blob"),
        ("digest-push", "push", DIGEST_ONLY),
        ("pull", "pull", "a pull"),
        ("delete", "delete", "a deletion"),
        ("signature-push", "push", f"the tag sha256-{'a' * 64}.sig is a referrer's or the chain's own"),
    ],
)
def test_what_is_no_push_of_a_tagged_image_is_ignored(case: str, action: str, why: str) -> None:
    """Each kind of event that one push of an index causes beside the one that counts."""
    assert read(sample("distribution", case)) == Notification(
        event=action, delivery_id=event(case)["id"], actor="robot", ignored=why
    )


def test_the_documented_envelope_holds_no_image() -> None:
    """Several events in one request: both reasons are given, and the id is made from both ids."""
    ids = repr(["asdf-asdf-asdf-asdf-0", "asdf-asdf-asdf-asdf-1"]).encode()
    assert read(sample("distribution", "documented-envelope")) == Notification(
        event="push",
        delivery_id=f"sha256:{hashlib.sha256(ids).hexdigest()}",
        actor="test-actor",
        ignored=f"a layer or another blob; {DIGEST_ONLY}",
    )


def test_an_envelope_keeps_the_order_of_its_pushes() -> None:
    """Several pushes in one request are all told, the last time is the delivery's, and layers between do not matter."""
    first, second = event("image-push"), event("index-push")
    second["actor"] = {"name": "other"}
    found = read(envelope(event("pull"), first, event("blob-push"), second, first))
    assert [push.tag for push in found.pushes] == ["v1.2.0", "v1.2.1", "v1.2.0"]
    assert (found.event, found.actor, found.pushed_at, found.ignored) == (
        "pull, push",
        "",
        datetime.fromisoformat(second["timestamp"]),
        "",
    )


def test_ids_do_not_depend_on_the_bytes() -> None:
    """A redelivery has the same ids; other events have others, also with the same content."""
    request, again = sample("distribution", "image-push"), event("image-push")
    assert read(envelope(again)).delivery_id == read(request).delivery_id
    again["id"] = "another"
    assert read(envelope(again)).delivery_id == "another"
    pairs = [read(envelope(*events)).delivery_id for events in ([again, again], [again, event("pull")])]
    assert len({"another", *pairs}) == 3


@pytest.mark.parametrize(
    ("kind", "config", "why"),
    [
        (
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.cncf.helm.config.v1+json",
            "an artifact other than an image: application/vnd.cncf.helm.config.v1+json",
        ),
        (
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.empty.v1+json",
            "an artifact other than an image: application/vnd.oci.empty.v1+json",
        ),
        (
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "application/octet-stream",
            "a manifest of the kind application/vnd.docker.distribution.manifest.v1+prettyjws",
        ),
    ],
)
def test_other_artifacts_are_ignored(kind: str, config: str, why: str) -> None:
    """Charts and the like, where the registry says what a manifest refers to; and manifests of Docker schema 1."""
    request = changed(
        "distribution",
        "image-push",
        events__0__target__mediaType=kind,
        events__0__target__references__0__mediaType=config,
    )
    assert (read(request).pushes, read(request).ignored) == ((), why)


def test_without_references_the_kind_decides() -> None:
    """A registry does not report referrers unless it is configured to."""
    assert read(changed("distribution", "image-push", events__0__target__references=None)).pushes


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (envelope(), "expected one event or more at events, found none"),
        (envelope(1), "expected a list of objects at events"),
        (envelope(*[{}] * 5001), "expected at most 5000 at events, found 5001"),
        (envelope({}), "expected a text at action, found nothing"),
        (envelope({"action": ["push"]}), "expected a text at action, found list"),
        (
            changed("distribution", "image-push", events__0__id=7),
            "expected a text at id, found int",
        ),
        (
            changed("distribution", "image-push", events__0__target__repository=None),
            "expected a text at target.repository, found nothing",
        ),
        (
            changed("distribution", "image-push", events__0__target__tag="-v"),
            (
                "the payload names no valid image: Value error, tag '-v': expected 1 to 128 characters of "
                "[A-Za-z0-9_.-], the first not . or -"
            ),
        ),
        (
            changed("distribution", "image-push", events__0__target__tag=["v1"]),
            "the payload names no valid image: Input should be a valid string",
        ),
        (
            changed("distribution", "image-push", events__0__target__digest="sha256:1"),
            "the payload names no valid image: Value error, digest 'sha256:1': expected sha256: and 64 hex digits",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_other_shapes_are_refused(request_: Request, message: str) -> None:
    """One clear line says what is missing or wrong."""
    with pytest.raises(WebhookRefused) as refused:
        read(request_)
    assert (refused.value.status, str(refused.value)) == (400, message)
