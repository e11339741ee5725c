"""Texts that are not a spec, entirely or in part: refused with lines, and never with another exception."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.spec.document import LARGEST_SPEC, key_path
from delivery_chain.core.spec.parse import parse_spec
from delivery_chain.errors import SpecError
from support.spec_problems import HEAD, TOP, problems

SPECS = Path(__file__).parents[4] / "chain_specs"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["1: the file is empty: expected a chain spec, see chain_specs/ for examples"]),
        ("# only\n", ["1: the file is empty: expected a chain spec, see chain_specs/ for examples"]),
        ("- a\n", ["1: expected a mapping with `version: 1` at its top, found list"]),
        ("hello\n", ["1: expected a mapping with `version: 1` at its top, found str"]),
        ("a: [1\n", ["2: not YAML: did not find expected ',' or ']'"]),
        (
            "a:\n\tb: 1\n",
            [
                (
                    "2: not YAML: found character that cannot start any token; YAML is indented with spaces, not with "
                    "tabs"
                )
            ],
        ),
        (HEAD + "---\na: 1\n", ["4: not YAML: but found another document"]),
        (HEAD + "? [a]\n: b\n", ["4: expected a plain key of at most 300 characters"]),
        (HEAD + f"description: {'[' * 25}{']' * 25}\n", ["4: nested deeper than 20 levels"]),
        ("x" * (LARGEST_SPEC + 1), ["1: at most 262144 characters, found 262145"]),
        (
            HEAD + "description: &a text\nbuild: *a\n",
            [
                (
                    "4: anchors and aliases are not supported: write the value out; put text that begins with * or & "
                    "in quotes"
                )
            ],
        ),
        (HEAD + "<<: {description: a}\n", [f"4: <<: unknown key; {TOP}"]),
        (
            HEAD + "description: !!python/object:os.system x\n",
            [
                (
                    "4: the tag !!python/object:os.system is not supported: write the value without it, and put text "
                    "in quotes"
                )
            ],
        ),
        (
            'a: "\x01"\n',
            [
                (
                    "1: not YAML: unacceptable character #x0001: control characters are not allowed "
                    'in "<unicode string>", position 4'
                )
            ],
        ),
    ],
)
def test_not_a_document(text: str, expected: list[str]) -> None:
    """What is no plain YAML mapping is refused with a line, and no tag, anchor or depth gets anywhere."""
    assert problems(text) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [((), ""), (("name",), "name"), (("build", "rules", 0, "tags", 2, "tag"), "build.rules[0].tags[2].tag")],
)
def test_key_path(path: tuple[str | int, ...], expected: str) -> None:
    """A key path reads as a person would write it."""
    assert key_path(path) == expected


@given(st.data())
def test_never_anything_but_a_spec_error(data: st.DataObject) -> None:
    """A good spec with any piece cut out or put in is a spec, or a SpecError with lines; never another exception."""
    text = (SPECS / "shop-web.yaml").read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    piece = data.draw(
        st.text(max_size=5) | st.sampled_from(["{", "- ", ": ", "*a", "&a ", "!!set ", "null", "\n"])
    )
    try:
        parse_spec(text[:start] + piece + text[end:], "f.yaml")
    except SpecError as error:
        assert error.problems  # noqa: PT017 - either outcome is fine
        assert all(problem.line >= 1 for problem in error.problems)  # noqa: PT017
