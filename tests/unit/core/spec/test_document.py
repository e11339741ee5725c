"""Only the data of YAML 1.2 is read, and text that would be expensive for other parsers is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.spec.document import LARGEST_SPEC, MOST_NODES, Document, scalar
from delivery_chain.core.spec.parse import MOST_PROBLEMS, parse_spec
from delivery_chain.errors import SpecError

HEAD = "version: 1\nname: x\nscope: {instance: home, namespace: shop, repositories: [api]}\n"
RULE = "    - {{name: r{0}, tag: '{1}', tags: [{{tag: a}}]}}\n"
ROOM = LARGEST_SPEC - 1000


def read(text: str) -> Any:
    document = Document("f.yaml")
    data = document.read(text)
    assert document.problems == []
    return data


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "f.yaml")
    return [str(problem).removeprefix("f.yaml:") for problem in caught.value.problems]


SCALARS = {
    "": None, "~": None, "null": None, "NULL": None, "nUll": "nUll",
    "true": True, "FALSE": False, "yes": "yes", "No": "No", "on": "on", "off": "off", "y": "y", "tRue": "tRue",
    "0": 0, "-17": -17, "+3": 3, "010": 10, "0o17": 15, "0x1F": 31, "0b11": "0b11", "1_000": "1_000", "0o8": "0o8",
    "1:59": "1:59", "190:20:30": "190:20:30", "1:59.5": "1:59.5", "-0o7": "-0o7", "0xG": "0xG", "- 1": "- 1",
    "1.5": 1.5, ".5": 0.5, "1.": 1.0, "1e3": 1000.0, "-.inf": -math.inf, ".INF": math.inf, "+.Inf": math.inf,
    "1.2.3": "1.2.3", ".": ".", "e3": "e3", "1e": "1e", "inf": "inf", "nan": "nan", "1,000": "1,000",
    "2027-01-01": "2027-01-01", "2027-01-01T00:00:00Z": "2027-01-01T00:00:00Z", "=": "=", "<<": "<<", "٣": "٣",
}  # fmt: skip
"""Source: YAML 1.2.2, 10.3.2; what PyYAML takes for something else by YAML 1.1 is a text."""


@pytest.mark.parametrize(("text", "expected"), SCALARS.items(), ids=SCALARS)
def test_a_plain_scalar_is_what_the_core_schema_says(text: str, expected: object) -> None:
    """No sexagesimal numbers, no octal without `0o`, no dates, and no booleans but `true` and `false`."""
    assert repr(scalar(text)) == repr(expected)


def test_nan_is_a_number() -> None:
    """It is equal to nothing."""
    assert math.isnan(scalar(".NaN"))  # type: ignore[arg-type]


@given(st.text(alphabet="0123456789abcdefxoXO+-._:eEinfNAtruesl~ ", max_size=35))
def test_any_scalar_is_read_or_refused(text: str) -> None:
    """A scalar is a plain value or a ValueError that says why."""
    try:
        found = scalar(text)
    except ValueError as error:
        assert "at most 30 characters" in str(error)  # noqa: PT017 - it may or may not be raised
    else:
        assert type(found) in {str, int, float, bool, type(None)}


@pytest.mark.parametrize("text", ["'1'", '"true"', "|-\n  null\n", ">-\n  0x1\n"])
def test_quotes_and_blocks_are_text(text: str) -> None:
    """Only plain scalars can be anything else."""
    assert type(read(f"a: {text}")["a"]) is str


def test_keys_are_text_as_written() -> None:
    """`on:` is a key of the spec, and YAML 1.1 would have it as true."""
    assert read("on: 1\nyes: 2\n0x1: 3\n~: 4\n2027-01-01: 5\n") == {
        "on": 1, "yes": 2, "0x1": 3, "~": 4, "2027-01-01": 5,
    }  # fmt: skip


TAGS = {
    "!!binary aGk=": "!!binary",
    "!!timestamp 2027-01-01": "!!timestamp",
    "!!set {a}": "!!set",
    "!!omap [a: b]": "!!omap",
    "!!pairs [a: b]": "!!pairs",
    "!!python/name:os.system x": "!!python/name:os.system",
    "!!python/tuple [a]": "!!python/tuple",
    "!!merge a": "!!merge",
    "!!value a": "!!value",
    "!!yaml a": "!!yaml",
    "!!str 1": "!!str",
    "!!int '1'": "!!int",
    "!!null a": "!!null",
    "!vault |\n    x": "!vault",
    "!env HOME": "!env",
    "!include a.yaml": "!include",
    "! 1": "!",
    "!<tag:example.com,2026:x> a": "tag:example.com,2026:x",
    "[a, {b: !!binary aGk=}]": "!!binary",
}


@pytest.mark.parametrize(("value", "tag"), TAGS.items(), ids=TAGS)
def test_no_tag_is_taken(value: str, tag: str) -> None:
    """What a tag asks for is neither done nor left undone in silence."""
    words = f"the tag {tag} is not supported: write the value without it, and put text in quotes"

    assert problems(f"{HEAD}description: {value}\n") == [f"4: {words}"]


def test_a_tag_on_a_key_is_not_taken() -> None:
    """A key is a node as well."""
    assert problems(f"{HEAD}!!binary ZGVzY3JpcHRpb24=: a\n") == [
        "4: the tag !!binary is not supported: write the value without it, and put text in quotes"
    ]


def _lists(count: int) -> str:
    """A small file that stands for `9 ** count` items."""
    return "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" if i else "a0: &a0 [x]\n" for i in range(count)
    )


COSTLY = {
    "sexagesimal number": f"{HEAD}scan: {{block: {{severity: high, count: 1{':59' * (ROOM // 3)}}}}}\n",
    "sexagesimal number with a fraction": f"{HEAD}description: 1{':59' * (ROOM // 3)}.5\n",
    "number of very many digits": f"{HEAD}scan: {{block: {{severity: high, count: {'9' * ROOM}}}}}\n",
    "hexadecimal number of very many digits": f"{HEAD}description: 0x{'f' * ROOM}\n",
    "number with very many underscores": f"{HEAD}description: 1{'_1' * (ROOM // 2)}\n",
    "fraction of very many digits": f"{HEAD}description: .{'9' * ROOM}\n",
    "billion laughs": HEAD + _lists(12),
    "alias to itself": "a: &a [*a]\n",
    "merge of merges": f"{HEAD}<<: {{<<: {{<<: {{a: b}}}}}}\n",
    "very many keys": HEAD + "".join(f"k{i}: 1\n" for i in range(14_000)),
    "the same key very often": HEAD + "a: 1\n" * (ROOM // 5),
    "very many short items": f"[{'a,' * (ROOM // 2)}]",
    "very many wrong items": f"{HEAD}replicate: [{'a,' * (MOST_NODES - 20)}]\n",
    "very many empty items": f"{HEAD}replicate:\n" + "- {}\n" * (MOST_NODES - 20),
    "very many lists that are too short": f"{HEAD}build:\n  rules:\n" + "    - {name: A, tags: []}\n" * 4000,
    "deep lists": "[" * ROOM,
    "deep mappings": "{a: " * (ROOM // 4),
    "deep blocks": "".join(" " * i + "a:\n" for i in range(700)),
    "deep dashes": "- " * (ROOM // 2),
    "deep questions": "? " * (ROOM // 2),
    "one long text": f"{HEAD}description: {'a ' * (ROOM // 2)}\n",
    "one long text in quotes": f'{HEAD}description: "{chr(92)}x41{"a" * ROOM}"\n',
    "one long key": f"{HEAD}? {'k' * ROOM}\n: a\n",
    "one long anchor": f"a: &{'a' * ROOM} x\n",
    "one long tag": f"a: !{'a' * ROOM} x\n",
    "one long directive": f"%{'A' * ROOM}\n",
    "very many documents": "--- a\n" * (ROOM // 6),
    "patterns that grow": f"{HEAD}replicate:\n"
    + "".join(f"- {{name: a{i}, to: b, tags: '{chr(92)}pL{{{i + 100}}}'}}\n" for i in range(100)),
    "patterns of many classes": f"{HEAD}build:\n  rules:\n"
    + "".join(RULE.format(i, f"(?i){chr(92)}pL" * min(i, 200)) for i in range(1, 250)),
    "patterns inside patterns": f"{HEAD}build:\n  rules:\n"
    + "".join(RULE.format(i, f"(((a{{1,30}}){{1,30}}){{1,30}}){{{i}}}") for i in range(1, 300)),
    "repository of very many parts": HEAD.replace("api", "a" + "/a" * (ROOM // 2)),
    "placeholders without end": f"{HEAD}build:\n  rules:\n"
    + RULE.format(0, "x").replace("tag: a}", f"tag: '{'${' * (ROOM // 2)}'}}"),
    "time zone without end": f"{HEAD}build: {{timezone: {'a/' * (ROOM // 2)}, rules: []}}\n",
}


@pytest.mark.parametrize("text", COSTLY.values(), ids=COSTLY)
def test_a_text_made_to_cost_is_refused_with_few_words(text: str) -> None:
    """Whatever a spec holds, it is refused with a page of text at most, and no parser is kept busy by it."""
    found = problems(text[:LARGEST_SPEC])

    assert 1 <= len(found) <= MOST_PROBLEMS + 1
    assert all(len(problem) < 1500 for problem in found)


def test_of_very_many_problems_the_first_are_told() -> None:
    """And how many there are beside them."""
    found = problems(HEAD + "".join(f"k{i}: 1\n" for i in range(1000)))

    assert found[:2] == ["4: k0: unknown key", "5: k1: unknown key"]
    assert found[-1] == "53: 950 more problems follow; correct these first"


def test_a_number_that_is_too_long_is_told_at_its_line() -> None:
    """Once, and not as something that the field misses as well."""
    assert problems(f"{HEAD}scan:\n  block: {{severity: high, count: {'9' * 31}}}\n") == [
        (
            "5: scan.block.count: expected a number of at most 30 characters, found one of 31 "
            "(put text that consists of digits in quotes)"
        )
    ]


@pytest.mark.parametrize("said", ["yes", "on", "off", "'true'", "1", "null"])
def test_only_true_and_false_are_booleans(said: str) -> None:
    """YAML 1.2 has no others; a spec that means one thing here and another in an editor helps nobody."""
    found = problems(f"{HEAD}scan: {{enabled: {said}}}\n")

    assert [text[: len("4: scan.enabled: expected true or false")] for text in found] == [
        "4: scan.enabled: expected true or false"
    ]


@pytest.mark.parametrize("said", ["2027-01-01", "'2027-01-01'"])
def test_a_day_needs_no_quotes(said: str) -> None:
    """A date is a text in YAML 1.2, and the field reads it."""
    exception = f"{{id: CVE-2026-0001, reason: a, expires: {said}}}"
    spec = parse_spec(f"{HEAD}scan: {{block: {{severity: high, exceptions: [{exception}]}}}}\n", "f.yaml")

    assert spec.scan.block is not None
    assert spec.scan.block.exceptions[0].expires is not None
    assert spec.scan.block.exceptions[0].expires.isoformat() == "2027-01-01"


@pytest.mark.parametrize(
    "said", ["0", "20270101", "1700000000", "2027-1-1", "2027-02-30", "01.02.2027", "1e3"]
)
def test_a_day_is_no_number(said: str) -> None:
    """Seconds since 1970 are nothing that a person means."""
    exception = f"{{id: CVE-2026-0001, reason: a, expires: {said}}}"

    (found,) = problems(f"{HEAD}scan: {{block: {{severity: high, exceptions: [{exception}]}}}}\n")

    assert found.startswith("4: scan.block.exceptions[0].expires: ")
