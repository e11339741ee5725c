"""One definition of a git ref, and it is git's own."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery_chain.core.names.git_ref import (
    PART_BYTES,
    REF,
    REF_BYTES,
    broken_rule,
    check_full_ref,
    check_ref,
    counted,
)

PIECES = [
    "a",
    "B",
    "-",
    ".",
    "/",
    "@",
    "{",
    "}",
    ".lock",
    "..",
    "~",
    "^",
    ":",
    "?",
    "*",
    "[",
    "\\",
    " ",
    "\t",
    "\x7f",
]
NAMES = st.lists(
    st.sampled_from([*PIECES, "é", "\x85", "\u2028", "𝄞", "lock", "HEAD", "refs", "\n"])
    | st.characters(codec="utf-8"),
    max_size=12,
).map("".join)
BROKEN = {
    "-x": "begins with '-'",
    "refs/heads/-x": "begins with '-'",
    "refs/tags/--upload-pack=x": "begins with '-'",
    "@": "alone",
    "a b": "space",
    "a\x01": "control character",
    "a:b": "one of ~",
    "a..b": "'..'",
    "a@{1}": "'@{'",
    "a//b": "empty part",
    "/a": "empty part",
    "a/": "empty part",
    "a/.b": "begins with '.'",
    "a.lock": "'.lock'",
    "a.lock/b": "'.lock'",
    "a.": "ends with '.'",
    "a\udcff": "not UTF-8",
    "a" * (PART_BYTES + 1): "251 bytes",
    "/".join(["é" * 100] * 20): "4019 bytes",
}


def git_takes(ref: str) -> bool:
    """What `git check-ref-format` says. An argument can hold no NUL, and neither can a ref."""
    if "\0" in ref:
        return False
    return subprocess.run(["git", "check-ref-format", ref], check=False).returncode == 0


@given(NAMES, st.sampled_from(["refs/heads/", "refs/tags/", "refs/heads/feature/"]))
@settings(max_examples=300, deadline=None)
def test_a_full_name_is_what_git_says(name: str, prefix: str) -> None:
    """Neither stricter nor milder than git."""
    ref = prefix + name
    # Git's commands make no branch or tag of such a name.
    option = name.startswith("-") and prefix != "refs/heads/feature/"

    assert (broken_rule(ref) == "") is (git_takes(ref) and not option), ref


@given(NAMES)
@settings(max_examples=300, deadline=None)
def test_a_short_name_is_what_git_says_of_its_full_one(name: str) -> None:
    """But for names that git's commands would take for an option or for something else, and for none at all."""
    expected = git_takes(f"refs/heads/{name}") and not name.startswith("-") and name != "@"

    assert (broken_rule(name) == "" and name != "") is expected, name


@given(NAMES)
def test_the_expression_says_the_same(name: str) -> None:
    """The JSON Schema of a run's conf has it, where no code can be."""
    assert bool(REF.fullmatch(name)) is (name != "" and broken_rule(name) == "")


def test_the_expression_is_one_that_javascript_takes() -> None:
    """It has none of what only Python knows."""
    assert not re.search(r"\(\?P|\(\?#|\\A|\\Z|\(\?i", REF.pattern)


@pytest.mark.parametrize(("ref", "rule"), BROKEN.items(), ids=[ascii(ref)[:30] for ref in BROKEN])
def test_a_refusal_names_the_rule(ref: str, rule: str) -> None:
    """Who pushed can see what is wrong with the name."""
    with pytest.raises(ValueError, match="expected a git ref") as caught:
        check_ref(ref)

    assert rule in str(caught.value)


@pytest.mark.parametrize("ref", ["main", "refs/pull/1/head", "refs/headsx/a", "HEAD", "", "--upload-pack=x"])
def test_a_full_name_is_a_branch_or_a_tag(ref: str) -> None:
    """Nothing else is built."""
    with pytest.raises(ValueError, match=r"expected refs/heads/… or refs/tags/…"):
        check_full_ref(ref)


def test_as_long_as_a_path_may_be() -> None:
    """Fifteen folders deep is a name as any other."""
    ref = "refs/heads/" + "/".join(["x" * PART_BYTES] * 15)

    assert len(ref) < REF_BYTES
    assert check_full_ref(ref) == ref


@pytest.mark.parametrize(
    ("refs", "said"),
    [
        ([], "0 branches and 0 tags"),
        (["refs/heads/main"], "1 branch and 0 tags"),
        (["refs/heads/a", "refs/heads/b", "refs/tags/v1"], "2 branches and 1 tag"),
    ],
)
def test_branches_and_tags_are_counted_in_words(refs: list[str], said: str) -> None:
    """One of a kind is no plural."""
    assert counted(refs) == said
