"""The version in force, as seen by runs and watches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError

from delivery_chain.core.events.watch_dags import over_key, source_dag_id, told_key
from delivery_chain.core.spec.in_force import REMEMBER, kept_key
from delivery_chain.core.spec.model import Source
from delivery_chain.errors import EventRefused
from delivery_chain.spec_store.in_force import chain, look, version_for, watched_before
from support.spec_versions import LATER, write

if TYPE_CHECKING:
    from pathlib import Path

    from support.variables import Variables


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
