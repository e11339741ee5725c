from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from delivery_chain.core.names.platform import Platform
from delivery_chain.core.spec.model import BuildRule, ChainSpec, Scope, TagRule
from delivery_chain.core.spec.parse import parse_spec

MINIMAL: dict[str, Any] = {
    "version": 1,
    "name": "x",
    "scope": {"instance": "home", "namespace": "shop", "repositories": ["api"]},
}


def rule(**fields: Any) -> BuildRule:
    return BuildRule.model_validate({"name": "r", "tags": [{"tag": "latest"}], **fields})


BASE = {**MINIMAL, "sources": {"api": {"connection": "git"}}}


def with_reads(*entries: dict[str, Any]) -> ChainSpec:
    rules = [{"name": "r", "branch": "main", "tags": [{"tag": "latest"}]}]
    return ChainSpec.model_validate({**BASE, "build": {"rules": rules, "from": list(entries)}})


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"connection": "home", "namespaces": ["base", "shop"]}, (("base", "shop"), None)),
        ({"connection": "hub", "for": "docker.io"}, ((), "docker.io")),
        ({"connection": "hub", "for": "docker.io", "namespaces": ["library"]}, (("library",), "docker.io")),
    ],
)
def test_registries_of_base_images(
    entry: dict[str, Any], expected: tuple[tuple[str, ...], str | None]
) -> None:
    """They come back as they were written, under their own names."""
    spec = with_reads(entry)
    assert spec.build is not None
    assert spec.build.read_from is not None
    assert [(one.namespaces, one.host) for one in spec.build.read_from] == [expected]
    assert ChainSpec.model_validate(spec.to_xcom()) == spec


@pytest.mark.parametrize(
    "entry",
    [
        {"connection": "home"},
        {"connection": "hub", "for": "https://docker.io"},
        {"namespaces": ["a"]},
        {"connection": "h", "namespaces": ["A"]},
    ],
)
def test_registries_of_base_images_that_say_too_little(entry: dict[str, Any]) -> None:
    """Everything of a registry has to be asked for by its name."""
    with pytest.raises(ValidationError):
        with_reads(entry)


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        ({"repositories": ["api", "web"]}, {"api": True, "web": True, "other": False}),
        ({"all": True}, {"api": True, "other": True}),
        ({"all": True, "exclude": ["api"]}, {"api": False, "other": True}),
    ],
)
def test_scope_covers(scope: dict[str, Any], covered: dict[str, bool]) -> None:
    """A list covers just its repositories, `all` every one but those excluded."""
    value = Scope.model_validate({"instance": "home", "namespace": "shop", **scope})
    assert {name: value.covers(name) for name in covered} == covered


@pytest.mark.parametrize(("given", "expected"), [(True, 6), (False, None), (None, None), (1, 1), (40, 40)])
def test_commit_id_forms(given: Any, expected: int | None) -> None:
    """`commit_id: true` means six characters, `false` none."""
    assert TagRule(tag="v", commit_id=given).commit_id == expected


@pytest.mark.parametrize("given", [0, 41, "6", 6.0])
def test_commit_id_refused(given: Any) -> None:
    """A commit id has 1 to 40 characters, said as a whole number."""
    with pytest.raises(ValidationError):
        TagRule(tag="v", commit_id=given)


@pytest.mark.parametrize(
    ("fields", "system_only"),
    [
        ({"branch": "main"}, False),
        ({"tag": "v1.2-rc"}, False),
        ({"branch": "release.*", "match": "literal"}, False),
        ({"branch": "main", "match": "regexp"}, True),
        ({"branch": "release-.*"}, True),
        ({"branch": "main", "tags": [{"tag": "a"}, {"tag": "b", "build_time": "date"}]}, True),
        ({"branch": "main", "tags": [{"tag": "a", "commit_id": 6}]}, True),
    ],
)
def test_system_only(fields: dict[str, Any], system_only: bool) -> None:  # noqa: FBT001 - a table
    """A rule with a pattern, a build time or a commit id can be built for a push only."""
    assert rule(**fields).system_only is system_only


def test_defaults() -> None:
    """What a spec leaves out is ACR's default, or the safe one."""
    spec = ChainSpec.model_validate(MINIMAL)
    assert (spec.scan.enabled, spec.scan.engine, spec.scan.block, spec.scan.accept) == (
        True,
        ("trivy",),
        None,
        (),
    )
    assert (spec.build_rules, spec.replicate, spec.distribute) == ((), (), ())
    made = rule(branch="main")
    assert (made.context, made.dockerfile, made.platforms) == (".", "Dockerfile", (Platform.LINUX_AMD64,))


def test_platforms_to_scan() -> None:
    """Without builds amd64 and arm64 are scanned; else what is built and what is named, in the enum's order."""
    images_only = ChainSpec.model_validate(MINIMAL)
    built = ChainSpec.model_validate(
        MINIMAL
        | {
            "sources": {"api": {"connection": "g"}},
            "build": {
                "rules": [{"name": "r", "branch": "b", "tags": [{"tag": "t"}], "platforms": ["linux/arm/v6"]}]
            },
            "scan": {"platforms": ["linux/386"]},
        }
    )
    assert images_only.scan_platforms == (Platform.LINUX_AMD64, Platform.LINUX_ARM64)
    assert built.scan_platforms == (Platform.LINUX_386, Platform.LINUX_ARM_V6)
    assert built.build_platforms == (Platform.LINUX_ARM_V6,)


@pytest.mark.parametrize("path", ["..", "a/../b", "/etc", "a\\b", "", "../x"])
@pytest.mark.parametrize("field", ["context", "dockerfile"])
def test_paths_stay_inside(field: str, path: str) -> None:
    """Context and Dockerfile may not leave the checkout."""
    with pytest.raises(ValidationError):
        rule(branch="main", **{field: path})


@pytest.mark.parametrize("url", ["https://u:p@h/x", "https://token@h/x", "-oProxyCommand=x", "a\nb", "a\0b"])
def test_source_addresses_refused(url: str) -> None:
    """A source's address holds no credential and can't pass for an option."""
    with pytest.raises(ValidationError):
        ChainSpec.model_validate(MINIMAL | {"sources": {"api": {"connection": "g", "url": url}}})


def test_survives_xcom() -> None:
    """A spec goes through JSON and comes back equal."""
    text = "version: 1\nname: x\nscope: {instance: home, namespace: shop, all: true}\nscan: {engine: trivy}\n"
    spec = parse_spec(text, "f.yaml")
    assert ChainSpec.from_xcom(spec.to_xcom()) == spec
