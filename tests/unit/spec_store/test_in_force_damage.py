"""Variables that are damaged, unreachable or read-only stop no parse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.spec.in_force import INDEX, kept_key
from delivery_chain.spec_store.in_force import look
from support.spec_versions import index, shown, write

if TYPE_CHECKING:
    from pathlib import Path

    from support.variables import Variables


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"chains": {"one": {}}}', '{"chains": {"one": {"slots": {"build": 9e9}}}}']
)
def test_an_index_that_somebody_damaged_is_made_anew(tmp_path: Path, variables: Variables, text: str) -> None:
    """The stored specs rebuild the index: versions continue to count, and an invalid file keeps its last valid one."""
    write(tmp_path, "one")
    write(tmp_path, "two")
    look(tmp_path, keep=True)
    write(tmp_path, "one", regions=1)
    look(tmp_path, keep=True)
    write(tmp_path, "two", more="x")
    variables.held[INDEX] = text
    assert shown(tmp_path) == {"one": (2, "current"), "two": (1, "invalid")}
    assert set(index(variables)["chains"]) == {"one", "two"}


@pytest.mark.parametrize("text", ["", "{}", "null", '{"chain": "one", "spec": {}, "entry": {}}'])
def test_a_kept_spec_that_somebody_damaged_is_none(tmp_path: Path, variables: Variables, text: str) -> None:
    """Its chain has no Dag until the file is valid, and the others are unaffected."""
    write(tmp_path, "one")
    write(tmp_path, "two")
    look(tmp_path, keep=True)
    (tmp_path / "one.yaml").write_text("name: one")
    variables.held[kept_key("one")] = text
    assert shown(tmp_path) == {"two": (1, "current")}
    write(tmp_path, "one")
    assert shown(tmp_path)["one"] == (1, "current")


def test_the_spec_of_another_chain_is_none(tmp_path: Path, variables: Variables) -> None:
    """Copied from one Variable to another."""
    write(tmp_path, "one")
    write(tmp_path, "two")
    look(tmp_path, keep=True)
    variables.held[kept_key("one")] = variables.held[kept_key("two")]
    (tmp_path / "one.yaml").write_text("name: one")
    assert shown(tmp_path) == {"two": (1, "current")}


def test_variables_that_can_not_be_read_stop_no_parse(tmp_path: Path, variables: Variables) -> None:
    """Files count alone, and nothing is written that would make chains look new."""
    write(tmp_path, "one")
    look(tmp_path, keep=True)
    held = dict(variables.held)
    variables.broken = {"read"}
    write(tmp_path, "two")
    assert (shown(tmp_path), variables.held) == ({"one": (0, ""), "two": (0, "")}, held)


@pytest.mark.parametrize("broken", [{"list"}, set()], ids=["its database is away", "it has just come back"])
def test_an_airflow_that_knows_no_variable_for_a_while_stops_no_parse(
    tmp_path: Path, variables: Variables, broken: set[str]
) -> None:
    """It says that there are none. Made anew, the index would number from 1, and forget what files do not tell."""
    write(tmp_path, "one")
    write(tmp_path, "two")
    look(tmp_path, keep=True)
    write(tmp_path, "two", more="x")
    look(tmp_path, keep=True)
    held = dict(variables.held)
    variables.hidden, variables.broken = True, broken
    assert (shown(tmp_path), variables.held) == ({"one": (0, "")}, held)
    variables.hidden, variables.broken = False, set()
    assert shown(tmp_path) == {"one": (1, "current"), "two": (1, "invalid")}


def test_variables_that_can_not_be_written_are_written_later(tmp_path: Path, variables: Variables) -> None:
    """A chain's number does not grow with every try."""
    write(tmp_path, "one")
    look(tmp_path, keep=True)
    variables.broken = {"write"}
    write(tmp_path, "one", regions=1)
    write(tmp_path, "two")
    assert [shown(tmp_path) for _ in range(3)] == [{"one": (2, "current"), "two": (1, "current")}] * 3
    variables.broken = set()
    shown(tmp_path)
    assert {name: one["number"] for name, one in index(variables)["chains"].items()} == {"one": 2, "two": 1}


def test_an_index_that_lost_a_chain_finds_its_number(tmp_path: Path, variables: Variables) -> None:
    """Two Dag processors write it at once, one from an older folder."""
    write(tmp_path, "one")
    write(tmp_path, "two")
    look(tmp_path, keep=True)
    write(tmp_path, "one", regions=1)
    look(tmp_path, keep=True)
    known = index(variables)
    del known["chains"]["one"]
    variables.held[INDEX] = json.dumps(known)
    assert shown(tmp_path) == {"one": (2, "current"), "two": (1, "current")}
