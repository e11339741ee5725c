"""docs/events.md is true: its table is complete, its commands are valid, and its files parse."""

from __future__ import annotations

import ast
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from delivery_chain.commands.main import parser_for
from delivery_chain.core.events.event import Event
from delivery_chain.core.events.ledger import Entry
from delivery_chain.core.spec.schema import event_schema
from delivery_chain.senders.setup import SETUP
from delivery_chain.senders.standard import MovedRef
from delivery_chain.senders.table import SENDERS

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "events.md").read_text(encoding="utf-8")
HOOK = DOCS / "events" / "post-receive"


def test_every_field_of_the_conf_is_explained() -> None:
    """The table has a row for each field of the schema, and for no other."""
    table = TEXT.partition("| field | meaning |")[2].partition("\n\n")[0]
    named = {
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert named == set(json.loads(event_schema())["properties"])


@pytest.mark.parametrize("command", re.findall(r"^\$ (delivery-chain [^|\n]*)", TEXT, re.MULTILINE))
def test_commands_are_taken(command: str) -> None:
    """What the page shows is a command line that the parser takes."""
    words = shlex.split(command)[1:]
    assert callable(parser_for(words[:1]).parse_args(words).func)


def test_the_confs_are_events() -> None:
    """Each conf that the page shows is one."""
    confs = [json.loads(text)["conf"] for text in re.findall(r"--json '(.*?)'", TEXT)]
    assert [Event.from_conf(conf).to_conf() for conf in confs] == [{"ref": "refs/tags/v1.2.0"}]


def test_the_body_is_one() -> None:
    """The request that the page shows for post-receive has pushes that a receiver takes."""
    bodies = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)]
    (body,) = [body for body in bodies if "type" in body]
    assert set(body) == {"type", "repository", "actor", "pushed_at", "pushes"}
    assert [MovedRef(**push).to_xcom() for push in body["pushes"]] == body["pushes"]


def test_the_answer_is_one() -> None:
    """The answer that the page shows is what the receiver says of such a push."""
    bodies = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)]
    (answer,) = [body for body in bodies if "changes" in body]
    (change,) = answer["changes"]
    assert Entry.model_validate(change).model_dump(mode="json") == change
    assert set(answer) == {"delivery", "event", "ignored", "changes"}


def test_every_sender_is_in_the_table() -> None:
    """With what to set where, in the words of the command."""
    table = TEXT.partition("| `sender` |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
    named = {name: cells[2] for cells in rows for name in re.findall(r"`([a-z-]+)`", cells[0])}
    assert named == SETUP
    assert set(SENDERS) == set(SETUP)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(((?!https?:)[^)#]+)\)", TEXT))))
def test_links_lead_somewhere(link: str) -> None:
    """Every file that the page links to is there."""
    assert (DOCS / link).exists()


def steps(value: Any) -> list[str]:
    """All scripts in a CI file."""
    if isinstance(value, dict):
        return [one for key, inner in value.items() for one in ([inner] if key == "run" else steps(inner))]
    if isinstance(value, list):
        return [one for inner in value for one in (steps(inner) if not isinstance(inner, str) else [inner])]
    return []


@pytest.mark.parametrize("name", ["github-action.yaml", "gitlab-ci.yml"])
def test_ci_files(name: str) -> None:
    """They parse, use no action of others, and put no secret or expression into a script's text or command line."""
    text = (DOCS / "events" / name).read_text(encoding="utf-8")
    scripts = "\n".join(steps(yaml.safe_load(text)))
    assert "/dagRuns" in scripts
    assert "uses:" not in text
    assert [word for word in ("${{", 'PASSWORD"', "-u ", "-H ", "-L") if word in scripts] == []


def test_the_hook_is_for_any_python() -> None:
    """It is executable, is Python 3.9, and imports the standard library alone."""
    tree = ast.parse(HOOK.read_text(encoding="utf-8"), feature_version=(3, 9))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert HOOK.stat().st_mode & 0o111 == 0o111
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
