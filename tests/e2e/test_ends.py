"""Tests how runs end on a real Airflow after a user's clicks: each row of the table in docs/runs.md."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.names.tags import run_key
from delivery_chain.sandbox.airflow_parts import ADMIN
from support import ended_chain
from support.chain_runs import RUN_SECONDS
from support.ended_chain import CHAIN, IMAGE, TARGET
from support.sleeping_builds import worker_of
from support.spec_edits import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from support.chain_runs import Ended, Sandbox

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def ends(sandbox: Sandbox, started: object, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Push everything; return the commits by branch."""
    del started
    refuses = {
        "connection_id": TARGET,
        "conn_type": "delivery_webhook",
        "host": f"{sandbox.api.address}/api/v2/nope",
    }
    assert sandbox.api.call("POST", "/connections", body=refuses)
    return ended_chain.push(sandbox.layout, tmp_path_factory.mktemp("ends"))


def run_id_of(sandbox: Sandbox, commit: str, state: str = "") -> str:
    return sandbox.run_of(CHAIN, commit, state)


def ended(sandbox: Sandbox, run_id: str) -> Ended:
    return sandbox._await(CHAIN, run_id, lambda run: bool(run["dag_run_id"] == run_id))


def test_a_run_that_is_marked_failed_was_cancelled(sandbox: Sandbox, ends: dict[str, str]) -> None:
    """Marked during its build, the run ends as failed; note and command name the user, and nothing is published."""
    run_id = run_id_of(sandbox, ends["cancelled"], "running")
    words = (CHAIN, "--ref", "refs/heads/cancelled", "--run-id", run_id, "--wait")
    with sandbox.trigger(*words) as command:
        path = f"/dags/{CHAIN}/dagRuns/{run_id}"
        # The UI's form sends the note along, and it is empty.
        assert sandbox.api.call("PATCH", path, body={"state": "failed", "note": None})
        run = ended(sandbox, run_id)
        out, _ = command.communicate(timeout=RUN_SECONDS)
    said = f"cancelled by {ADMIN} in build [linux/amd64]; {IMAGE} cancelled was not published"
    assert (run.state, run.note) == ("failed", said)
    assert (command.returncode, out.splitlines()[-1]) == (1, f"failed  {said}")
    assert sandbox.tags(IMAGE).count("cancelled") == 0


def test_a_run_that_is_marked_green_while_it_builds_is_not(sandbox: Sandbox, ends: dict[str, str]) -> None:
    """Nothing was published, so the run is no success; the bulk request of the list of runs does the same."""
    run_id = run_id_of(sandbox, ends["marked-green"], "running")
    entities = [{"dag_run_id": run_id, "state": "success"}]
    body = {"actions": [{"action": "update", "entities": entities}]}
    assert sandbox.api.call("PATCH", f"/dags/{CHAIN}/dagRuns", body=body)
    run = ended(sandbox, run_id)
    assert (run.state, run.note.startswith(f"cancelled by {ADMIN} in ")) == ("failed", True)


def test_a_task_that_is_marked_failed_was_cancelled(sandbox: Sandbox, ends: dict[str, str]) -> None:
    """The rest of the run ends by itself."""
    run_id = run_id_of(sandbox, ends["marked-task"], "running")
    path = f"/dags/{CHAIN}/dagRuns/{run_id}/taskInstances/build/0"
    assert sandbox.api.call("PATCH", path, body={"new_state": "failed"})
    run = ended(sandbox, run_id)
    said = f"cancelled by {ADMIN} in build [linux/amd64]; {IMAGE} marked-task was not published"
    assert (run.state, run.note) == ("failed", said)


def test_nothing_of_a_cancelled_and_a_lost_build_stays(sandbox: Sandbox, ends: dict[str, str]) -> None:
    """One build is cancelled; another loses its worker, so nothing cleans up until the next job starts."""
    jobs = sandbox.layout.root / "work" / str(os.geteuid()) / "jobs"
    runs = {branch: run_id_of(sandbox, ends[branch], "running") for branch in ("lost", "dropped")}
    keys = {branch: run_key(CHAIN, run_id) for branch, run_id in runs.items()}

    def left(branch: str) -> list[Path]:
        return [file for folder in jobs.glob(f"{keys[branch]}*") for file in (folder, *folder.rglob("*"))]

    lose(sandbox, runs["lost"])
    assert left("lost")
    for run_id in runs.values():
        assert sandbox.api.call("PATCH", f"/dags/{CHAIN}/dagRuns/{run_id}", body={"state": "failed"})
    sandbox.api.trigger(CHAIN, "after-the-lost", {"ref": "refs/heads/repaired"})
    wait_for(lambda: has_begun(sandbox, "after-the-lost"), "the next build to begin")
    for branch in keys:
        wait_for(lambda branch=branch: not left(branch), f"what the {branch} build left to go")


def lose(sandbox: Sandbox, run_id: str) -> None:
    """Kill the process that builds in a run's Dockerfile, and its Airflow supervisor."""
    wait_for(lambda: worker_of(sandbox.api, CHAIN, run_id), "the build to come to its RUN")
    process = worker_of(sandbox.api, CHAIN, run_id)
    assert process
    supervisor = process.parent()
    assert supervisor
    assert "LocalExecutor" in " ".join(supervisor.cmdline())
    supervisor.kill()
    process.kill()


def has_begun(sandbox: Sandbox, run_id: str) -> bool:
    """Whether a run's build is running, or over."""
    states = {one["task_id"]: one["state"] for one in sandbox.api.task_instances(CHAIN, run_id)}
    return states.get("build") in {"running", "success"}


