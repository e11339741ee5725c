"""Specs with problems: all are reported, each with its line and key path."""

from __future__ import annotations

import pytest

from support.spec_problems import HEAD, SOURCE, TOP, problems


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
    """All duplicate and unknown keys are reported, at their own lines, along with every other problem."""
    assert problems(HEAD + rest) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}\n", ["1: name: is missing", "1: scope: is missing", "1: version: is missing"]),
        (HEAD.replace("version: 1", "version: 2"), ["1: version: expected 1, found 2"]),
        (
            HEAD.replace("version: 1", f"version: {'9' * 23}"),
            [f"1: version: expected a smaller number, found {'9' * 23}"],
        ),
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
            [
                "4: sources.api.url: the address must not contain a user or password: put them into the connection"
            ],
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
            "    - {name: f, tag: 'v*', tags: [{tag: '${m}'}]}\n"
            "    - {name: d, branch: v, tag: v, tags: [{tag: a}]}\n"
            "    - {name: e, tags: [{tag: a, build_time: hour, commit_id: 41}]}\n",
            [
                "6: build.timezone: expected an IANA time zone such as Asia/Shanghai or UTC, found 'Mars/X'",
                "10: build.rules[0].tags: at most 3 tags, found 4",
                "11: build.rules[1]: tag '${m}': ${m} is not captured; the pattern names n",
                "12: build.rules[2]: `branch`: not a regular expression that RE2 accepts: invalid perl operator: (?=",
                (
                    "13: build.rules[3]: tag '${m}': ${m} is not captured; the pattern names no group ('v*' looks like "
                    "a glob, but is read as a regular expression for the whole name; write 'v(?<m>.*)')"
                ),
                "14: build.rules[4]: expected either `branch` or `tag`",
                "15: build.rules[5].tags[0].build_time: expected 'date' or 'minute', found 'hour'",
                "15: build.rules[5].tags[0].commit_id: expected less than or equal to 40, found 41",
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
            "  - {name: e}\n  - {name: f, url_connection: c, on: {tags: [.x, 'v*']}}\n"
            "  - {name: g, url_connection: c, on: true}\n  - {name: h, url_connection: c, on: [x]}\n",
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
                (
                    "10: distribute[5].on.tags[1]: tag 'v*': expected 1 to 128 characters of [A-Za-z0-9_.-], the first "
                    "not . or -; this list takes whole tags, write a pattern as {regexp: 'v.*'}"
                ),
                "11: distribute[6].on: expected `all`, {regexp: …} or {tags: […]}, found true",
                (
                    "12: distribute[7].on: expected `all`, {regexp: …} or {tags: […]}, found ['x']; as a list: "
                    "{tags: ['x']}"
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
