from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from delivery_chain.core.events.event import Event
from delivery_chain.core.plan import ImageSelection, Plan, make_plan, matching_rules, owner, select
from delivery_chain.core.spec.model import ChainSpec
from delivery_chain.errors import EventRefused, Superseded

NOW = datetime(2026, 5, 20, 12, 0, tzinfo=UTC)
A, B = "a" * 40, "b" * 40
DIGEST = "sha256:" + "c" * 64
OTHER = "sha256:" + "d" * 64
RULES = [
    {"name": "main", "branch": "main", "tags": [{"tag": "edge"}]},
    {"name": "release", "tag": r"v(?<n>\d+\.\d+)", "tags": [{"tag": "v${n}"}, {"tag": "latest"}]},
    {"name": "any", "tag": "v.*", "tags": [{"tag": "any"}]},
    {"name": "stamped", "branch": "main", "tags": [{"tag": "main", "build_time": "minute", "commit_id": 6}]},
    {"name": "long", "branch": "(?<all>.*)x", "tags": [{"tag": "${all}"}]},
]


def chain(*rules: dict[str, Any], **scope: Any) -> ChainSpec:
    body: dict[str, Any] = {
        "version": 1,
        "name": "shop",
        "scope": {"instance": "home", "namespace": "shop", **(scope or {"repositories": ["api"]})},
    }
    if rules:
        body |= {"sources": {"api": {"connection": "git"}}, "build": {"rules": rules}}
    return ChainSpec.model_validate(body)


SPEC = chain(*RULES)
IMAGES = chain(all=True)


def planned(spec: ChainSpec, present: str = A, **conf: Any) -> Plan:
    event = Event.from_conf(conf)
    return make_plan(spec, select(spec, event), event, run_id="r1", now=NOW, present=present)


@pytest.mark.parametrize(
    ("spec", "conf", "message"),
    [
        (
            SPEC,
            {"repository": "web", "ref": "main"},
            "repository 'web' is not in the scope of chain 'shop'",
        ),
        (
            IMAGES,
            {"ref": "main"},
            "chain 'shop' has no build rule: name a `repository` and its image's `tag`",
        ),
        (IMAGES, {"tag": "v1"}, "name the `repository`: chain 'shop' covers more than one"),
        (
            IMAGES,
            {"repository": "api", "tag": "_staging-0123456789ab"},
            "tag '_staging-0123456789ab' is a name reserved for the chain",
        ),
        (
            SPEC,
            {},
            "name a `rule` or a `ref` to build, or a `repository` and an image's `tag` or `digest`",
        ),
        (
            SPEC,
            {"rule": "nope"},
            "chain 'shop' has no build rule 'nope': it has main, release, any, stamped, long",
        ),
        (
            SPEC,
            {"rule": "nope", "ref": "main"},
            "chain 'shop' has no build rule 'nope': it has main, release, any, stamped, long",
        ),
        (
            SPEC,
            {"rule": "release"},
            (
                "build rule 'release' has a pattern, a build time or a commit id, so it can't be built by its name "
                "alone: name the `ref` (tag) to build, as if it had just been pushed"
            ),
        ),
        (
            SPEC,
            {"rule": "stamped"},
            (
                "build rule 'stamped' has a pattern, a build time or a commit id, so it can't be built by its name "
                "alone: name the `ref` (branch) to build, as if it had just been pushed"
            ),
        ),
        (
            chain(RULES[0]),
            {"ref": "refs/tags/main"},
            "no build rule of chain 'shop' matches 'refs/tags/main' as a whole name (main: branch main)",
        ),
        (
            chain(RULES[0]),
            {"ref": "maintenance"},
            "no build rule of chain 'shop' matches 'maintenance' as a whole name (main: branch main)",
        ),
        (
            chain(RULES[0], RULES[2]),
            {"rule": "main", "ref": "v1"},
            "no build rule 'main' of chain 'shop' matches 'v1' as a whole name (main: branch main; any: tag v.*)",
        ),
        (
            chain({"name": "release", "tag": "v*", "tags": [{"tag": "latest"}]}),
            {"ref": "refs/tags/v1.0.0"},
            (
                "no build rule of chain 'shop' matches 'refs/tags/v1.0.0' as a whole name (release: tag v*); 'v*' "
                "looks like a glob, but is read as a regular expression for the whole name; write 'v.*'"
            ),
        ),
        (
            SPEC,
            {"ref": "refs/tags/v1.2"},
            "'refs/tags/v1.2' matches several build rules, name the `rule`: release, any",
        ),
        (SPEC, {"ref": "main"}, "'main' matches several build rules, name the `rule`: main, stamped"),
    ],
)
def test_select_refuses(spec: ChainSpec, conf: dict[str, Any], message: str) -> None:
    """An event that makes no run is refused with the whole reason."""
    with pytest.raises(EventRefused) as caught:
        select(spec, Event.from_conf(conf))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("conf", "present", "kind", "message"),
    [
        (
            {"rule": "main", "ref": "main", "commit": A},
            "",
            EventRefused,
            "'refs/heads/main' does not exist: it was deleted, or never pushed",
        ),
        (
            {"kind": "source_push", "rule": "main", "ref": "refs/heads/main", "commit": A},
            B,
            Superseded,
            (
                f"'refs/heads/main' moved on from {A[:19]} to {B[:19]}: the newer push has its own run. To build the "
                f"older one all the same: delivery-chain trigger shop --ref refs/heads/main --commit {A}"
            ),
        ),
        (
            {"repository": "api", "tag": "v1"},
            "",
            EventRefused,
            "tag 'v1' does not exist: it was deleted, or never pushed",
        ),
        (
            {"repository": "api", "tag": "v1", "digest": DIGEST},
            OTHER,
            Superseded,
            f"tag 'v1' moved on from {DIGEST[:19]} to {OTHER[:19]}: the newer push has its own run",
        ),
        (
            {"ref": "feature/ax"},
            A,
            EventRefused,
            (
                "the tag rule '${all}' produces an invalid tag: tag 'feature/a': expected 1 to 128 "
                "characters of [A-Za-z0-9_.-], the first not . or -"
            ),
        ),
    ],
)
def test_make_plan_refuses(
    conf: dict[str, Any], present: str, kind: type[EventRefused], message: str
) -> None:
    """A ref that moved on, was deleted, or would get an invalid tag makes no plan."""
    with pytest.raises(EventRefused) as caught:
        planned(SPEC, present, **conf)
    assert (type(caught.value), str(caught.value)) == (kind, message)


