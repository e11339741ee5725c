"""Instructions, flags and variables are parsed as buildah parses them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.dockerfile.instructions import decode, expand, instructions

READ = [
    pytest.param("FROM a\nRUN b", [(1, "from", (), "a"), (2, "run", (), "b")], id="two lines"),
    pytest.param(
        "from a\nrUn --Mount=x b", [(1, "from", (), "a"), (2, "run", ("--Mount=x",), "b")], id="cases"
    ),
    pytest.param(
        "RUN a \\\n  && b\nUSER x", [(1, "run", (), "a   && b"), (3, "user", (), "x")], id="continued"
    ),
    pytest.param(
        "RUN --mount=a \\\n# c\n\n  --mount=b x",
        [(1, "run", ("--mount=a", "--mount=b"), "x")],
        id="comment inside",
    ),
    pytest.param("R\\\nUN x", [(1, "run", (), "x")], id="name continued"),
    pytest.param("# escape=`\nRUN a `\n b", [(2, "run", (), "a  b")], id="escape"),
    pytest.param(
        "# c\n# escape=`\nRUN a `\n b", [(3, "run", (), "a `"), (4, "b", (), "")], id="escape too late"
    ),
    pytest.param(
        "#syntax=x\n# escape = `\nRUN a `\nb",
        [(3, "run", (), "a `"), (4, "b", (), "")],
        id="escape after syntax",
    ),
    pytest.param("\ufeffFROM a", [(1, "from", (), "a")], id="mark at the start"),
    pytest.param("  FROM a\r\nRUN b\r\n", [(1, "from", (), "a"), (2, "run", (), "b")], id="blanks and CR LF"),
    pytest.param(
        'RUN --mount="type=cache",id=x y', [(1, "run", ("--mount=type=cache,id=x",), "y")], id="quoted flag"
    ),
    pytest.param("RUN --m\\ount=x y", [(1, "run", ("--mount=x",), "y")], id="escaped flag"),
    pytest.param("RUN -- --mount=x", [(1, "run", (), "--mount=x")], id="end of flags"),
    pytest.param("RUN a --mount=x", [(1, "run", (), "a --mount=x")], id="no flag"),
    pytest.param("RUN\t--mount=x\ty", [(1, "run", ("--mount=x",), "y")], id="tabs"),
    pytest.param(
        "RUN a\n# b\\\nFROM c", [(1, "run", (), "a"), (3, "from", (), "c")], id="comments don't continue"
    ),
    pytest.param("RUN a \\", [(1, "run", (), "a")], id="ends with a continuation"),
    pytest.param("", [], id="empty"),
]


@pytest.mark.parametrize(("text", "expected"), READ)
def test_reading(text: str, expected: list[tuple[int, str, tuple[str, ...], str]]) -> None:
    """Line, name, flags and rest of each instruction."""
    found = [(one.line, one.name, one.flags, one.rest) for one in instructions(text)]
    assert found == expected


BLANKS = [
    pytest.param(b"RUN \xa0--mount=x y", [("run", ("--mount=x",))], id="byte A0"),
    pytest.param(b"RUN \x85--mount=x y", [("run", ("--mount=x",))], id="byte 85 before a flag"),
    pytest.param("RUN --a=\u2026--mount=x y".encode(), [("run", ("--a=\xe2\x80\xa6--mount=x",))], id="byte A6"),
    pytest.param("RUN --a=\xe0--mount=x y".encode(), [("run", ("--a=\xc3", "--mount=x"))], id="byte A0 in a letter"),
    pytest.param(b"\xa0RUN --mount=x y", [("\udca0run", ("--mount=x",))], id="byte A0 before a name"),
    pytest.param("\xa0RUN --mount=x y".encode(), [("run", ("--mount=x",))], id="no-break space before a name"),
    pytest.param(b"RUN a \\\n\x1c\nRUN --mount=x y", [("run", ()), ("run", ("--mount=x",))], id="1C is no blank line"),
    pytest.param(b"RUN a \\\n\x1f#\nRUN --mount=x y", [("run", ()), ("run", ("--mount=x",))], id="1F makes no comment"),
    pytest.param(b"RUN a \\\n\x0b#\n--mount=x y", [("run", ())], id="0B does"),
    pytest.param(b"RUN \x1c--mount=x y", [("run", ())], id="1C before no flag"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), BLANKS)
def test_blanks_are_those_of_the_builder(content: bytes, expected: list[tuple[str, tuple[str, ...]]]) -> None:
    """Others would hide a flag or a whole instruction. Found with imagebuilder's own parser."""
    assert [(one.name, one.flags) for one in instructions(decode(content))] == expected


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("RUN <<END\nFROM x\nEND\nUSER a", ["run", "user"], id="one"),
        pytest.param("COPY <<A <<B /\nx\nA\nFROM y\nB\nUSER a", ["copy", "user"], id="two"),
        pytest.param("RUN <<-'E'\n\tFROM x\n\tE\nUSER a", ["run", "user"], id="tabs, quoted"),
        pytest.param("CMD <<END\nUSER a", ["cmd", "user"], id="not for CMD"),
    ],
)
def test_heredocs(text: str, names: list[str]) -> None:
    """Their lines are no instructions, for a builder that knows them."""
    assert [one.name for one in instructions(text, heredocs=True)] == names


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("$A", "1"), ("${A}x", "1x"), ("$Ax", ""), ("\\$A", "$A"), ("'$A'", "$A"), ('"$A"', "1"), ("${B:-2}", "2"),
        ("${A:-2}", "1"), ("${A:+2}", "2"), ("${B:+2}", ""), ("${B:-${A}}", "1"), ("a$", "a$"), ('"\\$A"', "$A"),
        ("$A$A", "11"), ("r/$A:v", "r/1:v"), ("${B:-a:b}", "a:b"),
    ],
)  # fmt: skip
def test_variables(word: str, expected: str) -> None:
    """As imagebuilder's ProcessWord has it."""
    assert expand(word, {"A": "1", "B": ""}) == expected


@given(st.text(alphabet="FROMRUN-m=#`\\\"' $\n\t{}:a<", max_size=80))
def test_anything_is_read(text: str) -> None:
    """No text makes it stumble, or takes long."""
    for one in instructions(text, heredocs=True):
        assert one.name == one.name.lower()
        expand(one.rest, {"a": "b"})
