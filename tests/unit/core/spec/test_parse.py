from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.spec.document import LARGEST_SPEC, key_path
from delivery_chain.core.spec.parse import parse_spec
from delivery_chain.errors import SpecError

HEAD = "version: 1\nname: x\nscope: {instance: home, namespace: shop, repositories: [api]}\n"
SOURCE = "sources: {api: {connection: g}}\n"
SPECS = Path(__file__).parents[4] / "chain_specs"


TOP = "expected one of build, description, distribute, name, replicate, scan, scope, sources, version"
OWNER = re.compile(r" \((?:build rule|replication rule|trigger) '[^']*'\)$")


def told(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "f.yaml")
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return [str(problem).removeprefix("f.yaml:") for problem in caught.value.problems]


def problems(text: str) -> list[str]:
    """What is told of a text, without the names of the rules that it is told of."""
    return [OWNER.sub("", line) for line in told(text)]


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
                    "4: anchors and aliases are not supported: write the value out; text that begins with * or & goes "
                    "in quotes"
                )
            ],
        ),
        (HEAD + "<<: {description: a}\n", [f"4: <<: unknown key; {TOP}"]),
        (
            HEAD + "description: !!python/object:os.system x\n",
            [
                "4: the tag !!python/object:os.system is not supported: write the value without it, text in quotes"
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
    ("rest", "expected"),
    [
        ("name: y\n", ["4: name: duplicate key, first in line 2"]),
        (
            "scan:\n  engine: trivy\n  engine: trivy\nname: z\nbogus: 1\n",
            [
                "6: scan.engine: duplicate key, first in line 5",
                "7: name: duplicate key, first in line 2",
                f"8: bogus: unknown key; {TOP}",
            ],
        ),
        (
            "nmae: y\nscan: {blok: {}}\n1: a\n",
            [
                "4: nmae: unknown key; did you mean `name`?",
                "5: scan.blok: unknown key; did you mean `block`?",
                f"6: 1: unknown key; {TOP}",
            ],
        ),
    ],
)
def test_keys(rest: str, expected: list[str]) -> None:
    """Duplicate and unknown keys are all told, at their own lines, along with everything else."""
    assert problems(HEAD + rest) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}\n", ["1: name: is missing", "1: scope: is missing", "1: version: is missing"]),
        (HEAD.replace("version: 1", "version: 2"), ["1: version: expected 1, found 2"]),
        (
            HEAD.replace("name: x", "name: -x-"),
            [
                (
                    "2: name: expected 1 to 64 of a-z, 0-9, '.', '_' and '-', the first and last a letter or digit, "
                    "found '-x-'"
                )
            ],
        ),
        (HEAD.replace("name: x", "name: 7"), ["2: name: expected text, found 7 (put it in quotes)"]),
        (
            "version: 1\nname: x\nscope: home\nbuild: []\nsources: 3\nreplicate: {}\n",
            [
                "3: scope: expected a mapping, found 'home'",
                "4: build: expected a mapping, found []",
                "5: sources: expected a mapping, found 3",
                "6: replicate: expected a list, found {}",
            ],
        ),
        (
            HEAD.replace("[api]", "[api], all: true"),
            ["3: scope: expected either `repositories` or `all: true`"],
        ),
        (HEAD.replace("[api]", "[api], exclude: [b]"), ["3: scope: `exclude` goes with `all: true`"]),
        (
            HEAD.replace(
                "repositories: [api]", f"all: true, exclude: [{', '.join(f'r{i}' for i in range(51))}]"
            ),
            ["3: scope.exclude: expected at most 50 items, found 51"],
        ),
        (
            HEAD.replace("[api]", "[API]"),
            [
                (
                    "3: scope.repositories[0]: repository name 'API': expected lowercase words of [a-z0-9] joined by "
                    ". _ __ - and /, at most 255 characters"
                )
            ],
        ),
        (
            HEAD + "sources: {api: {connection: g, url: 'https://u:p@h/x'}}\n",
            ["4: sources.api.url: an address has no user or password: put them into the connection"],
        ),
        (
            HEAD + "sources: {web: {connection: g}}\n",
            ["4: sources.web: repository 'web' is not in the chain's scope"],
        ),
        (
            HEAD + "build:\n  rules:\n    - {name: a, branch: x, tags: [{tag: a}]}\n",
            ["6: build.rules[0]: `sources` has no entry for repository 'api'"],
        ),
        (
            HEAD
            + SOURCE
            + "build:\n  rules:\n    - name: a\n      branch: x\n      tag: y\n      tags: []\n"
            + "    - name: b\n      tag: (\n      tags: [{tag: a}]\n"
            + '    - name: c\n      tag: v1\n      tags: [{tag: "${v}"}]\n      context: ../x\n      dockerfile: /D\n'
            + "      platforms: [linux/s390x]\n      args: {a-b: c, D: 1}\n",
            [
                "10: build.rules[0].tags: expected at least one item, found none",
                "11: build.rules[1]: `tag`: not a regular expression that RE2 accepts: missing ): (",
                (
                    "17: build.rules[2].context: expected a path inside the checkout, without '..' and not absolute, "
                    "found '../x'"
                ),
                (
                    "18: build.rules[2].dockerfile: expected a path inside the checkout, without '..' and not "
                    "absolute, found '/D'"
                ),
                (
                    "19: build.rules[2].platforms[0]: expected 'linux/amd64', 'linux/arm64', 'linux/386', "
                    "'linux/arm/v7' or 'linux/arm/v6', found 'linux/s390x'"
                ),
                "20: build.rules[2].args.D: expected text, found 1 (put it in quotes)",
                (
                    "20: build.rules[2].args.a-b: expected 1 to 128 of A-Z, a-z, 0-9 and '_', the first not a digit, "
                    "found 'a-b'"
                ),
            ],
        ),
        (
            HEAD + SOURCE + "build:\n  timezone: Mars/X\n  rules:\n    - name: a\n      branch: x\n"
            "      tags: [{tag: a}, {tag: b}, {tag: c}, {tag: d}]\n"
            "    - {name: b, tag: 'v(?<n>.*)', tags: [{tag: '${m}'}]}\n"
            "    - {name: c, branch: '(?=x)', tags: [{tag: a}]}\n"
            "    - {name: d, branch: v, tag: v, tags: [{tag: a}]}\n"
            "    - {name: e, tags: [{tag: a, build_time: hour, commit_id: 41}]}\n",
            [
                "6: build.timezone: expected an IANA time zone such as Asia/Shanghai or UTC, found 'Mars/X'",
                "10: build.rules[0].tags: at most 3 tags, found 4",
                "11: build.rules[1]: tag '${m}': ${m} is not captured; the pattern names n",
                "12: build.rules[2]: `branch`: not a regular expression that RE2 accepts: invalid perl operator: (?=",
                "13: build.rules[3]: expected either `branch` or `tag`",
                "14: build.rules[4].tags[0].build_time: expected 'date' or 'minute', found 'hour'",
                "14: build.rules[4].tags[0].commit_id: expected less than or equal to 40, found 41",
            ],
        ),
        (
            HEAD + SOURCE + "build:\n  rules:\n    - name: a\n      branch: x\n      tags: [{tag: 'a$b'}]\n"
            f"      args: {{{', '.join(f'A{i}: x' for i in range(21))}}}\n",
            [
                "9: build.rules[0].tags[0]: expected ${name} for a capture, found 'a$b'",
                "10: build.rules[0].args: at most 20 build arguments, found 21",
            ],
        ),
        (
            HEAD
            + "scan:\n  engine: clair\n  block: {count: 0, severity: bad, any: [{count: 2}]}\n  accept: [all]\n",
            [
                "5: scan.engine: expected 'trivy', found 'clair'",
                "6: scan.block.count: expected greater than or equal to 1, found 0",
                "6: scan.block.severity: expected 'critical', 'high', 'medium', 'low' or 'unknown', found 'bad'",
                (
                    "7: scan.accept[0]: expected 'stale_database', 'unsupported_os', 'no_packages', 'end_of_life', "
                    "'unknown_release' or 'unidentified', found 'all'"
                ),
            ],
        ),
        (
            HEAD + "scan: {engine: [], block: {}}\n",
            [
                "4: scan.block: expected a `severity`, `findings` or `any`: this blocks nothing",
                "4: scan.engine: expected at least one item, found none",
            ],
        ),
        (
            HEAD + "scan: {enabled: false, block: {severity: high}}\n",
            ["4: scan: `block` needs the scan: drop `enabled: false` or `block`"],
        ),
        (
            HEAD + "scan: {block: {any: [{count: 2}]}}\n",
            ["4: scan.block: `any`: each clause needs a `severity` or `findings`"],
        ),
        (
            HEAD + "scan: {block: {severity: high, exceptions: [{id: CVE-2021-44228}]}}\n",
            ["4: scan.block.exceptions[0].reason: is missing"],
        ),
        (
            HEAD
            + "replicate:\n  - {name: a, to: home}\n  - {name: a, to: far, level: namespace, repository: api}\n"
            "  - {name: b, to: far, repositories: 'a'}\n  - {name: c, to: far, tags: ''}\n",
            [
                "5: replicate[0].to: is the home registry: the image is there already",
                "6: replicate[1]: `repository` goes with level repository; level namespace has `repositories`",
                "6: replicate[1].name: 'a' is used twice",
                "7: replicate[2]: `repositories` goes with level namespace",
                "8: replicate[3].tags: expected at least 1 character, found ''",
            ],
        ),
        (
            HEAD
            + "replicate:\n  - {name: a, to: far, repository: web}\n  - {name: a, to: home, as: {namespace: shop}}\n"
            "  - {name: b, to: far, level: namespace, as: {repository: x}}\n",
            [
                "5: replicate[0].repository: 'web' is not in the chain's scope",
                "6: replicate[1].name: 'a' is used twice",
                "6: replicate[1].to: is the home registry: the image is there already",
                "7: replicate[2].as.repository: goes with level repository: one name can't stand for many",
            ],
        ),
        (
            HEAD
            + "distribute:\n  - {name: a, url_connection: c, on: {}}\n  - {name: b, url_connection: c, on: some}\n"
            "  - {name: c, url_connection: c, on: {regexp: '('}}\n  - {name: d, url_connection: c, method: PUT}\n"
            "  - {name: e}\n  - {name: f, url_connection: c, on: {tags: [.x]}}\n",
            [
                "5: distribute[0].on: expected `all`, {regexp: …} or {tags: […]}",
                (
                    "6: distribute[1].on: expected `all`, {regexp: …} or {tags: […]}, found 'some'; as a pattern: "
                    "{regexp: 'some'}"
                ),
                "7: distribute[2].on.regexp: not a regular expression that RE2 accepts: missing ): (",
                "8: distribute[3].method: expected 'POST' or 'GET', found 'PUT'",
                "9: distribute[4].url_connection: is missing",
                (
                    "10: distribute[5].on.tags[0]: tag '.x': expected 1 to 128 characters of [A-Za-z0-9_.-], the first "
                    "not . or -"
                ),
            ],
        ),
        (
            HEAD + "replicate: [{name: to-far, to: far}]\ndistribute:\n"
            "  - {name: a, url_connection: c, after: [to-near, to-far]}\n  - {name: a, url_connection: c}\n",
            [
                "6: distribute[0].after: no replication rule is named 'to-near'",
                "7: distribute[1].name: 'a' is used twice",
            ],
        ),
        (
            HEAD.replace("[api]", "[api, web]")
            + SOURCE
            + "build: {rules: [{name: r, branch: main, tags: [{tag: a}]}]}\nreplicate: [{name: t, to: far}]\n",
            [
                "5: build.rules[0]: name a `repository`: the scope has more than one",
                "6: replicate[0]: give `repository` or `level: namespace`: the scope has more than one",
            ],
        ),
    ],
)
def test_every_problem_at_once(text: str, expected: list[str]) -> None:
    """A bad spec gives the whole list of its problems: line, key path and message, in line order."""
    assert problems(text) == expected


