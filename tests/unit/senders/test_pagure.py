from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.events.notification import Notification
from delivery_chain.core.events.push import Push
from delivery_chain.senders.base import receive
from delivery_chain.senders.table import SENDERS
from support.webhook_samples import SECRET, cases, origin, read, sample, why_not, with_headers

if TYPE_CHECKING:
    from delivery_chain.senders.base import Request

CASES = [case for sender, case in cases() if sender == "pagure"]
NOW = datetime(2026, 11, 23, 16, 30, tzinfo=UTC)
FIRST, SECOND, THIRD = (
    "27bafd3cdb6c836ca3a1db7e9de14f23017c1654",
    "402fa905a136fd14737939501fb043d0b557ac6d",
    "d667dd88a602f73e009cf30764295db872dcf607",
)
FEATURE, TAGGED, MOVED = (
    "50128fe41d3d6d4705efec3c73ed6edf3d01b0b8",
    "552192efa619c6fa6892faa365545fc5e7938fa5",
    "cdf91d2aa6c7026b4c0e4b87839f4e1765e07472",
)
OBJECT, SECOND_OBJECT = (
    "522b2159ee9b92da52d4720177b1701dc7aaa0c4",
    "b57782115a2eef973efa07d2134b216caf4e0439",
)
NOT_YET = "the creation of the branch or tag reports the same"


def told(topic: str, message_id: str, said: int | Push | str = "", at: int = 0) -> Notification:
    """What the samples have in common: a push at a time, or why there is nothing to do."""
    known: dict[str, Any] = {"event": topic, "delivery_id": f"2026-{message_id}", "actor": "robot"}
    if isinstance(said, str):
        return Notification(**known, ignored=said)
    return Notification(
        **known,
        repositories=("shop", "https://pagure.example.com/shop"),
        pushes=(said,) if isinstance(said, Push) else (),
        pushed_at=datetime.fromtimestamp(1795450000 + at, UTC),
    )


EXPECTED = {
    "first-push-created": told(
        "git.branch.creation",
        "c0c74d5c-1bce-421b-bffd-f3c3f90f2fc2",
        Push(ref="refs/heads/main", before="", after=FIRST),
        209,
    ),
    "first-push": told("git.receive", "8b2ef15d-34de-4318-a4c5-9ba38bb0b7df", NOT_YET),
    "branch-push": told(
        "git.receive",
        "84dff46b-0705-40e6-ad78-6458d44bee36",
        Push(ref="refs/heads/main", before=FIRST, after=SECOND),
        214,
    ),
    "branch-created-with-commits": told(
        "git.branch.creation",
        "73ab81db-db37-47c2-adb7-3c4780a99330",
        Push(ref="refs/heads/feature/über", before="", after=FEATURE),
        220,
    ),
    "branch-created-with-commits-receive": told(
        "git.receive", "9a5f71d7-0977-45df-b9d1-6a987f337ab1", NOT_YET
    ),
    "branch-created": told(
        "git.branch.creation",
        "593ba8bd-27cd-4066-afab-aad257e37cd4",
        Push(ref="refs/heads/release", before="", after=SECOND),
        225,
    ),
    # `old_commit` is not where the branch was.
    "forced-push": told(
        "git.receive",
        "3662fb91-f215-46a9-b1fa-eda058452752",
        Push(ref="refs/heads/main", before=None, after=THIRD),
        231,
    ),
    "tag-created": told(
        "git.tag.creation",
        "0f15fb47-04ac-4925-8b53-a3c30d5a729e",
        Push(ref="refs/tags/v1.0", before="", after=TAGGED, peeled=False),
        245,
    ),
    "annotated-tag-created": told(
        "git.tag.creation",
        "bd9d36ed-2d75-4850-ac4f-b744e6e35397",
        Push(ref="refs/tags/v1.1", before="", after=OBJECT, peeled=False),
        257,
    ),
    "tag-with-commits-created": told(
        "git.tag.creation",
        "e39d6de7-cd15-44f3-96dc-fdab970b179d",
        Push(ref="refs/tags/v2.0", before="", after=SECOND_OBJECT, peeled=False),
        268,
    ),
    "tag-with-commits-receive": told("git.receive", "425ca4ba-4586-4980-87ab-66ea2b101d37", NOT_YET),
    "tag-moved": told(
        "git.receive",
        "194e42d1-5e6c-493f-8ca6-5fec2f66fe5c",
        Push(ref="refs/tags/v1.0", before=None, after=MOVED),
        278,
    ),
    "annotated-tag-moved": told(
        "git.receive",
        "598e1f86-9fa2-41e7-bef8-dcf3ba4d7199",
        Push(ref="refs/tags/v1.1", before=None, after=MOVED),
        287,
    ),
    "tag-deleted": told(
        "git.tag.deletion",
        "0ae78c21-bb1d-4f5f-a7fb-55e80c62f1c6",
        Push(ref="refs/tags/v1.0", before=None, after=""),
        296,
    ),
    "annotated-tag-deleted": told(
        "git.tag.deletion",
        "0ad121b1-530b-4699-93f6-fcdd609b99db",
        Push(ref="refs/tags/v1.1", before=None, after=""),
        305,
    ),
    "branch-deleted": told(
        "git.branch.deletion",
        "3bb0ac44-8d0b-4620-a759-d541f2288ad5",
        Push(ref="refs/heads/release", before=SECOND, after=""),
        316,
    ),
    "project-edit": told(
        "project.edit",
        "2405a312-fe66-4460-9601-f4e57498ee74",
        "'project.edit' events start no chain",
    ),
    "test-notification": told(
        "Test.notification", "90eaff63-4869-4fab-9d56-5de09fabb82a", "a ping: the webhook works"
    ).model_copy(update={"actor": ""}),
}


