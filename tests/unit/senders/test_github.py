from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from delivery_chain.core.events.notification import Notification
from delivery_chain.core.events.push import Push
from support.webhook_samples import edited, read, sample, why_not, with_headers

COMMIT, TAG, ZEROS = "6113728f27ae82c7b1a177c8d03f9e96e0adf246", "d" * 40, "0" * 40
PLACES = (
    "Codertocat/Hello-World",
    "https://github.com/Codertocat/Hello-World.git",
    "git@github.com:Codertocat/Hello-World.git",
    "git://github.com/Codertocat/Hello-World.git",
    "https://github.com/Codertocat/Hello-World",
)
KNOWN: dict[str, Any] = {
    "event": "push",
    "hook": "292430182",
    "repositories": PLACES,
    "actor": "Codertocat",
    "pushed_at": datetime(2019, 5, 15, 15, 20, 57, tzinfo=UTC),
}
ID = "72d3162e-cc78-11e3-81ab-4c9367dc09"


@pytest.mark.parametrize(
    ("case", "number", "push"),
    [
        ("tag-created", "50", Push(ref="refs/tags/simple-tag", before="", after=COMMIT)),
        ("tag-deleted", "51", Push(ref="refs/tags/simple-tag", before=COMMIT, after="")),
        ("branch-created", "52", Push(ref="refs/heads/master", before="", after=COMMIT)),
    ],
)
def test_pushes(case: str, number: str, push: Push) -> None:
    """What GitHub sent for a new tag, a deleted one and a new branch."""
    assert read("github", sample("github", case)) == Notification(
        **KNOWN, delivery_id=ID + number, pushes=(push,)
    )


@pytest.mark.parametrize(
    ("changes", "push"),
    [
        (
            {"ref": "refs/heads/main", "before": "a" * 40, "after": COMMIT, "created": False},
            Push(ref="refs/heads/main", before="a" * 40, after=COMMIT),
        ),
        (
            {"ref": "refs/heads/main", "before": COMMIT, "after": ZEROS, "head_commit": None},
            Push(ref="refs/heads/main", before=COMMIT, after=""),
        ),
        # An annotated tag: `after` is the tag object, `head_commit` the commit.
        ({"after": TAG}, Push(ref="refs/tags/simple-tag", before="", after=COMMIT)),
        ({"before": TAG}, Push(ref="refs/tags/simple-tag", before=TAG, after=COMMIT)),
        # A tag of something else than a commit.
        (
            {"after": TAG, "head_commit": None},
            Push(ref="refs/tags/simple-tag", before="", after=TAG, peeled=False),
        ),
        (
            {"after": "b" * 64, "before": "0" * 64, "head_commit": None},
            Push(ref="refs/tags/simple-tag", before="", after="b" * 64, peeled=False),
        ),
        # A branch's head is its own word.
        (
            {"ref": "refs/heads/main", "after": "e" * 40},
            Push(ref="refs/heads/main", before="", after="e" * 40),
        ),
    ],
)
def test_other_pushes(changes: dict[str, Any], push: Push) -> None:
    """The same delivery with other refs and ids: moved and deleted branches, annotated tags, SHA-256."""
    found = read("github", edited(sample("github", "tag-created"), **changes))
    assert found == Notification(**KNOWN, delivery_id=ID + "50", pushes=(push,))


@pytest.mark.parametrize(
    ("case", "event", "number", "ignored"),
    [
        ("ping", "ping", "53", "a ping: the webhook works"),
        ("create", "create", "54", "the push event reports the same"),
        ("pull-request", "pull_request", "55", "pull requests start no chain"),
    ],
)
def test_ignored(case: str, event: str, number: str, ignored: str) -> None:
    """Events that are no push are answered, and say why nothing is run."""
    found = read("github", sample("github", case))
    expected = Notification(
        event=event, delivery_id=ID + number, hook="292430182", actor="Codertocat", ignored=ignored
    )
    assert found == expected


def test_form() -> None:
    """A form as GitHub sent it."""
    assert read("github", sample("github", "ping-form")) == Notification(
        event="ping",
        delivery_id="44840d80-36a8-11e7-89d0-954e94e187c2",
        actor="brettcannon",
        ignored="a ping: the webhook works",
    )


def test_unknown_events() -> None:
    """An event of which nothing is known is ignored."""
    request = with_headers(sample("github", "ping"), {"x-github-event": "sub_issues"})
    assert read("github", request).ignored == "'sub_issues' events start no chain"


