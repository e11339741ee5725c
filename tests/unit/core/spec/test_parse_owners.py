"""A problem of a rule, region or trigger gives its name."""

from __future__ import annotations

import pytest

from support.spec_problems import HEAD, SOURCE, told

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
                "operator: * ('*' looks like a glob, but is read as a regular expression for the whole name; "
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