def said(case: str, **changes: Any) -> Request:
    """A sample with other values in its message; None takes one away."""
    request = sample("pagure", case)
    payload = json.loads(request.body)
    message = {name: value for name, value in (payload["msg"] | changes).items() if value is not None}
    return replace(request, body=json.dumps(payload | {"msg": message}).encode())


def around(case: str, **changes: Any) -> Request:
    """A sample with other values around its message."""
    request = sample("pagure", case)
    return replace(request, body=json.dumps(json.loads(request.body) | changes).encode())


@pytest.mark.parametrize("case", CASES)
def test_each_recorded_request(case: str) -> None:
    """What Pagure sent, signed with the token that it had made, is read whole."""
    [token] = re.findall(r"Signed with `(\w+)`", origin("pagure", case))
    assert receive(SENDERS["pagure"], sample("pagure", case), [token], NOW) == EXPECTED[case]


def test_each_sample_is_expected() -> None:
    """Every sample has an expectation, and every expectation a sample."""
    assert sorted(EXPECTED) == CASES


@pytest.mark.parametrize("case", CASES)
def test_only_the_body_counts(case: str) -> None:
    """Only the signature header is read, because the others are not signed."""
    request = sample("pagure", case)
    headers = {name: value for name, value in request.headers.items() if name == "x-pagure-signature-256"}
    lies = {"x-pagure-topic": "git.tag.creation", "x-pagure-project": "bank", "x-pagure": "https://x/"}
    for other in (headers, headers | lies):
        assert read("pagure", replace(request, headers=other)) == EXPECTED[case]


@pytest.mark.parametrize("name", ["x-pagure-signature", "x-pagure-signature-256"])
@pytest.mark.parametrize("prefix", ["", "sha1=", "sha256="])
def test_other_signatures(name: str, prefix: str) -> None:
    """SHA-1 proves nothing under any name, and SHA-256 only as Pagure writes it."""
    request = replace(sample("pagure", "branch-push"), headers={})
    for kind in (hashlib.sha1, hashlib.sha256):
        proof = hmac.new(SECRET.encode(), request.body, kind).hexdigest()
        found = SENDERS["pagure"].authentic(with_headers(request, {name: prefix + proof}), SECRET, NOW)
        assert found is ((kind, name, prefix) == (hashlib.sha256, "x-pagure-signature-256", ""))


def test_a_fork_in_a_namespace() -> None:
    """A fork's clone address and its page have different names; each that Pagure has is a place."""
    repository = {"fullname": "forks/mona/shop/api", "url_path": "fork/mona/shop/api"}
    found = read("pagure", said("branch-push", project_fullname="forks/mona/shop/api", repo=repository))
    assert found.repositories == ("forks/mona/shop/api", "https://pagure.example.com/fork/mona/shop/api")