def test_packages() -> None:
    """Events of GitHub's registry are read as images, under the same id."""
    package = {
        "package_type": "CONTAINER",
        "name": "api",
        "owner": {"login": "Shop"},
        "package_version": {
            "version": "sha256:" + "a" * 64,
            "container_metadata": {"tag": {"name": "v1"}},
        },
    }
    request = edited(sample("github", "ping"), action="published", registry_package=package)
    found = read("github", with_headers(request, {"x-github-event": "registry_package"}))
    assert found.pushes == (Push.of_image(name="shop/api", tag="v1", digest="sha256:" + "a" * 64),)
    assert (found.delivery_id, found.ignored) == (ID + "53", "")


@pytest.mark.parametrize("pushed_at", [None, True, 0, -1, 2**40, 1.5, "2019-05-15T15:20:57Z", []])
def test_other_times(pushed_at: object) -> None:
    """Only whole seconds are the push's time, as GitHub writes them in this event."""
    repository = json.loads(sample("github", "tag-created").body)["repository"] | {"pushed_at": pushed_at}
    assert read("github", edited(sample("github", "tag-created"), repository=repository)).pushed_at is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ref": None}, "400 expected a full git ref such as refs/heads/main, found 'None'"),
        ({"ref": "main"}, "400 expected a full git ref such as refs/heads/main, found 'main'"),
        ({"ref": "-x"}, "400 expected a full git ref such as refs/heads/main, found '-x'"),
        ({"ref": ["refs/heads/x"]}, "400 expected a full git ref"),
        ({"ref": "refs/heads/a b"}, "400 the payload is not valid for this sender: pushes.0.ref: "),
        ({"ref": "refs/heads/a\nb"}, "400 the payload is not valid for this sender: pushes.0.ref: "),
        ({"ref": "refs/heads/" + "a" * 2000}, "400 the payload is not valid for this sender: pushes.0.ref: "),
        ({"before": "abc"}, "400 the payload is not valid for this sender: pushes.0.before: "),
        ({"before": 7}, "400 the payload is not valid for this sender: pushes.0.before: "),
        ({"after": None}, "400 the payload is not valid for this sender: pushes.0.after: "),
        ({"after": "A" * 40}, "400 the payload is not valid for this sender: pushes.0.after: "),
        (
            {"after": TAG + "\n", "head_commit": None},
            "400 the payload is not valid for this sender: pushes.0.after: ",
        ),
        ({"head_commit": {"id": "main"}}, "400 the payload is not valid for this sender: pushes.0.after: "),
        ({"repository": None}, "400 the payload names no repository"),
        ({"repository": {"full_name": 7}}, "400 the payload names no repository"),
        (
            {"repository": {"full_name": "a" * 2001}},
            "400 the payload is not valid for this sender: repositories.0: ",
        ),
    ],
)
def test_refusals(changes: dict[str, Any], why: str) -> None:
    """What GitHub does not send is refused whole, in one line that says what was wrong."""
    assert why_not("github", edited(sample("github", "tag-created"), **changes)).startswith(why)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("x-github-event", "", "400 the request has no header X-GitHub-Event"),
        ("x-github-delivery", "", "400 the request has no header X-GitHub-Delivery"),
        ("x-github-delivery", "x" * 201, "400 the payload is not valid for this sender: delivery_id: "),
        ("x-github-event", "x" * 201, "400 the payload is not valid for this sender: event: "),
        ("x-github-hook-id", "x" * 201, "400 the payload is not valid for this sender: hook: "),
    ],
)
def test_headers(name: str, value: str, why: str) -> None:
    """Headers that are missing, or longer than GitHub's, are named."""
    assert why_not("github", with_headers(sample("github", "tag-created"), {name: value})).startswith(why)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "400 the body is not JSON: "),
        (b"[]", "400 expected a JSON object, found list"),
        (b"{} {}", "400 the body is not JSON: "),
        (b"\xff", "400 the body is not JSON: "),
        (b'{"ref": NaN}', "400 the body is not JSON: "),
        (b'{"ref": "\\ud800"}', "400 the body is not JSON: "),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "400 the body is not JSON: "),
        (b"[" * 1000000, "400 the body is not JSON: "),
        (b'{"a": ' + b"9" * 10000 + b"}", "400 "),
    ],
    ids=["empty", "list", "two", "bytes", "NaN", "surrogate", "deep", "deep list", "number"],
)
def test_bodies(body: bytes, why: str) -> None:
    """What is not a JSON object is refused, however deep or large it is."""
    assert why_not("github", replace(sample("github", "tag-created"), body=body)).startswith(why)


def test_a_nul_in_a_name_is_dropped() -> None:
    """PostgreSQL stores none: the delivery would fail, and be sent again, forever."""
    request = edited(sample("github", "tag-created"), pusher={"name": "a\0b"})
    assert read("github", request).actor == "ab"
