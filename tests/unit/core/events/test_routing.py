from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.events.event import Event, Kind, image_run_id, push_run_id
from delivery_chain.core.events.push import Push
from delivery_chain.core.events.routing import (
    BACKUP,
    DELETION,
    NO_CHAIN,
    RESERVED,
    Routed,
    Start,
    route_image,
    source_starts,
)
from delivery_chain.core.placeholder import deleted_tag_digest
from support.webhook_airflow import DIGEST, MAIN, A, B, images, spec

if TYPE_CHECKING:
    from delivery_chain.core.spec.model import ChainSpec

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
PLACE = {"connection": "git_shop", "url": "api.git"}


def starts(*chains: tuple[ChainSpec, str], ref: str = MAIN, previous: str | None = B) -> tuple[Start, ...]:
    return source_starts(chains or ((spec(), "api"),), ref=ref, commit=A, previous=previous)


def routed(
    specs: list[ChainSpec], name: str, tag: str = "v1", *, digest: str = DIGEST, instance: str = "home"
) -> Routed:
    push = Push.of_image(name=name, tag=tag, digest=digest)
    return route_image(push, specs, instance=instance, at=NOON)


@pytest.mark.parametrize(("previous", "said"), [(B, B), ("", ""), (None, "")])
def test_a_push_is_one_start(previous: str | None, said: str) -> None:
    """Of the chain and the rule that matches, with the event as its run's conf; unknown is not said."""
    assert starts(previous=previous) == (
        Start(
            "shop",
            "shop",
            Event(kind=Kind.SOURCE_PUSH, repository="api", rule="main", ref=MAIN, commit=A, previous=said),
        ),
    )


@pytest.mark.parametrize(
    ("ref", "rules"),
    [
        (MAIN, ["main"]),
        ("refs/tags/v1", ["release"]),
        ("refs/tags/main", []),
        ("refs/heads/v1", []),
        ("refs/heads/mainx", []),
        ("refs/notes/main", []),
    ],
)
def test_rules_that_match(ref: str, rules: list[str]) -> None:
    """Branches by rules for branches, tags by rules for tags, whole names."""
    assert [start.event.rule for start in starts(ref=ref)] == rules


def test_each_chain_and_rule_is_a_start() -> None:
    """Two chains of one source, one of which builds two repositories from it."""
    rules = [
        {"name": "api", "branch": "main", "repository": "api", "tags": [{"tag": "edge"}]},
        {"name": "web", "branch": "main", "repository": "web", "tags": [{"tag": "edge"}]},
    ]
    two = spec(
        "two",
        scope={"instance": "home", "namespace": "two", "repositories": ["api", "web"]},
        sources={"api": PLACE, "web": PLACE},
        build={"rules": rules, "timezone": "UTC"},
    )
    found = starts((spec(), "api"), (two, "api"), (two, "web"))
    assert [(start.chain, start.event.repository, start.event.rule) for start in found] == [
        ("shop", "api", "main"),
        ("two", "api", "api"),
        ("two", "web", "web"),
    ]


def test_the_run_of_a_push_has_its_id() -> None:
    """The id depends on exactly what distinguishes pushes: ref, commit, rule and the number of the stay."""
    (start,) = starts()
    (other,) = starts(previous=None)
    assert start.run_id(2) == push_run_id(ref=MAIN, commit=A, rule="main", visit=2) == other.run_id(2)
    assert start.run_id(1) != start.run_id(2)


def test_the_run_of_an_image_has_its_id() -> None:
    """By its whole name."""
    (start,) = routed([images()], "base/a/b").starts
    assert start.run_id(3) == image_run_id(name="base/a/b", tag="v1", digest=DIGEST, visit=3)


SOME: dict[str, Any] = {"instance": "home", "namespace": "base", "repositories": ["python"]}


@pytest.mark.parametrize(
    ("instance", "name", "tag", "found"),
    [
        ("home", "base/python", "v1", ("base", "base", "python")),
        ("home", "base/python", "", ("base", "base", "python")),
        ("home", "base/deep/er", "v1", ("base", "base", "deep/er")),
        ("home", "base/inner/x", "v1", ("inner", "base/inner", "x")),
        ("home", "shop/api", "v1", ("shop", "shop", "api")),
        ("home", "shop/other", "v1", NO_CHAIN),
        ("away", "base/python", "v1", NO_CHAIN),
        ("home", "python", "v1", NO_CHAIN),
        ("home", "basement/python", "v1", NO_CHAIN),
        ("home", "base/python", "_staging-0123456789ab", RESERVED),
        ("home", "base/python", f"sha256-{'1' * 64}.sig", RESERVED),
        ("home", "base-quarantine/python", "v1.20260101T000000Z", BACKUP),
        ("home", "base/inner-quarantine/x", "v1.20260101T000000Z", BACKUP),
        ("home", "base/gone-quarantine/x", "v1.20260101T000000Z", NO_CHAIN),
        ("away", "base-quarantine/python", "v1", NO_CHAIN),
        ("home", "other-quarantine/python", "v1", ("other", "other-quarantine", "python")),
    ],
)
def test_images(instance: str, name: str, tag: str, found: tuple[str, str, str] | str) -> None:
    """The chain whose namespace is the longest that fits takes it; or the reason why none does."""
    inner = images("inner", scope={"instance": "home", "namespace": "base/inner", "all": True})
    other = images("other", scope={"instance": "home", "namespace": "other-quarantine", "all": True})
    made = routed([images(), inner, other, spec()], name, tag, instance=instance)
    if isinstance(found, str):
        assert (made.starts, made.why) == ((), found)
        return
    chain, namespace, repository = found
    event = Event(kind=Kind.IMAGE_PUSH, repository=repository, tag=tag, digest=DIGEST)
    assert (made.starts, made.why) == ((Start(chain, namespace, event),), "")


def test_a_deletion_is_no_push() -> None:
    """The mark that a tag holds while it is deleted is told as any push; by its digest it is known for that tag."""
    own, another = (deleted_tag_digest(tag) for tag in ("v1", "v2"))
    assert routed([images()], "base/python", digest=own).why == DELETION
    assert routed([images()], "base/python", digest=another).why == ""


def test_a_chain_of_named_repositories_goes_before_one_of_all() -> None:
    """Whichever is loaded first."""
    some = images("some", scope=SOME)
    for specs in ([some, images()], [images(), some]):
        found = [routed(specs, f"base/{name}").starts for name in ("python", "ruby")]
        assert [start.chain for (start,) in found] == ["some", "base"]
