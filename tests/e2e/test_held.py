"""Runs that wait, are stopped, and resume, on a real Airflow after a user's clicks; see docs/runs.md."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.sandbox.airflow_parts import ADMIN
from support import held_chain
from support.chain_runs import POLL_SECONDS, RUN_SECONDS
from support.held_chain import CHAIN, IMAGE
from support.spec_edits import wait_for

if TYPE_CHECKING:
    from support.chain_runs import Ended, Sandbox

pytestmark = pytest.mark.e2e
WAITING = "waiting: its Dag is paused: unpause it"
CHART = "1.0.0"


@dataclass(slots=True)
class Held:
    """Runs that were created while the Dag was paused, and their outcomes at that time."""

    moves: str
    """Run of a branch that moved on before the run began."""
    newer: str
    stopped: str
    """Run that was marked as failed while queued."""
    outcomes: tuple[Any, Any]
    """Outcomes of the first and the last of these runs."""
    page: str
    command: tuple[int, str, str]
    """Result of `trigger --wait` for the first run."""


@pytest.fixture(scope="module")
def held(sandbox: Sandbox, started: object, tmp_path_factory: pytest.TempPathFactory) -> Held:
    """Pause the Dag, push to it, and unpause it."""
    del started
    pause(sandbox, paused=True)
    folder = tmp_path_factory.mktemp("held")
    commits = held_chain.push(sandbox.layout, folder, held_chain.DOCKERFILES)
    moves, stopped = (sandbox.run_of(CHAIN, commits[branch]) for branch in ("moves", "stopped"))
    words = (CHAIN, "--ref", "refs/heads/moves", "--run-id", moves, "--wait", "--timeout", "1")
    command = sandbox.triggered(*words)
    assert sandbox.api.call("PATCH", f"/dags/{CHAIN}/dagRuns/{stopped}", body={"state": "failed"})
    outcomes = sandbox.outcome(CHAIN, moves), sandbox.outcome(CHAIN, stopped)
    page = sandbox.page(f"{CHAIN}/{moves}").text
    newer = sandbox.run_of(CHAIN, held_chain.move(sandbox.layout, folder))
    pause(sandbox, paused=False)
    return Held(moves, newer, stopped, outcomes, page, command)


def pause(sandbox: Sandbox, *, paused: bool) -> None:
    assert sandbox.api.call("PATCH", f"/dags/{CHAIN}", body={"is_paused": paused})["is_paused"] is paused


@pytest.fixture(scope="module")
def stopped(sandbox: Sandbox, held: Held, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Runs by branch whose builds were stopped midway; one of them was cleared at that very moment."""
    del held
    folder = tmp_path_factory.mktemp("stopped")
    commits = held_chain.push(sandbox.layout, folder, held_chain.STOPPED)
    runs: dict[str, str] = {}
    deadline = time.monotonic() + RUN_SECONDS
    while left := commits.keys() - runs.keys():
        assert time.monotonic() < deadline, f"no build of {left}"
        for run in sandbox.api.runs(CHAIN):
            branch = str((run["conf"] or {}).get("ref")).removeprefix("refs/heads/")
            tasks = sandbox.api.task_instances(CHAIN, run["dag_run_id"]) if branch in left else []
            if ("build", "running") in {(one["task_id"], one["state"]) for one in tasks}:
                runs[branch] = run["dag_run_id"]
                stop(sandbox, branch, runs[branch])
        time.sleep(POLL_SECONDS)
    return runs


def stop(sandbox: Sandbox, branch: str, run_id: str) -> None:
    assert sandbox.outcome(CHAIN, run_id)["sentence"] == f"running build [linux/amd64]; {IMAGE} {branch}"
    path = f"/dags/{CHAIN}/dagRuns/{run_id}"
    if branch == "task":
        assert sandbox.api.call("PATCH", f"{path}/taskInstances/build/0", body={"new_state": "failed"})
        return
    assert sandbox.api.call("PATCH", path, body={"state": "failed"})
    if branch == "at-once":
        sandbox.clear_failed(CHAIN, run_id)


def ended(sandbox: Sandbox, run_id: str) -> Ended:
    return sandbox._await(CHAIN, run_id, lambda run: bool(run["dag_run_id"] == run_id))


def delivered(run: Ended, what: str) -> bool:
    """Whether a run delivered everything."""
    good = (run.state, run.states["replicate"], run.states["distribute"]) == (
        "success",
        ("success",),
        ("success",),
    )
    return good and run.note.startswith(f"delivered: {IMAGE} {what} at sha256:")


def test_a_run_of_a_paused_dag_waits(held: Held) -> None:
    """Outcome, page and command say what the run waits for."""
    waits = {"end": "waiting", "step": "", "by": "", "sentence": WAITING, "good": False, "state": "queued"}
    assert held.outcomes[0] == waits
    assert WAITING[0].upper() + WAITING[1:] in held.page
    code, out, err = held.command
    paused = f"{CHAIN} is paused: its run stays queued until the Dag is unpaused in the UI"
    late = f"{CHAIN}: run {held.moves} did not finish in time, last state queued ({WAITING}); it continues"
    assert (code, out.split()[:2], err.splitlines()) == (3, ["exists", held.moves], [paused, late])


