"""Versions of specs that parses store in Variables, and which of them is in force."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from delivery_chain.core.events.watch_dags import source_dag_id, told_key
from delivery_chain.core.spec.in_force import INDEX, REMEMBER, State, kept_key
from delivery_chain.spec_store import in_force
from delivery_chain.spec_store.in_force import chain, look, mentioning, missing, settle
from support.spec_versions import index, shown, write

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from support.variables import Variables


def test_a_parse_writes_what_changed_and_nothing_else(tmp_path: Path, variables: Variables) -> None:
    """A steady one reads a single Variable, however many chains there are."""
    for name in ("one", "two"):
        write(tmp_path, name)
    first = shown(tmp_path), variables.took("read", "write")
    steady = shown(tmp_path), variables.took("read", "write")
    write(tmp_path, "two", regions=1)
    edited = shown(tmp_path), variables.took("read", "write")
    keys = [f"write {kept_key(name)}" for name in ("one", "two")]
    assert first == (
        {"one": (1, "current"), "two": (1, "current")},
        [f"read {INDEX}", *keys, f"write {INDEX}"],
    )
    assert steady == (first[0], [f"read {INDEX}"])
    assert edited == (
        {"one": (1, "current"), "two": (2, "current")},
        [f"read {INDEX}", keys[1], f"write {INDEX}"],
    )


def test_other_parses_write_nothing(tmp_path: Path, variables: Variables) -> None:
    """That of the Dags which watch, and those of tasks."""
    write(tmp_path, "one")
    look(tmp_path)
    mentioning(tmp_path, ["one"])
    chain(tmp_path, "one")
    assert variables.held == {}


def test_without_a_supervisor_files_are_all_there_is(tmp_path: Path) -> None:
    """On a command line, and where a Dag is tested."""
    write(tmp_path, "one")
    (tmp_path / "two.yaml").write_text("name: two\n")
    assert (shown(tmp_path), [one.name for one in mentioning(tmp_path, [])]) == ({"one": (0, "")}, ["one"])


def test_a_typo_leaves_the_last_good_version_in_force(tmp_path: Path, variables: Variables) -> None:
    """For the Dag, for the Dags that watch for it, and for its tasks."""
    write(tmp_path, "one")
    good = look(tmp_path, keep=True).in_force[0].spec
    write(tmp_path, "one", more="time_zone: UTC\n")
    assert shown(tmp_path) == {"one": (1, "invalid")}
    assert (
        look(tmp_path).open == mentioning(tmp_path, ["git_shop", "one"]) == [chain(tmp_path, "one")] == [good]
    )
    assert mentioning(tmp_path, ["elsewhere"]) == []


def test_a_task_that_starts_before_the_typo_was_parsed_finds_the_chain(
    tmp_path: Path, variables: Variables
) -> None:
    """Also where the file is gone, or its Dag watches for it."""
    write(tmp_path, "one")
    (good,) = look(tmp_path, keep=True).open
    (tmp_path / "one.yaml").write_text("name: one\ngit_shop")
    invalid = mentioning(tmp_path, ["git_shop"]), chain(tmp_path, "one")
    (tmp_path / "one.yaml").unlink()
    assert invalid == (mentioning(tmp_path, ["git_shop"]), chain(tmp_path, "one")) == ([good], good)


def test_a_renamed_chain_ends_its_runs_and_takes_no_new_ones(tmp_path: Path, variables: Variables) -> None:
    """Both names have a Dag; the watching Dags are for the new one."""
    write(tmp_path, "one")
    look(tmp_path, keep=True)
    write(tmp_path, "new", file="one.yaml")
    assert shown(tmp_path) == {"new": (1, "current"), "one": (1, "removed")}
    after = look(tmp_path)
    assert ([one.name for one in after.open], after.removed, after.unsettled) == (["new"], ("one",), True)
    assert [one.name for one in mentioning(tmp_path, [])] == ["new"]


def test_a_settled_chain_has_no_dag(tmp_path: Path, variables: Variables) -> None:
    """It is remembered, and as it was when its spec comes back."""
    write(tmp_path, "one")
    look(tmp_path, keep=True)
    write(tmp_path, "new", file="one.yaml")
    look(tmp_path, keep=True)
    settle("one")
    gone = look(tmp_path, keep=True)
    variables.took()
    steady = look(tmp_path, keep=True)
    assert (shown(tmp_path), gone.removed, steady.unsettled) == ({"new": (1, "current")}, ("one",), False)
    assert set(variables.took("read", "write")) == {f"read {INDEX}", f"read {kept_key('one')}"}
    settle("one", settled=False)
    assert shown(tmp_path) == {"new": (1, "current"), "one": (1, "removed")}
    settle("one")
    write(tmp_path, "one", regions=1)
    (tmp_path / "one.yaml").rename(tmp_path / "two.yaml")
    assert shown(tmp_path)["one"] == (2, "current")
    (tmp_path / "two.yaml").write_text("name: one")
    assert shown(tmp_path)["one"] == (2, "invalid")


def test_a_removed_chain_leaves_nothing(tmp_path: Path, variables: Variables, clock: list[timedelta]) -> None:
    """After a day: neither its spec nor what its source's Dag saw last. What others use stays."""
    write(tmp_path, "one")
    write(tmp_path, "two")
    (spec, _) = look(tmp_path, keep=True).open
    cursor = source_dag_id(spec.sources["api"])
    variables.held |= {cursor: "{}", told_key(cursor): "{}", "other": "x"}
    (tmp_path / "one.yaml").unlink()
    for minutes in (0, 2, 3):
        clock[0] = timedelta(minutes=minutes)
        look(tmp_path, keep=True)
        if minutes:
            settle("one")
    assert cursor in variables.held
    clock[0] = REMEMBER + timedelta(minutes=5)
    look(tmp_path, keep=True)
    assert set(variables.held) == {INDEX, kept_key("two"), "other"}
    assert list(index(variables)["chains"]) == ["two"]


def test_an_empty_folder_removes_nothing(tmp_path: Path, variables: Variables) -> None:
    """As where a volume is not mounted; who means it deletes the index."""
    write(tmp_path, "one")
    look(tmp_path, keep=True)
    (tmp_path / "one.yaml").unlink()
    assert (shown(tmp_path), shown(tmp_path / "nowhere")) == ({"one": (1, "no files")},) * 2
    (problem,) = missing(tmp_path)
    assert str(problem).startswith(
        f"{tmp_path}:1: expected specs, found none; the last valid versions of one stay in force."
    )
    del variables.held[INDEX]
    assert (shown(tmp_path), missing(tmp_path)) == ({}, ())


def test_many_chains_are_kept_in_several_parses(
    tmp_path: Path, variables: Variables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parse has a time limit; all have their Dags at once."""
    monkeypatch.setattr(in_force, "MOST_AT_ONCE", 2)
    for name in ("a", "b", "c", "d", "e"):
        write(tmp_path, name)
    everything = dict.fromkeys("abcde", (1, "current"))
    kept = []
    for _ in range(3):
        assert shown(tmp_path) == everything
        kept.append(len(index(variables)["chains"]))
    assert kept == [2, 4, 5]


def test_a_state_of_each_kind_has_its_word() -> None:
    """Just a removed chain takes no new runs."""
    assert [state for state in State if not state.runs] == [State.REMOVED]
