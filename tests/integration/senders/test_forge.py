"""A real forge: pushes to Pagure, and the webhooks that it sends."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from support.clones import Clone
from support.forge import BRANCH, REPOSITORY, Forge, forge, missing
from support.webhook_target import Got, Target, answer, webhook_target

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(missing()), reason=missing())]
HEARD_S = 60
NEW = "^" + "0" * 40
"""The old commit that Pagure sends for a new branch or tag."""


@dataclass(frozen=True, slots=True)
class Work(Clone):
    """A clone with a forge to push to, and the forge's webhooks."""

    forge: Forge
    target: Target

    def push(self, *references: str, told: int) -> list[Got]:
        """Push, and wait for this many requests."""
        before = len(self.target.got)
        self.git("push", "-q", self.forge.clone_url, *references)
        deadline = time.monotonic() + HEARD_S
        while len(self.target.got) < before + told and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.target.got[before:]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    """A forge after one push."""
    with webhook_target() as target, forge(tmp_path_factory.mktemp("forge"), target.url) as running:
        found = Work(tmp_path_factory.mktemp("clone"), running, target)
        found.git("init", "-q", "-b", BRANCH)
        found.commit("One")
        found.push(BRANCH, told=0)
        _until(target, "git.receive")
        yield found


@pytest.fixture(scope="module")
def pushed(work: Work) -> tuple[Got, str, str]:
    """The webhook of a push to the branch, and its old and new commit."""
    old = work.git("rev-parse", "HEAD")
    new = work.commit("Two, “with” 漢字")
    [got] = work.push(BRANCH, told=1)
    return got, old, new


def test_a_pushed_branch_is_told_with_its_old_and_new_commit(pushed: tuple[Got, str, str]) -> None:
    """One request reports a push to a branch, with its old and new commit."""
    got, old, new = pushed
    said = _said(got)
    assert (said["branch"], said["old_commit"], said["end_commit"]) == (BRANCH, old, new)


def test_what_it_sends_is_signed_over_the_raw_bytes(work: Work, pushed: tuple[Got, str, str]) -> None:
    """Both signatures are HMACs of the raw body, keyed with the repository's own token."""
    got, _, _ = pushed
    key = work.forge.secret.encode()
    assert (got.headers["x-pagure-signature-256"], got.headers["x-pagure-signature"]) == (
        hmac.new(key, got.body, hashlib.sha256).hexdigest(),
        hmac.new(key, got.body, hashlib.sha1).hexdigest(),
    )


def test_its_headers_name_the_topic_and_the_repository(pushed: tuple[Got, str, str]) -> None:
    """The headers repeat values of the body, and are not signed themselves."""
    got, _, _ = pushed
    expected = {
        "x-pagure-topic": "git.receive",
        "x-pagure-project": REPOSITORY,
        "content-type": "application/json",
    }
    assert {name: text for name, text in got.headers.items() if name in expected} == expected


def test_an_annotated_tag_is_told_by_its_tag_object(work: Work) -> None:
    """The request has the id of the tag object, but not that of the commit."""
    work.git("tag", "-a", "v1.0", "-m", "Release")
    [got] = work.push("v1.0", told=1)
    said = _said(got)
    assert (said["tag"], said["rev"]) == ("v1.0", work.git("rev-parse", "v1.0"))


def test_a_tag_with_new_commits_is_told_twice_once_as_if_a_branch(work: Work) -> None:
    """The second request calls the tag a branch; only the zeros as its old commit reveal that."""
    work.git("checkout", "-q", "--detach")
    new = work.commit("Only in a tag")
    work.git("tag", "v2.0")
    created, received = (_said(got) for got in work.push("v2.0", told=2))
    work.git("checkout", "-q", BRANCH)
    assert (created["tag"], created["rev"]) == ("v2.0", new)
    assert (received["branch"], received["old_commit"], received["end_commit"]) == ("v2.0", NEW, new)


def test_a_deleted_branch_is_told_as_deleted(work: Work) -> None:
    """A deletion has its own topic, and the commit that the branch had."""
    head = work.git("rev-parse", "HEAD")
    work.push(f"{BRANCH}:short-lived", told=1)
    [got] = work.push(":short-lived", told=1)
    said = _said(got)
    assert (got.headers["x-pagure-topic"], said["branch"], said["rev"]) == (
        "git.branch.deletion",
        "short-lived",
        head,
    )


def test_a_refused_request_is_not_sent_again(work: Work) -> None:
    """Pagure tries once: what the receiver missed can only be found by polling the repository."""
    work.target.replies.append(answer(503))
    commits = []
    for message in ("Refused", "Taken"):
        commits.append(work.commit(message))
        work.push(BRANCH, told=1)
    assert [_said(got)["end_commit"] for got in work.target.got[-2:]] == commits


def _said(got: Got) -> Any:
    return json.loads(got.body)["msg"]


def _until(target: Target, topic: str) -> Got:
    """Wait for the request with a topic: the set-up causes others, at any time."""
    deadline = time.monotonic() + HEARD_S
    while time.monotonic() < deadline:
        for got in target.got:
            if got.headers["x-pagure-topic"] == topic:
                return got
        time.sleep(0.05)
    raise AssertionError(f"no request with the topic {topic} within {HEARD_S} s")