def test_a_run_whose_branch_moved_on_is_superseded(sandbox: Sandbox, held: Held) -> None:
    """The run did what it should, but its push has no image: the command's exit code is 1."""
    run = ended(sandbox, held.moves)
    assert (run.state, run.note.startswith("superseded: 'refs/heads/moves' moved on from ")) == (
        "success",
        True,
    )
    words = (CHAIN, "--ref", "refs/heads/moves", "--run-id", held.moves, "--wait")
    code, out, _ = sandbox.triggered(*words)
    assert (code, out.splitlines()[-1]) == (1, f"success  {run.note}")
    assert delivered(ended(sandbox, held.newer), "moves")


def test_a_push_that_is_told_again_was_built_before(sandbox: Sandbox, held: Held) -> None:
    """With another id but the same event, as by *Trigger again with this config*."""
    first = ended(sandbox, held.newer)
    sandbox.api.trigger(CHAIN, "told-again", first.conf)
    run = ended(sandbox, "told-again")
    assert (run.state, run.note.startswith("built before: refs/heads/moves at ")) == ("success", True)
    assert f" by run {held.newer}, " in run.note
    assert set(run.states["build"]) == {"skipped"}
    code, out, _ = sandbox.triggered(CHAIN, "--ref", "refs/heads/moves", "--run-id", "told-again", "--wait")
    assert (code, out.splitlines()[-1]) == (1, f"success  {run.note}")


def test_a_chart_is_not_for_this_chain(sandbox: Sandbox, held: Held) -> None:
    """The run does not fail, but delivers nothing."""
    del held
    held_chain.push_chart(sandbox.home, CHART)
    code, out, err = sandbox.triggered(
        CHAIN, "--repository", "app", "--tag", CHART, "--run-id", "chart", "--wait"
    )
    run = ended(sandbox, "chart")
    first = f"not for this chain: {IMAGE} {CHART} is not an image but artifact {held_chain.HELM}"
    assert (run.state, run.note.startswith(first)) == ("success", True), run.note
    assert (code, out.splitlines()[-1], err) == (1, f"success  {run.note}", "")


@pytest.fixture(scope="module")
def repaired(sandbox: Sandbox, held: Held, stopped: dict[str, str]) -> dict[str, Ended]:
    """The same runs after they were all cleared and ended; they run concurrently."""
    runs = {"stopped": held.stopped, "goes-on": stopped["goes-on"], "task": stopped["task"]}
    found = {branch: ended(sandbox, run_id) for branch, run_id in runs.items()}
    for branch, run in found.items():
        clear_build(sandbox, run) if branch == "task" else sandbox.clear_failed(CHAIN, run.run_id)
    run_id = runs["goes-on"]
    # The build takes 15 s.
    wait_for(
        lambda: note_of(sandbox, run_id) == f"resumed: cleared by {ADMIN}", "the note of a run that goes on"
    )
    return found


def note_of(sandbox: Sandbox, run_id: str) -> str:
    return sandbox.api.call("GET", f"/dags/{CHAIN}/dagRuns/{run_id}")["note"] or ""


def clear_build(sandbox: Sandbox, run: Ended) -> None:
    """Clear only the instance, as the UI does, but not the tasks downstream of it."""
    body = {
        "dag_run_id": run.run_id, "task_ids": [["build", 0]], "dry_run": False, "only_failed": True,
        "include_downstream": False, "include_upstream": False, "include_past": False, "include_future": False,
    }  # fmt: skip
    cleared = sandbox.api.call("POST", f"/dags/{CHAIN}/clearTaskInstances", body=body)["task_instances"]
    assert [one["task_id"] for one in cleared] == ["build"]


@pytest.mark.parametrize(
    ("branch", "note", "after"),
    [
        ("stopped", f"cancelled by {ADMIN} in plan; nothing was built", "skipped"),
        (
            "goes-on",
            f"cancelled by {ADMIN} in build [linux/amd64]; {IMAGE} goes-on was not published",
            "skipped",
        ),
        (
            "task",
            f"cancelled by {ADMIN} in build [linux/amd64]; {IMAGE} task was not published",
            "upstream_failed",
        ),
    ],
)
def test_a_run_that_was_stopped_and_is_cleared_goes_on(
    sandbox: Sandbox, held: Held, repaired: dict[str, Ended], branch: str, note: str, after: str
) -> None:
    """Stopped in the queue of a paused Dag, in its build or by its task; cleared with *only failed*, or alone."""
    assert held.outcomes[1]["sentence"] == f"{WAITING}; marked as failed by {ADMIN}"
    run = repaired[branch]
    assert (run.state, run.note, set(run.states["assemble"])) == ("failed", note, {after})
    assert delivered(sandbox.again(run), branch)


def test_a_run_that_is_cleared_while_it_is_cancelled_goes_on(
    sandbox: Sandbox, stopped: dict[str, str]
) -> None:
    """Whether or not Airflow had already ended the run."""
    assert delivered(ended(sandbox, stopped["at-once"]), "at-once")