@pytest.mark.parametrize(
    ("case", "changes", "push"),
    [
        # Without a word about force the old commit may be anything.
        (
            "branch-push",
            {"forced": None},
            Push(ref="refs/heads/main", before=None, after=SECOND),
        ),
        (
            "tag-moved",
            {"forced": True},
            Push(ref="refs/tags/v1.0", before=None, after=MOVED),
        ),
        (
            "tag-created",
            {"tag": "refs/heads/main"},
            Push(ref="refs/tags/refs/heads/main", before="", after=TAGGED, peeled=False),
        ),
        (
            "branch-push",
            {"branch": "v1.0"},
            Push(ref="refs/heads/v1.0", before=FIRST, after=SECOND),
        ),
    ],
)
def test_other_pushes(case: str, changes: dict[str, Any], push: Push) -> None:
    """Refs that are named like others, and what is not said."""
    assert read("pagure", said(case, **changes)).pushes == (push,)


@pytest.mark.parametrize(
    ("changes", "ignored"),
    [
        ({"old_commit": "^" + FIRST}, NOT_YET),
        ({"branch": "refs/notes/commits"}, "neither a branch nor a tag"),
        # `git rev-list old...new` has the commits of both sides where nothing joins them.
        (
            {"forced": True, "old_commit": SECOND},
            "the push does not say where the branch is now; a sensor finds it",
        ),
    ],
)
def test_nothing_to_do(changes: dict[str, Any], ignored: str) -> None:
    """A push that tells of no branch or tag for sure is left to others."""
    found = read("pagure", said("branch-push", **changes))
    assert found == told("git.receive", "84dff46b-0705-40e6-ad78-6458d44bee36", ignored)


@pytest.mark.parametrize(
    ("topic", "ignored"),
    [
        ("pull-request.new", "pull requests start no chain"),
        ("issue.comment.added", "'issue.comment.added' events start no chain"),
        ("git.branch", "'git.branch' events start no chain"),
    ],
)
def test_other_topics(topic: str, ignored: str) -> None:
    """What is no push starts nothing."""
    assert read("pagure", around("branch-push", topic=topic)).ignored == ignored


@pytest.mark.parametrize("timestamp", [None, "1795450214", 0, -1, 2**40, True, 1795450214.5, {}])
def test_other_times(timestamp: object) -> None:
    """What is no whole number of seconds is no time."""
    assert read("pagure", around("branch-push", timestamp=timestamp)).pushed_at is None


NO_NAME = "400 the payload has no `topic` or no `msg_id`: not a Pagure payload"
WRONG = "400 the payload is not valid for this sender: "


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (around("branch-push", topic=None), NO_NAME),
        (around("branch-push", topic=["git.receive"]), NO_NAME),
        (around("branch-push", msg_id=""), NO_NAME),
        (around("branch-push", msg_id=7), NO_NAME),
        (around("branch-push", msg=None), "400 expected `msg.branch` to name a branch, found 'None'"),
        (around("tag-created", msg="x"), "400 expected `msg.tag` to name a tag, found 'None'"),
        (said("branch-push", branch=""), "400 expected `msg.branch` to name a branch, found ''"),
        (
            said("branch-push", branch=["main"]),
            "400 expected `msg.branch` to name a branch, found \"['main']\"",
        ),
        (said("branch-push", branch="../x"), WRONG + "pushes.0.ref: "),
        (said("branch-push", branch="x" * 2000), WRONG + "pushes.0.ref: "),
        (said("branch-push", end_commit=None), WRONG + "pushes.0.after: "),
        (said("branch-push", end_commit="HEAD"), WRONG + "pushes.0.after: "),
        (said("tag-moved", end_commit=7), WRONG + "pushes.0.after: "),
        (said("branch-push", old_commit="x"), WRONG + "pushes.0.before: "),
        (said("branch-push", old_commit={}), WRONG + "pushes.0.before: "),
        (said("branch-created", branch=None), "400 expected `msg.branch` to name a branch"),
        (said("tag-created", tag="-x y"), WRONG + "pushes.0.ref: "),
        (said("tag-created", rev=None), WRONG + "pushes.0.after: "),
        (said("tag-created", rev="v1"), WRONG + "pushes.0.after: "),
        (said("branch-deleted", rev=7), WRONG + "pushes.0.before: "),
        (
            said("branch-push", project_fullname=None, repo=None),
            "400 the payload names no repository",
        ),
        (said("branch-push", project_fullname=7, repo=[]), "400 the payload names no repository"),
    ],
)
def test_refusals(request_: Request, why: str) -> None:
    """What Pagure does not send is refused whole, in one line that says what was wrong."""
    assert why_not("pagure", request_).startswith(why)