@pytest.mark.parametrize(
    ("ref", "names"),
    [
        ("refs/heads/main", ["main", "stamped"]),
        ("refs/tags/main", []),
        ("refs/tags/v1.2", ["release", "any"]),
        ("refs/tags/xv1.2", []),
        ("refs/tags/v1.2.3", ["any"]),
        ("refs/heads/v1.2", []),
        ("v1.2", ["release", "any"]),
    ],
)
def test_matching_rules(ref: str, names: list[str]) -> None:
    """A rule matches refs of its own kind by their whole name; a push may match several."""
    assert [rule.name for rule in matching_rules(SPEC, ref, "api")] == names


def test_rules_of_another_repository_do_not_match() -> None:
    """A push to one repository starts no rule of another."""
    assert matching_rules(SPEC, "refs/heads/main", "web") == ()


def test_plan_of_a_push() -> None:
    """A push becomes a plan with its rule, commit and tags."""
    plan = planned(
        SPEC,
        kind="source_push",
        rule="release",
        ref="refs/tags/v1.2",
        commit=A,
        pushed_at="2026-05-20T08:00:00Z",
    )
    assert plan.to_xcom() == {
        "chain": "shop",
        "run_id": "r1",
        "kind": "source_push",
        "instance": "home",
        "namespace": "shop",
        "repository": "api",
        "tags": ["v1.2", "latest"],
        "pushed_at": "2026-05-20T08:00:00Z",
        "seen_at": NOW.isoformat().replace("+00:00", "Z"),
        "actor": "",
        "build": {
            "rule": "release",
            "source": {"connection": "git", "url": "", "submodules": False},
            "ref": "refs/tags/v1.2",
            "commit": A,
            "context": ".",
            "dockerfile": "Dockerfile",
            "args": {},
            "platforms": ["linux/amd64"],
            "older": False,
        },
        "digest": "",
        "announce": True,
        "again": 0,
    }
    assert Plan.from_xcom(plan.to_xcom()) == plan


@pytest.mark.parametrize(
    ("conf", "ref", "tags"),
    [
        ({"rule": "main"}, "refs/heads/main", ("edge",)),
        ({"rule": "release", "ref": "v1.2"}, "refs/tags/v1.2", ("v1.2", "latest")),
        ({"rule": "stamped", "ref": "main"}, "refs/heads/main", ("main-202605202000-aaaaaa",)),
    ],
)
def test_manual_runs(conf: dict[str, Any], ref: str, tags: tuple[str, ...]) -> None:
    """A plain rule can be built by name; any rule for a ref that stands in for its push."""
    plan = planned(SPEC, **conf)
    assert plan.build
    assert (plan.build.ref, plan.build.commit, plan.tags) == (ref, A, tags)


@pytest.mark.parametrize(
    ("conf", "selection", "tags"),
    [
        ({"repository": "api", "tag": "v1"}, ImageSelection("api", "v1", ""), ("v1",)),
        ({"repository": "api", "digest": DIGEST}, ImageSelection("api", "", DIGEST), ()),
        (
            {"kind": "image_push", "repository": "api", "tag": "v1", "digest": DIGEST},
            ImageSelection("api", "v1", DIGEST),
            ("v1",),
        ),
    ],
)
def test_images(conf: dict[str, Any], selection: ImageSelection, tags: tuple[str, ...]) -> None:
    """An existing image is selected by tag, digest or both; nothing is built."""
    assert select(IMAGES, Event.from_conf(conf)) == selection
    plan = planned(IMAGES, DIGEST, **conf)
    assert (plan.build, plan.digest, plan.tags, plan.name) == (None, DIGEST, tags, "shop/api")


def test_equal_tags_once() -> None:
    """Two tag rules that come to the same tag give it once."""
    rule = {"name": "r", "tag": "(?<t>.*)", "tags": [{"tag": "${t}"}, {"tag": "v1"}]}
    assert planned(chain(rule), ref="v1").tags == ("v1",)


def test_owner() -> None:
    """A listed repository goes before the whole namespace; another namespace or instance owns nothing."""
    wide, narrow = chain(all=True, exclude=["web"]), chain(repositories=["api"])
    assert owner([wide, narrow], "home", "shop", "api") is narrow
    assert owner([narrow, wide], "home", "shop", "db") is wide
    assert owner([wide, narrow], "home", "shop", "web") is None
    assert owner([wide, narrow], "far", "shop", "api") is None
