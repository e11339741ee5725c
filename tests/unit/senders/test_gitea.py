from __future__ import annotations

import hashlib
from typing import Any

import pytest

from delivery_chain.core.events.notification import Notification
from delivery_chain.core.events.push import Push
from support.webhook_samples import edited, read, sample, why_not, with_headers

BEFORE, COMMIT = "9836a96a253cce25d17988fcf41b8c4205cf779f", "4522cbcefc20728a5b72b3a86af35e608622c514"
TAG, ZEROS = "d9b1d2a4c5e6f708192a3b4c5d6e7f8091a2b3c4", "0" * 40
HOSTS = {"gitea": "git.example.com", "forgejo": "forge.example.org", "gogs": "gogs.example.net"}


def told(sender: str, case: str, event: str, **more: Any) -> Notification:
    """What the samples have in common."""
    host = HOSTS[sender]
    known: dict[str, Any] = {
        "event": event,
        "delivery_id": hashlib.sha256(sample(sender, case).body).hexdigest(),
        "actor": "mona",
    }
    if "ignored" not in more:
        known["repositories"] = (
            "shop/api",
            f"https://{host}/shop/api.git",
            f"git@{host}:shop/api.git",
            f"https://{host}/shop/api",
        )
    return Notification(**known, **more)


@pytest.mark.parametrize(
    ("sender", "case", "event", "push"),
    [
        ("gitea", "push", "push", Push(ref="refs/heads/main", before=BEFORE, after=COMMIT)),
        ("forgejo", "push", "push", Push(ref="refs/heads/main", before=BEFORE, after=COMMIT)),
        ("gogs", "push", "push", Push(ref="refs/heads/main", before=BEFORE, after=COMMIT)),
        ("gitea", "branch-deleted", "push", Push(ref="refs/heads/wip", before=COMMIT, after="")),
        # `after` is the tag object there; and zeros in `before` do not say that the tag is new.
        ("gitea", "tag-annotated", "push", Push(ref="refs/tags/v1.2.0", before=None, after=COMMIT)),
        ("gitea", "tag-deleted", "push", Push(ref="refs/tags/v1.2.0", before=TAG, after="")),
        (
            "gogs",
            "tag-created",
            "create",
            Push(ref="refs/tags/v1.2.0", before=None, after=COMMIT, peeled=False),
        ),
        ("gogs", "tag-deleted", "delete", Push(ref="refs/tags/v1.2.0", before=None, after="")),
        ("gogs", "branch-deleted", "delete", Push(ref="refs/heads/wip", before=None, after="")),
    ],
)
def test_pushes(sender: str, case: str, event: str, push: Push) -> None:
    """Branches and tags that moved, and how Gogs tells of those without a push event."""
    assert read(sender, sample(sender, case)) == told(sender, case, event, pushes=(push,))


@pytest.mark.parametrize(
    ("sender", "case", "event", "ignored"),
    [
        ("gitea", "create", "create", "the push event reports the same"),
        ("gogs", "branch-created", "create", "the push event reports the same"),
        ("gitea", "pull-request", "pull_request", "pull requests start no chain"),
        ("gitea", "test", "push", "a test: no ref moved"),
    ],
)
def test_ignored(sender: str, case: str, event: str, ignored: str) -> None:
    """An event that reports no push, or one that is reported twice, gives the reason why it starts no run."""
    assert read(sender, sample(sender, case)) == told(sender, case, event, ignored=ignored)


def test_a_new_branch() -> None:
    """Zeros in a branch's `before` are true."""
    found = read("gitea", edited(sample("gitea", "push"), before=ZEROS))
    assert found.pushes == (Push(ref="refs/heads/main", before="", after=COMMIT),)


def test_a_replay() -> None:
    """A replay has the same body under a new UUID: it is the same event. Another body is another one."""
    request = sample("gitea", "push")
    again = with_headers(request, {"x-gitea-delivery": "another", "x-gogs-delivery": "another"})
    assert read("gitea", again) == read("gitea", request)
    assert read("gitea", edited(request)).delivery_id != read("gitea", request).delivery_id


def test_gitea_without_head_commit() -> None:
    """Gitea before 1.16 sends no `head_commit` with a tag: what it points at is given as it is."""
    found = read("gitea", edited(sample("gitea", "tag-annotated"), head_commit=None))
    assert found.pushes == (Push(ref="refs/tags/v1.2.0", before=None, after=TAG, peeled=False),)


def test_old_gogs() -> None:
    """Old versions of Gogs name a new tag and not what it points at."""
    found = read("gogs", edited(sample("gogs", "tag-created"), sha=""))
    assert found.ignored == "this version of Gogs names no commit; a sensor finds the tag"


@pytest.mark.parametrize(
    ("sender", "case", "changes", "why"),
    [
        ("gitea", "push", {"ref": "-x"}, "400 expected a full git ref such as refs/heads/main, found '-x'"),
        ("gitea", "push", {"ref": None}, "400 expected a full git ref"),
        ("gitea", "push", {"before": {}}, "400 the payload is not valid for this sender: pushes.0.before: "),
        ("gitea", "push", {"after": "x"}, "400 the payload is not valid for this sender: pushes.0.after: "),
        ("gitea", "push", {"repository": []}, "400 the payload names no repository"),
        (
            "gogs",
            "tag-created",
            {"ref": "../x"},
            "400 the payload is not valid for this sender: pushes.0.ref: ",
        ),
        ("gogs", "tag-created", {"ref": 7}, "400 the payload is not valid for this sender: pushes.0.ref: "),
        ("gogs", "tag-created", {"sha": 7}, "400 the payload is not valid for this sender: pushes.0.after: "),
        ("gogs", "tag-deleted", {"ref_type": "note"}, "400 expected `ref_type` to be branch or tag"),
        ("gogs", "tag-deleted", {"ref_type": []}, "400 expected `ref_type` to be branch or tag"),
        (
            "gogs",
            "tag-deleted",
            {"ref": "a" * 1500},
            "400 the payload is not valid for this sender: pushes.0.ref: ",
        ),
    ],
)
def test_refusals(sender: str, case: str, changes: dict[str, Any], why: str) -> None:
    """What these forges do not send is refused whole, in one line that says what was wrong."""
    assert why_not(sender, edited(sample(sender, case), **changes)).startswith(why)


def test_no_event() -> None:
    """A request that does not name its event is refused."""
    request = with_headers(sample("gitea", "push"), {"x-gitea-event": "", "x-gogs-event": ""})
    why = "400 the request has no header X-Gitea-Event, X-Forgejo-Event or X-Gogs-Event"
    assert why_not("gitea", request) == why
