from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.names.pattern import (
    LONGEST_NAME,
    LONGEST_PATTERN,
    Match,
    Pattern,
    compile_pattern,
    fullmatch,
)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("main", Match.LITERAL),
        ("v1.2-rc", Match.LITERAL),
        ("release/1.0", Match.LITERAL),
        *((f"a{character}b", Match.REGEXP) for character in "^$*+?|"),
        (r"\d", Match.REGEXP),
        ("(a)", Match.REGEXP),
        ("[a]", Match.REGEXP),
        ("a{2}", Match.REGEXP),
    ],
)
def test_guess(text: str, match: Match) -> None:
    """Any metacharacter other than . and - makes a value a pattern."""
    assert Pattern.guess(text) == Pattern(text, match)


@pytest.mark.parametrize(
    ("text", "match", "name", "captured"),
    [
        ("main", None, "main", {}),
        ("main", None, "main2", None),
        ("v1.2", None, "v1x2", None),
        ("v1.2", Match.REGEXP, "v1x2", {}),
        ("a+b", Match.LITERAL, "a+b", {}),
        ("a+b", Match.LITERAL, "aab", None),
        ("v.*", None, "v1", {}),
        ("v.*", None, "xv1", None),
        ("a|ab", None, "ab", {}),
        ("v(?<n>.*)", None, "v1", {"n": "1"}),
        ("v(?P<n>.*)", None, "v1", {"n": "1"}),
        ("v(?<n>x)?(.*)", None, "v1", {"n": ""}),
        ("v.*", None, "v1\n", None),
        (r"release-(?<imageTag>\w*)", None, "release-v1", {"imageTag": "v1"}),
        (r"release-(?<imageTag>\w*)", None, "release-v1.0", None),
    ],
)
def test_captures(text: str, match: Match | None, name: str, captured: dict[str, str] | None) -> None:
    """A pattern matches whole names only and gives its named groups, in either spelling."""
    assert Pattern.guess(text, match).captures(name) == captured


@pytest.mark.parametrize("text", ["(a+)+$", "(a|aa)+$", "(a*)*b?$", "(.*a){20}$"])
def test_no_catastrophe(text: str) -> None:
    """Patterns that take a backtracking engine for ever answer at once."""
    start = time.perf_counter()
    assert fullmatch(text, "a" * 1000 + "b") is None or "b?" in text
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(?=x)", "not a regular expression that RE2 accepts: invalid perl operator: (?="),
        ("(?<!x)y", "not a regular expression that RE2 accepts: invalid perl operator: (?<!"),
        (r"(a)\1", r"not a regular expression that RE2 accepts: invalid escape sequence: \1"),
        ("(", "not a regular expression that RE2 accepts: missing ): ("),
        ("a" * (LONGEST_PATTERN + 1), "at most 1000 characters, found 1001"),
    ],
)
def test_refused(text: str, message: str) -> None:
    """Look-around, back-references, broken and endless patterns are refused with the reason."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        compile_pattern(text)


def test_long_names_never_match() -> None:
    """A name longer than git and registries allow matches nothing."""
    assert fullmatch(".*", "a" * LONGEST_NAME) is not None
    assert fullmatch(".*", "a" * (LONGEST_NAME + 1)) is None


def test_groups() -> None:
    """A pattern names its groups; a literal has none."""
    assert Pattern.guess("(?<a>x)(?P<b>y)(z)").groups == {"a", "b"}
    assert Pattern.guess("(?<a>x)", Match.LITERAL).groups == frozenset()


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("main", "main"),
        ("v1.2-rc", "v1.2-rc"),
        (r"v(?<version>\d+)", "v"),
        (r"api/v\d+", "api/v"),
        (r"ab*c\d", "a"),
        (r"ab?", "a"),
        (r"ab{0,2}", "a"),
        (r"ab+", "ab"),
        (r"a.c*", "a"),
        (r"api-.*|web-.*", ""),
        (r"(?i)Main", ""),
        (r"^main$", ""),
        (r"[ab]c", ""),
        (r"\Qa*\E", ""),
    ],
)
def test_beginning(text: str, beginning: str) -> None:
    """What every match begins with is read off the pattern's text, and never too much of it."""
    assert Pattern.guess(text).beginning == beginning


@given(
    text=st.text(alphabet="ab/.-*+?|()[]{}1,^$\\", max_size=8), name=st.text(alphabet="ab/.-1", max_size=8)
)
def test_beginning_leaves_out_no_match(text: str, name: str) -> None:
    """Whatever a pattern matches begins with its beginning."""
    try:
        pattern = Pattern.guess(text)
    except ValueError:
        return
    assert pattern.captures(name) is None or name.startswith(pattern.beginning)