def test_a_fault_hides_no_other() -> None:
    """What is wrong between healthy parts is said, and a part with a fault is not said to be missing."""
    text = (
        HEAD + "sources: {api: {connection: 5, url: a.git}}\nbuild:\n  rules:\n"
        "    - {name: r, branch: main, tags: [{tag: a}]}\n    - {name: r, branch: main, tags: []}\n"
        "replicate:\n  - {name: far, to: far, colour: red}\n  - {name: here, to: home}\n"
        "distribute: [{name: t, url_connection: c, after: [far, gone]}]\n"
    )
    assert problems(text) == [
        "4: sources.api.connection: expected text, found 5 (put it in quotes)",
        "8: build.rules[1].name: 'r' is used twice",
        "8: build.rules[1].tags: expected at least one item, found none",
        (
            "10: replicate[0].colour: unknown key; expected one of as, level, name, override, repositories, "
            "repository, tags, "
            "to"
        ),
        "11: replicate[1].to: is the home registry: the image is there already",
        "12: distribute[0].after: no replication rule is named 'gone'",
    ]


def test_faults_and_cross_faults_together() -> None:
    """A fault in one section does not hide what is wrong between the others."""
    text = HEAD + "scan: {engine: x}\nreplicate: [{name: a, to: home}]\n"
    assert problems(text) == [
        "4: scan.engine: expected 'trivy', found 'x'",
        "5: replicate[0].to: is the home registry: the image is there already",
    ]


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


