from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from delivery_chain.core.events.notification import MOST_PUSHES, Notification
from delivery_chain.core.events.push import Push
from support.webhook_samples import edited, read, sample, why_not, with_headers

A, B, C = (
    "9836a96a253cce25d17988fcf41b8c4205cf779f",
    "4522cbcefc20728a5b72b3a86af35e608622c514",
    "6dcb09b5b57875f334f61aebed695e2e4193db5e",
)
TAG = "d9b1d2a4c5e6f708192a3b4c5d6e7f8091a2b3c4"
CLOUD: dict[str, Any] = {
    "event": "repo:push",
    "hook": "b4eb4d37-3c5e-4ec1-9f4b-1f1f8c11a6c0",
    "repositories": ("shop/api", "https://bitbucket.org/shop/api"),
    "actor": "mona",
}
ID = "5f0ff1a7-9d3e-4d6b-8a53-0c6f2c5b900"
DC: dict[str, Any] = {
    "event": "repo:refs_changed",
    "repositories": (
        "SHOP/api",
        "ssh://git@bitbucket.example.com:7999/shop/api.git",
        "https://bitbucket.example.com/scm/shop/api.git",
        "https://bitbucket.example.com/projects/SHOP/repos/api/browse",
    ),
    "actor": "mona",
    "pushed_at": datetime(2024, 5, 31, 16, 48, 37, tzinfo=UTC),
}
DC_ID = "7d1d9f35-52c6-4c4f-9f7c-0a5c3f1e200"


def test_many_refs() -> None:
    """One push of Cloud with a moved, a new and a deleted branch, an annotated tag and a deleted tag."""
    assert read("bitbucket", sample("bitbucket", "push-many")) == Notification(
        **CLOUD,
        delivery_id=ID + "1",
        pushes=(
            Push(ref="refs/heads/main", before=A, after=B),
            Push(ref="refs/heads/feature/new", before="", after=C),
            Push(ref="refs/heads/old", before=A, after=""),
            Push(ref="refs/tags/v1.2.0", before="", after=B),
            Push(ref="refs/tags/v0.9", before=A, after=""),
        ),
    )


def test_many_refs_of_data_center() -> None:
    """The same of Data Center, where the tag object stands for the annotated tag."""
    assert read("bitbucket-dc", sample("bitbucket-dc", "push-many")) == Notification(
        **DC,
        delivery_id=DC_ID + "1",
        pushes=(
            Push(ref="refs/heads/main", before=A, after=B),
            Push(ref="refs/heads/feature/wip", before=C, after=""),
            Push(ref="refs/tags/v1.2.0", before="", after=TAG, peeled=False),
            Push(ref="refs/tags/v0.9", before=A, after=""),
        ),
    )


def test_annotated_tag_of_data_center() -> None:
    """A tag that was pushed alone is given by the commit that Data Center names beside it."""
    assert read("bitbucket-dc", sample("bitbucket-dc", "tag-annotated")) == Notification(
        **DC, delivery_id=DC_ID + "2", pushes=(Push(ref="refs/tags/v1.2.0", before="", after=B),)
    )


def test_one_of_several() -> None:
    """With several changes the one commit beside them belongs to none for sure."""
    found = read("bitbucket-dc", edited(sample("bitbucket-dc", "push-many"), toCommit={"id": B}))
    assert found.pushes[2] == Push(ref="refs/tags/v1.2.0", before="", after=TAG, peeled=False)


@pytest.mark.parametrize(
    ("sender", "case", "expected"),
    [
        (
            "bitbucket-dc",
            "ping",
            Notification(
                event="diagnostics:ping", delivery_id=DC_ID + "3", ignored="a ping: the webhook works"
            ),
        ),
        (
            "bitbucket-dc",
            "pull-request",
            Notification(
                event="pr:opened",
                delivery_id=DC_ID + "4",
                actor="mona",
                ignored="pull requests start no chain",
            ),
        ),
        (
            "bitbucket",
            "pull-request",
            Notification(
                event="pullrequest:created",
                delivery_id=ID + "4",
                hook=CLOUD["hook"],
                actor="mona",
                ignored="pull requests start no chain",
            ),
        ),
        (
            "bitbucket",
            "push-too-many",
            Notification(
                **CLOUD, delivery_id=ID + "3", ignored="the push names no ref; a sensor finds what moved"
            ),
        ),
    ],
)
def test_ignored(sender: str, case: str, expected: Notification) -> None:
    """Pings, pull requests and pushes without a ref say why nothing is run."""
    assert read(sender, sample(sender, case)) == expected