def test_clearing_what_failed_is_enough(sandbox: Sandbox, ends: dict[str, str]) -> None:
    """A target refuses. After its repair, clearing `distribute` alone corrects state, note and outcome."""
    run = ended(sandbox, run_id_of(sandbox, ends["repaired"]))
    assert (run.state, run.note.startswith(f"partly delivered: {IMAGE} repaired at ")) == ("failed", True)
    assert "; NOT DONE: tell failed; distribute [tell]: trigger 'tell': " in run.note
    words = (CHAIN, "--ref", "refs/heads/repaired", "--run-id", run.run_id, "--wait")
    code, out, _ = sandbox.triggered(*words)
    assert (code, out.splitlines()[-1]) == (1, f"failed  {run.note}")
    assert "tell failed" in sandbox.page(f"{CHAIN}/{run.run_id}").text
    good = sandbox.api.call("GET", "/connections/faults_redeploy")["host"]
    body = {"connection_id": TARGET, "conn_type": "delivery_webhook", "host": good}
    assert sandbox.api.call("PATCH", f"/connections/{TARGET}", body=body)
    sandbox.clear(run, "distribute")
    again = sandbox.again(run)
    assert (again.state, again.note.startswith(f"delivered: {IMAGE} repaired at ")) == ("success", True)
    assert again.note.endswith(", 1 trigger fired")
    found = sandbox.outcome(CHAIN, run.run_id)
    assert found == {
        "end": "delivered", "step": "", "by": "", "sentence": again.note, "good": True, "state": "success",
    }  # fmt: skip
    shown = sandbox.page(f"{CHAIN}/{run.run_id}").text
    assert ("1 trigger fired" in shown, "tell failed" in shown, "NOT DONE" in shown) == (True, False, False)
    code, out, _ = sandbox.triggered(*words)
    assert (code, out.splitlines()[-1]) == (0, f"success  {again.note}")


@pytest.mark.parametrize(
    ("branch", "reason"),
    [
        ("no-dockerfile", "build.dockerfile 'Dockerfile': expected a file, found nothing there"),
        ("no-base", "Dockerfile:1: FROM cn-hangzhou.invalid/no/such:1"),
        ("typo", "Dockerfile:2: unknown instruction 'FORM', did you mean FROM?"),
        ("run-fails", 'Dockerfile:4: RUN ["/bin/busybox", "false"]: exit status 1'),
    ],
)
def test_a_failed_build_says_why(sandbox: Sandbox, ends: dict[str, str], branch: str, reason: str) -> None:
    """The first line of the reason is in the note, or, while the task is retried, in the outcome."""
    run_id = run_id_of(sandbox, ends[branch], "up_for_retry" if branch == "no-base" else "failed")
    said = sandbox.outcome(CHAIN, run_id)["sentence"] if branch == "no-base" else ended(sandbox, run_id).note
    first = "waiting to try again: " if branch == "no-base" else "failed in "
    assert said.startswith(f"{first}build [linux/amd64]: {reason}")
    if branch == "typo":
        code, out, _ = sandbox.triggered(CHAIN, "--ref", f"refs/heads/{branch}", "--run-id", run_id, "--wait")
        assert (code, out.splitlines()[-1]) == (1, f"failed  {said}")


def test_a_refused_event_is_exit_code_1(sandbox: Sandbox, started: object) -> None:
    """However the run was started, the command that waits for it does not report success."""
    del started
    run = sandbox.of_run("shop-api", "refused-ref")
    code, out, err = sandbox.triggered("shop-api", "--ref", "v1.0.0", "--run-id", "refused-ref", "--wait")
    assert (code, out.splitlines()[-1:]) == (1, [f"failed  {run.note}"]), err


def test_a_blocked_run_that_is_marked_green_is_blocked(sandbox: Sandbox, blocked: Ended) -> None:
    """Airflow shows the state set by the user; note and outcome show the real one, and name the user."""
    path = f"/dags/{blocked.dag_id}/dagRuns/{blocked.run_id}"
    # The UI's form sends the note along, under the name of the user who marks the run.
    assert sandbox.api.call("PATCH", path, body={"state": "success", "note": blocked.note})
    run = sandbox.again(blocked)
    assert (run.state, run.note) == ("success", f"{blocked.note}; marked as success by {ADMIN}")
    found = sandbox.outcome(blocked.dag_id, blocked.run_id)
    assert (found["end"], found["good"], found["by"]) == ("blocked", False, ADMIN)
    words = (blocked.dag_id, "--ref", "v1.1.0", "--run-id", blocked.run_id, "--wait")
    code, out, _ = sandbox.triggered(*words)
    assert (code, out.splitlines()[-1]) == (1, f"success  {run.note}")
    assert sandbox.api.call("PATCH", path, body={"state": "failed", "note": run.note})
    assert sandbox.again(blocked).note == blocked.note
    code, out, _ = sandbox.triggered(*words)
    assert (code, out.splitlines()[-1]) == (1, f"failed  {blocked.note}")


def test_skipped_regions_keep_their_names(sandbox: Sandbox, blocked: Ended) -> None:
    """Even in a blocked run, in which they never ran."""
    instances = sandbox.api.task_instances(blocked.dag_id, blocked.run_id)
    names = [one["rendered_map_index"] for one in instances if one["task_id"] == "replicate"]
    assert sorted(names) == ["to-frankfurt", "to-singapore"]