RULE = "build:\n  rules:\n    - {name: r, branch: main, tags: [{tag: a}], "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            RULE + "dockerfil: x}\n",
            "7: build.rules[0].dockerfil: unknown key; did you mean `dockerfile`? (build rule 'r')",
        ),
        (
            "replicate: [{name: far, to: far, tag: x}]\n",
            "4: replicate[0].tag: unknown key; did you mean `tags`? (replication rule 'far')",
        ),
        (
            "distribute: [{name: tell, url_connection: c, after: [gone]}]\n",
            "4: distribute[0].after: no replication rule is named 'gone' (trigger 'tell')",
        ),
        (
            "distribute: [{name: 'it''s', url_connection: c, on: {regexp: '*'}}]\n",
            (
                "4: distribute[0].on.regexp: not a regular expression that RE2 accepts: no argument for repetition "
                "operator: * ('*' looks like a glob and is read as a regular expression for the whole name; "
                "write '.*') "
                '(trigger "it\'s")'
            ),
        ),
        (
            "replicate: [{name: 7, to: far}]\n",
            "4: replicate[0].name: expected text, found 7 (put it in quotes)",
        ),
        ("replicate: [{to: far}]\n", "4: replicate[0].name: is missing"),
    ],
)
def test_whose_problem_it_is(text: str, expected: str) -> None:
    """A problem of a rule, region or trigger names it: who reads it does not count items from 0."""
    assert expected in told(HEAD + SOURCE + text if "build:" in text else HEAD + text)
