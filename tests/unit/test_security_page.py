"""SECURITY.md is true: each guarantee has tests, every link works, and the threat model is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("SECURITY.md", "docs/trivy.md")}
PAGE = PAGES["SECURITY.md"]


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its first two lines."""
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


PROMISES = rows("Guarantees")


def test_promises_are_numbered() -> None:
    """People can name one."""
    assert [row[0] for row in PROMISES] == [str(number) for number in range(1, len(PROMISES) + 1)]
    assert len(PROMISES) > 10


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row[0])
def test_each_promise_names_tests(row: list[str]) -> None:
    """There are files of tests, and each has some."""
    _, promise, tests = row
    assert promise
    names = re.findall(r"`([^`]+)`", tests)
    assert names
    assert [name for name in names if "\ndef test_" not in (ROOT / name).read_text(encoding="utf-8")] == []


def test_everybody_of_the_threat_model_is_there() -> None:
    """Each one has something that they may and something that is said about the rest."""
    people = [row[0] for row in rows("Threat model")]
    for who in (
        "anonymous",
        "webhook sender",
        "push source",
        "push images",
        "registry",
        "git source",
        "mirror",
    ):
        assert any(who in one for one in people), who
    for who in ("`viewer`", "`user`", "`op`", "`admin`", "spec", "Dag", "worker", "container"):
        assert any(who in one for one in people), who
    assert [row for row in rows("Threat model") if len(row) != 3 or not all(row)] == []


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    """Every file that the page links to is there."""
    links = re.findall(r"\]\(((?!https?:)[^)#]+)\)", PAGES[name])
    assert links
    assert [link for link in links if not ((ROOT / name).parent / link).exists()] == []


def test_reports_go_to_the_forge() -> None:
    """No address of a person is written down; the page says where a report is private."""
    assert re.findall(r"[\w.]+@[\w-]+\.\w+|mailto:", PAGE) == []
    assert "Report a vulnerability*" in PAGE
