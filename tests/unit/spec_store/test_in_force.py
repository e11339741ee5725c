"""What the Dag processor and tasks make of files and Variables together."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError

from delivery_chain.core.events.watch_dags import over_key, source_dag_id, told_key
from delivery_chain.core.spec.in_force import REMEMBER, State
from delivery_chain.core.spec.model import Source
from delivery_chain.errors import EventRefused
from delivery_chain.spec_store import in_force
from delivery_chain.spec_store.in_force import (
    INDEX,
    chain,
    kept_key,
    look,
    mentioning,
    missing,
    settle,
    version_for,
    watched_before,
)
from support.variables import Variables, supervise

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """\
version: 1
name: {name}
scope: {{instance: home, namespace: {name}, repositories: [api]}}
sources: {{api: {{connection: git_shop, url: {name}.git}}}}
build: {{rules: [{{name: main, branch: main, tags: [{{tag: edge}}]}}]}}
replicate: [{regions}]
"""
LATER = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Variables:
    return supervise(monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """How far the present is ahead, to be moved on."""
    ahead = [timedelta(0)]

    class Moved(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + ahead[0]

    monkeypatch.setattr(in_force, "datetime", Moved)
    return ahead


def write(folder: Path, name: str, *, file: str = "", regions: int = 2, more: str = "") -> None:
    listed = ", ".join(f"{{name: r{number}, to: west}}" for number in range(regions))
    (folder / (file or f"{name}.yaml")).write_text(SPEC.format(name=name, regions=listed) + more)


def shown(place: Path, *, keep: bool = True) -> dict[str, tuple[int, str]]:
    """Number and state of each chain that has a Dag."""
    found = look(place, keep=keep).in_force
    return {
        one.spec.name: (one.entry.number, one.entry.state.value) if one.entry else (0, "") for one in found
    }


def index(variables: Variables) -> Any:
    return json.loads(variables.held[INDEX])


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
    """Under both names there is a Dag; the watching Dags are for the new one."""
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
        f"{tmp_path}:1: expected specs, found none; the last good versions of one stay in force."
    )
    del variables.held[INDEX]
    assert (shown(tmp_path), missing(tmp_path)) == ({}, ())


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"chains": {"one": {}}}', '{"chains": {"one": {"slots": {"build": 9e9}}}}']
)
def test_an_index_that_somebody_damaged_is_made_anew(tmp_path: Path, variables: Variables, text: str) -> None:
    """From what is kept of each chain: numbers go on, and an invalid file keeps its last good version."""
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
    """Its chain has no Dag until the file is good, and the others go on."""
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


def test_a_run_is_planned_with_the_version_that_its_dag_shows(tmp_path: Path, variables: Variables) -> None:
    """Where the file is ahead of the Dag, the Dag may lack the instances for it."""
    write(tmp_path, "one")
    (old,) = look(tmp_path, keep=True).open
    write(tmp_path, "one", regions=3)
    ahead = chain(tmp_path, "one")
    assert ahead is not None
    assert (version_for(old, LATER), version_for(ahead, LATER)) == ((old, 1), (old, 1))
    look(tmp_path, keep=True)
    assert version_for(ahead, LATER) == (ahead, 2)


def test_where_no_version_is_known_the_file_counts(tmp_path: Path, variables: Variables) -> None:
    """Before the first parse; and for a Variable that somebody damaged."""
    write(tmp_path, "one")
    (spec,) = look(tmp_path).open
    before = version_for(spec, LATER)
    look(tmp_path, keep=True)
    other = spec.model_copy(update={"description": "other"})
    variables.held[kept_key("one")] = "{}"
    assert (before, version_for(other, LATER)) == ((spec, 0), (other, 0))


def test_a_watch_that_no_chain_needs_is_told_so(
    tmp_path: Path, variables: Variables, clock: list[timedelta]
) -> None:
    """For a day; and that it is needed again, where the chain comes back by then."""
    watch = source_dag_id(Source(connection="git_shop", url="one.git"))
    told = over_key(told_key(watch))
    write(tmp_path, "one")
    look(tmp_path, keep=True)
    write(tmp_path, "new", file="one.yaml")
    look(tmp_path, keep=True)
    gone = told in variables.held, watch in look(tmp_path).watched_before, watched_before(watch)
    write(tmp_path, "one")
    look(tmp_path, keep=True)
    back = told in variables.held, watch in look(tmp_path).watched_before, watched_before(watch)
    write(tmp_path, "new", file="one.yaml")
    look(tmp_path, keep=True)
    clock[0] = REMEMBER
    look(tmp_path, keep=True)
    over = told in variables.held, watch in look(tmp_path).watched_before, watched_before(watch)
    assert (gone, back, over) == ((True,) * 3, (False,) * 3, (False,) * 3)


def test_a_watch_is_told_later_where_it_could_not_be_now(tmp_path: Path, variables: Variables) -> None:
    """The index does not say more than was written."""
    write(tmp_path, "one")
    look(tmp_path, keep=True)
    write(tmp_path, "new", file="one.yaml")
    variables.broken = {"write"}
    look(tmp_path, keep=True)
    variables.broken = set()
    look(tmp_path, keep=True)
    told = over_key(told_key(source_dag_id(Source(connection="git_shop", url="one.git"))))
    assert told in variables.held


def test_a_removed_chain_refuses_runs_that_came_after(tmp_path: Path, variables: Variables) -> None:
    """Those that were due before have its last version."""
    write(tmp_path, "one")
    (spec,) = look(tmp_path, keep=True).open
    write(tmp_path, "new", file="one.yaml")
    look(tmp_path, keep=True)
    assert version_for(spec, datetime.now(UTC) - timedelta(minutes=1)) == (spec, 1)
    with pytest.raises(
        EventRefused, match=r"^chain 'one' was removed from the specs on .* \(one\.yaml was its file\)"
    ):
        version_for(spec, LATER)


def test_a_plan_does_not_guess(tmp_path: Path, variables: Variables) -> None:
    """While Airflow can't tell, there is a retry."""
    write(tmp_path, "one")
    (spec,) = look(tmp_path, keep=True).open
    variables.broken = {"read"}
    with pytest.raises(AirflowRuntimeError):
        version_for(spec, LATER)


def test_a_state_of_each_kind_has_its_word() -> None:
    """Just a removed chain takes no new runs."""
    assert [state for state in State if not state.runs] == [State.REMOVED]
