from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from delivery_chain.core.events.notification import Notification
from delivery_chain.core.events.push import Push
from delivery_chain.senders.base import Request
from delivery_chain.senders.table import SENDERS
from support.webhook_samples import NOW, edited, read, sample, standard_of, why_not, with_headers

COMMIT, BEFORE, TAGGED = (
    "da1560886d4f094c3e6c9ef40349f7d38b5d27d7",
    "95790bf891e76fee5e1747ab589903a6a1f80f22",
    "82b3d5ae55f7080f1e6022629cdb57bfae7cccc7",
)
ID = "f5e57caf-6b20-4a40-a4a7-0d1e2f3a4b0"
HOOK = "1ba8af4b-0c2f-4ad4-b4b5-9d2d7f1c3a55"
PUSH = Notification(
    event="Push Hook",
    delivery_id=ID + "1",
    hook=HOOK,
    repositories=(
        "mike/diaspora",
        "http://example.com/mike/diaspora.git",
        "git@example.com:mike/diaspora.git",
        "http://example.com/mike/diaspora",
    ),
    pushes=(Push(ref="refs/heads/master", before=BEFORE, after=COMMIT),),
    actor="jsmith",
)
TAG = Notification(
    event="Tag Push Hook",
    delivery_id=ID + "2",
    hook=HOOK,
    repositories=(
        "jsmith/example",
        "http://example.com/jsmith/example.git",
        "git@example.com:jsmith/example.git",
        "http://example.com/jsmith/example",
    ),
    pushes=(Push(ref="refs/tags/v1.0.0", before="", after=TAGGED),),
    actor="jsmith",
)


@pytest.mark.parametrize(("case", "expected"), [("push", PUSH), ("tag-push", TAG)])
def test_pushes(case: str, expected: Notification) -> None:
    """GitLab's documented pushes of a branch and of a tag."""
    assert read("gitlab", sample("gitlab", case)) == expected


@pytest.mark.parametrize(
    ("changes", "push"),
    [
        # An annotated tag: `after` is the tag object, `checkout_sha` the commit.
        ({"after": "d" * 40}, Push(ref="refs/tags/v1.0.0", before="", after=TAGGED)),
        (
            {"after": "d" * 40, "checkout_sha": None},
            Push(ref="refs/tags/v1.0.0", before="", after="d" * 40, peeled=False),
        ),
        ({"before": "d" * 40}, Push(ref="refs/tags/v1.0.0", before="d" * 40, after=TAGGED)),
        (
            {"before": TAGGED, "after": "0" * 40, "checkout_sha": None},
            Push(ref="refs/tags/v1.0.0", before=TAGGED, after=""),
        ),
        (
            {
                "ref": "refs/heads/x",
                "object_kind": "push",
                "before": TAGGED,
                "after": "0" * 40,
                "checkout_sha": None,
            },
            Push(ref="refs/heads/x", before=TAGGED, after=""),
        ),
        ({"ref": "refs/heads/x", "after": "e" * 40}, Push(ref="refs/heads/x", before="", after="e" * 40)),
    ],
)
def test_other_pushes(changes: dict[str, Any], push: Push) -> None:
    """Annotated, moved and deleted tags, and a deleted branch."""
    found = read("gitlab", edited(sample("gitlab", "tag-push"), **changes))
    assert found == TAG.model_copy(update={"pushes": (push,)})


def test_system_hooks() -> None:
    """A system hook reports the same push under its own event name."""
    request = with_headers(sample("gitlab", "push"), {"x-gitlab-event": "System Hook"})
    assert read("gitlab", request) == PUSH.model_copy(update={"event": "System Hook"})


@pytest.mark.parametrize(
    ("case", "changes", "ignored"),
    [
        ("merge-request", {}, "merge requests start no chain"),
        ("note", {}, "comments start no chain"),
        ("note", {"object_kind": "pipeline"}, "'pipeline' events start no chain"),
        (
            "note",
            {"object_kind": None, "event_name": "project_create"},
            "'project_create' events start no chain",
        ),
        ("note", {"object_kind": None, "event_name": "repository_update"}, "the push event reports the same"),
        ("note", {"object_kind": ["push"]}, "'Note Hook' events start no chain"),
    ],
)
def test_ignored(case: str, changes: dict[str, Any], ignored: str) -> None:
    """Events that are no push are answered, and say why nothing is run."""
    found = read("gitlab", edited(sample("gitlab", case), **changes))
    assert (found.ignored, found.pushes, found.repositories) == (ignored, (), ())


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ID + "1"),
        ({"webhook-id": "signed"}, "signed"),
        ({"idempotency-key": ""}, "13792a34-cac6-4fda-95a8-c58e00a39541"),
    ],
)
def test_ids(headers: dict[str, str], expected: str) -> None:
    """The id that keeps through retries comes first, and of these the one that is signed."""
    assert read("gitlab", with_headers(sample("gitlab", "push"), headers)).delivery_id == expected


def test_old_gitlab() -> None:
    """Where no id is sent, the body is its own."""
    request = sample("gitlab", "push")
    old = Request(headers={"x-gitlab-event": "Push Hook"}, body=request.body)
    assert read("gitlab", old).delivery_id == hashlib.sha256(request.body).hexdigest()


def test_token_is_no_signing_token() -> None:
    """A secret token does not sign, unless the request is signed with it: each is a proof of its own."""
    request = sample("gitlab", "push")
    signature = standard_of("e1", request.body, key=b"plain")
    stamp = {"webhook-id": "e1", "webhook-timestamp": str(int(NOW.timestamp()))}
    signed = with_headers(request, stamp | {"webhook-signature": signature, "x-gitlab-token": "other"})
    assert SENDERS["gitlab"].authentic(signed, "plain", NOW)
    assert SENDERS["gitlab"].authentic(signed, "other", NOW)
    assert not SENDERS["gitlab"].authentic(replace(signed, body=b"{}"), "plain", NOW)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ref": "-x"}, "400 expected a full git ref such as refs/heads/main, found '-x'"),
        ({"ref": {}}, "400 expected a full git ref"),
        ({"after": 1}, "400 the payload is not valid for this sender: pushes.0.after: "),
        ({"checkout_sha": "HEAD"}, "400 the payload is not valid for this sender: pushes.0.after: "),
        ({"project": "x"}, "400 the payload names no repository"),
        ({"project": {"path_with_namespace": []}}, "400 the payload names no repository"),
    ],
)
def test_refusals(changes: dict[str, Any], why: str) -> None:
    """What GitLab does not send is refused whole, in one line that says what was wrong."""
    assert why_not("gitlab", edited(sample("gitlab", "tag-push"), **changes)).startswith(why)


def test_no_event() -> None:
    """Neither a header nor the body say what happened."""
    why = "400 the request names no event: no X-Gitlab-Event, no `object_kind`"
    assert why_not("gitlab", Request(headers={}, body=b"{}")) == why
