"""The lists "Where to add …" of docs/architecture.md, checked for the existing builders, engines and so on."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.builders.table import BUILDERS
from delivery_chain.dag_files.factory import make_chain_dag
from delivery_chain.runners.table import RUNNERS
from delivery_chain.scanners.table import SCANNERS
from delivery_chain.senders.table import SENDERS
from delivery_chain.targets.table import TARGETS
from support.chain_steps import chain
from support.ways_in import way_in

if TYPE_CHECKING:
    from collections.abc import Callable


def step_class(name: str) -> type:
    """The operator of a chain's step."""
    task = make_chain_dag(chain(replicate=[{"name": "to-west", "to": "west"}])).get_task(name)
    return getattr(task, "operator_class", type(task))


LOADED: dict[tuple[str, str], Callable[[str], object]] = {
    ("builder", "buildah"): lambda name: type(BUILDERS.load(name)()),
    ("runner", "local"): lambda name: type(RUNNERS.load(name)()),
    ("scan engine", "trivy"): lambda name: type(SCANNERS.load(name)()),
    ("target", "webhook"): TARGETS.load,
    ("sender", "gitlab"): lambda name: SENDERS[name].parse,
    ("sender", "azure"): lambda name: SENDERS[name].parse,
    ("step", "publish"): step_class,
    ("step", "replicate"): step_class,
}
"""A list's subject and a thing that is there, with what loads it by its name."""


@pytest.mark.parametrize(("what", "name"), LOADED)
def test_a_list_is_numbered(what: str, name: str) -> None:
    """From 1, without a gap."""
    assert [item.number for item in way_in(what)] == list(range(1, len(way_in(what)) + 1))


@pytest.mark.parametrize(("what", "name"), LOADED)
def test_a_list_holds_for_what_was_added(what: str, name: str) -> None:
    """Each file that it names is there, and has a place for the thing."""
    assert [lack for item in way_in(what) if (lack := item.lacks(name))] == []


@pytest.mark.parametrize(("what", "name"), LOADED)
def test_a_list_leads_to_what_is_loaded(what: str, name: str) -> None:
    """One of its files is the one that the name loads."""
    loaded = inspect.getfile(LOADED[what, name](name))
    assert Path(loaded) in [item.file(name) for item in way_in(what)]
