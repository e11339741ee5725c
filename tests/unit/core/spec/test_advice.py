"""Hints in errors: the intended key, globs, and YAML's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.names.pattern import compile_pattern
from delivery_chain.core.spec.advice import glob_hint, glob_warnings, keys_at, unknown_key, yaml_hint
from delivery_chain.core.spec.parse import parse_spec


@pytest.mark.parametrize(
    ("path", "key", "hint"),
    [
        (("build",), "time_zone", "did you mean `timezone`?"),
        (("build",), "timeZone", "did you mean `timezone`?"),
        ((), "time_zone", "`timezone` belongs in `build`"),
        ((), "dockerfile", "`dockerfile` belongs in `build.rules`"),
        ((), "triggers", "did you mean `distribute`?"),
        (("scan",), "engines", "did you mean `engine`?"),
        (("scan", "block"), "severety", "did you mean `severity`?"),
        (("scan", "block", "on_block"), "backups", "did you mean `backup`?"),
        (("build", "rules", 3), "platform", "did you mean `platforms`?"),
        (("build", "rules", 0, "tags", 1), "commit", "did you mean `commit_id`?"),
        (("replicate", 0), "connection", "did you mean `to`?"),
        (("distribute", 12), "url", "did you mean `url_connection`?"),
        (("sources", "api"), "uri", "did you mean `url`?"),
        (("build", "from", 0), "hots", "expected one of connection, for, namespaces"),
        (("scope",), "zzz", "expected one of all, exclude, instance, namespace, repositories"),
    ],
)
def test_the_key_that_was_meant(path: tuple[str | int, ...], key: str, hint: str) -> None:
    """The nearest key of the same mapping, else where it belongs, else all that are known there."""
    assert unknown_key(path, key) == hint


def test_keys_of_free_mappings() -> None:
    """Build arguments are named by the user: none is suggested."""
    assert keys_at(("build", "rules", 0, "args")) == frozenset()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("v*", "v.*"),
        ("*", ".*"),
        ("release-*", "release-.*"),
        ("feature/*", "feature/.*"),
        ("v?", "v."),
        ("v1.*.*-rc*", "v1.*.*-rc.*"),
        ("**/x", ".*/x"),
    ],
)
def test_globs_are_explained(text: str, meant: str) -> None:
    """With the pattern that was probably meant."""
    assert glob_hint(text) == (
        f"{text!r} looks like a glob, but is read as a regular expression for the whole name; write {meant!r}"
    )


@pytest.mark.parametrize(
    "text",
    ["v.*", "v1.2", "main", r"v\d*", "[a-z]*", "(a|b)*", "v.?", "release-.*", "a{2}*", "", "v+", "v(1)?"],
)
def test_patterns_that_are_no_globs(text: str) -> None:
    """Are taken as they are."""
    assert glob_hint(text) == ""


@given(st.text("ab1./-*?", min_size=1, max_size=12))
def test_what_is_advised_can_be_written(text: str) -> None:
    """The advised pattern is one that RE2 takes, and itself no glob."""
    hint = glob_hint(text)
    if hint:
        meant = hint.rpartition("write '")[2].removesuffix("'")
        assert (glob_hint(meant), compile_pattern(meant).pattern) == ("", meant)


def test_a_spec_with_globs_is_valid_and_warned_about() -> None:
    """Each pattern at its place; one whose `match` is said is meant."""
    spec = parse_spec(
        "version: 1\nname: x\nscope: {instance: home, namespace: shop, repositories: [api]}\n"
        "sources: {api: {connection: g}}\nbuild:\n  rules:\n"
        "    - {name: a, tag: v*, tags: [{tag: x}]}\n"
        "    - {name: b, tag: w*, match: regexp, tags: [{tag: x}]}\n"
        "replicate: [{name: far, to: far, tags: 'v*'}]\n"
        "distribute: [{name: tell, url_connection: c, on: {regexp: 'v*'}}, {name: all, url_connection: c}]\n",
        "x.yaml",
    )
    assert [path for path, _ in glob_warnings(spec)] == [
        ("build", "rules", 0, "tag"),
        ("replicate", 0, "tags"),
        ("distribute", 0, "on", "regexp"),
    ]


@pytest.mark.parametrize(
    ("problem", "line", "hint"),
    [
        (
            "found unknown escape character",
            r'      tag: "v\d"',
            r"in double quotes \ begins an escape: put patterns in single quotes, as in 'v\d+'",
        ),
        (
            "found character that cannot start any token",
            "\trules:",
            "YAML is indented with spaces, not with tabs",
        ),
        ("found character that cannot start any token", "tag: @x", "put the value in single quotes"),
        ("did not find expected alphabetic or numeric character", "tag: *", "put the value in single quotes"),
        ("mapping values are not allowed in this context", "tag: v: x", "put the value in single quotes"),
        ("did not find expected ',' or ']'", "tags: [a", ""),
    ],
)
def test_texts_that_are_no_yaml(problem: str, line: str, hint: str) -> None:
    """What to do, where that is known."""
    assert yaml_hint(problem, line) == hint
