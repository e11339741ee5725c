"""Specs are edited while runs are in flight: nothing hangs, and every run follows the spec it was planned with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import spec_edits
from support.spec_edits import FAR, FIRST, INVALID, NEW_NAME, RENAMED, SECOND, SHRUNK, dag, text, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.chain_runs import Ended, Sandbox

pytestmark = pytest.mark.e2e
LATE = "after-the-rename"


@dataclass(frozen=True, slots=True)
class Edited:
    """The runs that were building while their specs were edited."""

    runs: dict[str, Ended]
    """Runs by chain; `LATE` was started after its chain had been removed."""
    docs: dict[str, str]
    """Texts on the Dags' pages once the edits had arrived."""
    tags: dict[str, set[str]]


@pytest.fixture(scope="module")
def specs(sandbox: Sandbox) -> Path:
    """The specs folder."""
    env = sandbox.layout.airflow_env.read_text("utf-8")
    found = re.search(r"^export AIRFLOW__DELIVERY_CHAIN__SPECS_FOLDER=(\S+)$", env, re.MULTILINE)
    assert found
    return Path(found[1])


@pytest.fixture(scope="module")
def edited(
    sandbox: Sandbox, specs: Path, started: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edited]:
    """Push to every chain, edit its spec in the middle of the build, and let the build continue."""
    del started
    commits = spec_edits.push(sandbox.layout, tmp_path_factory.mktemp("edits"))
    held = spec_edits.hold_builds()
    try:
        (specs / f"{RENAMED}.yaml").write_text(text(NEW_NAME, branch=RENAMED), "ascii")
        (specs / f"{INVALID}.yaml").write_text(text(INVALID) + "time_zone: UTC\n", "ascii")
        # Remove the first of two regions, so that the other would take its place, and swap the triggers.
        (specs / f"{SHRUNK}.yaml").write_text(text(SHRUNK, regions=(FAR,), told=(SECOND, FIRST)), "ascii")
        arrived = {RENAMED: "was removed", INVALID: "The spec is invalid", SHRUNK: "Version 2 "}
        for name, sign in arrived.items():
            wait_for(lambda name=name, sign=sign: sign in dag(sandbox.api, name)["doc_md"], f"{name}: {sign}")
        shown = {name: dag(sandbox.api, name) for name in arrived}
        sandbox.api.trigger(RENAMED, LATE, {"ref": RENAMED})
        refused = sandbox.of_run(RENAMED, LATE)
    finally:
        for process in held:
            process.resume()
    runs = {
        name: sandbox.of_run(name, one["dag_run_id"])
        for name in arrived
        for one in sandbox.api.runs(name)
        if one["conf"].get("commit") == commits[name]
    }
    yield Edited(
        runs | {LATE: refused},
        {name: one["doc_md"] for name, one in shown.items()},
        {name: {tag["name"] for tag in one["tags"]} for name, one in shown.items()},
    )
    for name in spec_edits.CHAINS:
        (specs / f"{name}.yaml").unlink(missing_ok=True)


@pytest.mark.parametrize("name", spec_edits.CHAINS)
def test_a_run_ends_by_the_spec_it_was_planned_with(sandbox: Sandbox, edited: Edited, name: str) -> None:
    """All its regions and triggers, each once, and none of the new spec."""
    run = edited.runs[name]
    assert (run.state, run.states["build"][:1]) == ("success", ("success",))
    assert [run.xcom("replicate", index)["rule"] for index in range(2)] == ["near", "far"]
    assert [run.xcom("distribute", index)["trigger"] for index in range(2)] == ["first", "second"]
    assert (run.xcom("plan")["number"], len(set(sandbox.digests(f"{name}/app", name).values()))) == (1, 1)


def test_instances_bear_the_names_of_the_plan(sandbox: Sandbox, edited: Edited) -> None:
    """Airflow's pages show them, whatever the spec says by now."""
    run = edited.runs[SHRUNK]
    instances = sandbox.api.task_instances(SHRUNK, run.run_id)
    names = {(one["task_id"], one["map_index"]): one["rendered_map_index"] for one in instances}
    assert {key: name for key, name in names.items() if key[0] in {"replicate", "distribute"}} == {
        ("replicate", 0): "near",
        ("replicate", 1): "far",
        ("distribute", 0): "first",
        ("distribute", 1): "second",
    }


def test_a_dag_says_how_its_spec_stands(edited: Edited) -> None:
    """At the top of its page, and as a tag in the list."""
    assert {
        name: doc.partition("**")[2].partition("**")[0]
        for name, doc in edited.docs.items()
        if doc[:2] == "**"
    } == {
        RENAMED: "This chain was removed",
        INVALID: "The spec is invalid.",
    }
    assert {name: tags - {"delivery-chain", name} for name, tags in edited.tags.items()} == {
        RENAMED: {"removed chain"},
        INVALID: {"invalid spec"},
        SHRUNK: set(),
    }


def test_a_typo_is_an_import_error_and_the_chain_goes_on(
    sandbox: Sandbox, edited: Edited, specs: Path
) -> None:
    """A new run is planned with the last valid version."""
    assert edited.runs[INVALID].state == "success"
    wait_for(
        lambda: any("time_zone" in one for one in sandbox.api.import_errors()),
        "the import error",
    )
    sandbox.api.trigger(INVALID, "after-the-typo", {"ref": INVALID})
    assert (specs / f"{INVALID}.yaml").exists()
    run = sandbox.of_run(INVALID, "after-the-typo")
    assert (run.state, run.xcom("plan")["number"]) == ("success", 1)


def test_a_renamed_chain_refuses_who_starts_it_by_its_old_name(edited: Edited) -> None:
    """It says why, and names the new chain."""
    run = edited.runs[LATE]
    assert (run.state, run.xcom("plan")) == ("failed", None)
    assert "was removed from the specs" in run.logs["plan", -1]


def test_a_renamed_chain_runs_by_its_new_name_and_goes_by_its_old_one(
    sandbox: Sandbox, edited: Edited
) -> None:
    """The Dag with the old name disappears once its runs have ended, and leaves nothing in the registry."""
    assert edited.runs[RENAMED].state == "success"
    sandbox.api.trigger(NEW_NAME, "by-its-new-name", {"ref": RENAMED})
    assert sandbox.of_run(NEW_NAME, "by-its-new-name").state == "success"
    wait_for(lambda: not dag(sandbox.api, RENAMED), "the renamed chain's Dag to go")
    assert [tag for tag in sandbox.tags(f"{RENAMED}/app") if tag.startswith("_staging")] == []