@pytest.mark.parametrize("sender", ["bitbucket", "bitbucket-dc"])
def test_unknown_events(sender: str) -> None:
    """An event of which nothing is known is ignored."""
    request = with_headers(sample(sender, "push-many"), {"x-event-key": "repo:fork"})
    assert read(sender, request).ignored == "'repo:fork' events start no chain"


def test_a_retry() -> None:
    """The second attempt of one request is the same event."""
    request = sample("bitbucket", "push")
    assert read("bitbucket", with_headers(request, {"x-attempt-number": "2"})) == read("bitbucket", request)


@pytest.mark.parametrize("date", [None, 1717174117, "yesterday", "2024-05-31T18:48:37", ["2024"], "9" * 99])
def test_other_times(date: object) -> None:
    """A date without its zone, or of another kind, is no time."""
    assert read("bitbucket-dc", edited(sample("bitbucket-dc", "push-many"), date=date)).pushed_at is None


def test_old_data_center() -> None:
    """Versions that send no links name the repository by project and slug."""
    repository = {"slug": "api", "project": {"key": "SHOP"}}
    found = read("bitbucket-dc", edited(sample("bitbucket-dc", "push-many"), repository=repository))
    assert found.repositories == ("SHOP/api",)


def one(**side: Any) -> dict[str, Any]:
    """A push of Cloud with one change, whose new side is this."""
    return {"push": {"changes": [{"old": None, "new": side}]}}


@pytest.mark.parametrize(
    ("sender", "changes", "why"),
    [
        ("bitbucket", {"push": None}, "400 expected a list at `push.changes`, found NoneType"),
        ("bitbucket", {"push": {"changes": {}}}, "400 expected a list at `push.changes`, found dict"),
        ("bitbucket", {"push": {"changes": [1]}}, "400 expected objects only in the list `push.changes`"),
        (
            "bitbucket",
            {"push": {"changes": [{}]}},
            "400 expected each change of the push to name a branch or a tag",
        ),
        ("bitbucket", one(type="bookmark", name="x"), "400 expected each change"),
        ("bitbucket", one(type=[], name="x"), "400 expected each change"),
        ("bitbucket", one(type="branch", name=7), "400 expected each change"),
        (
            "bitbucket",
            one(type="branch", name="a..b"),
            "400 the payload is not valid for this sender: pushes.0.ref",
        ),
        (
            "bitbucket",
            one(type="branch", name="x"),
            "400 the payload is not valid for this sender: pushes.0.after",
        ),
        ("bitbucket", {"repository": {}}, "400 the payload names no repository"),
        (
            "bitbucket",
            {
                "push": {
                    "changes": [{"new": {"type": "tag", "name": "x", "target": {"hash": A}}}]
                    * (MOST_PUSHES + 1)
                }
            },
            "400 the payload is not valid for this sender: pushes: ",
        ),
        ("bitbucket-dc", {"changes": None}, "400 expected a list at `changes`, found NoneType"),
        ("bitbucket-dc", {"changes": [{}]}, "400 expected a full git ref"),
        ("bitbucket-dc", {"changes": [{"ref": {"id": "-x"}}]}, "400 expected a full git ref"),
        (
            "bitbucket-dc",
            {"changes": [{"refId": "refs/heads/x"}]},
            "400 the payload is not valid for this sender",
        ),
        (
            "bitbucket-dc",
            {"repository": {"links": {"clone": [1, {}], "self": 2}}},
            "400 the payload names no repository",
        ),
    ],
)
def test_refusals(sender: str, changes: dict[str, Any], why: str) -> None:
    """What Bitbucket does not send is refused whole, in one line that says what was wrong."""
    assert why_not(sender, edited(sample(sender, "push-many"), **changes)).startswith(why)


def test_one_bad_ref_of_many() -> None:
    """One invalid ref makes the whole delivery invalid."""
    good = {"refId": "refs/heads/x", "fromHash": A, "toHash": B}
    request = edited(sample("bitbucket-dc", "push-many"), changes=[good, good | {"refId": "refs/heads/x~1"}])
    assert why_not("bitbucket-dc", request).startswith(
        "400 the payload is not valid for this sender: pushes.1.ref: "
    )


@pytest.mark.parametrize(
    ("sender", "name"),
    [
        ("bitbucket", "X-Event-Key"),
        ("bitbucket", "X-Request-UUID"),
        ("bitbucket-dc", "X-Event-Key"),
        ("bitbucket-dc", "X-Request-Id"),
    ],
)
def test_headers(sender: str, name: str) -> None:
    """Headers that each request has are missed by name."""
    request = with_headers(sample(sender, "push-many"), {name.lower(): ""})
    assert why_not(sender, request) == f"400 the request has no header {name}"
