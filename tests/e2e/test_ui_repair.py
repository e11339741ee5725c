"""Cancel and repair in Airflow's UI, with a real browser: a run, or its running task, is marked failed and cleared."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from delivery_chain.sandbox.airflow_parts import ADMIN
from support import held_chain
from support.browser import clear, mark_failed, visiting
from support.chain_runs import RUN_SECONDS
from support.held_chain import CHAIN, IMAGE
from support.sleeping_builds import WAKES, wake
from support.spec_edits import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from support.chain_runs import Ended, Sandbox

pytestmark = pytest.mark.e2e
RUN, TASK = "clicked-run", "clicked-task"
"""Branches: of one the run is marked and cleared, of the other the task that builds."""
ADDRESS = {RUN: f"/dags/{CHAIN}/runs/{{}}", TASK: f"/dags/{CHAIN}/runs/{{}}/tasks/build/mapped/0"}


@pytest.fixture
def page(sandbox: Sandbox, tmp_path: Path) -> Iterator[Page]:
    """A tab. What it showed at the test's end is kept in the test's temporary folder."""
    with visiting(sandbox) as context:
        tab = context.new_page()
        yield tab
        tab.screenshot(path=tmp_path / "end.png")


@pytest.fixture(scope="module")
def building(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Runs by branch, whose builds sleep."""
    dockerfiles = {branch: f'{WAKES}LABEL c="{branch}"\n' for branch in ADDRESS}
    commits = held_chain.push(sandbox.layout, tmp_path_factory.mktemp("clicked"), dockerfiles)
    return {branch: sandbox.run_of(CHAIN, commit, "running") for branch, commit in commits.items()}


def ended(sandbox: Sandbox, run_id: str) -> Ended:
    return sandbox._await(CHAIN, run_id, lambda run: bool(run["dag_run_id"] == run_id))


@contextmanager
def told(sandbox: Sandbox, runs: dict[str, str]) -> Iterator[dict[str, tuple[int, str]]]:
    """`trigger --wait` for each run beside the block; afterwards its exit code and last line, by branch."""
    found: dict[str, tuple[int, str]] = {}
    with ExitStack() as stack:
        commands = {
            branch: stack.enter_context(
                sandbox.trigger(CHAIN, "--ref", f"refs/heads/{branch}", "--run-id", run_id, "--wait")
            )
            for branch, run_id in runs.items()
        }
        yield found
        for branch, command in commands.items():
            out, _ = command.communicate(timeout=RUN_SECONDS)
            found[branch] = (command.returncode, out.splitlines()[-1])


def shown(page: Page, run: Ended, state: str, branch: str) -> None:
    """See a run's note on our page of it, and on Airflow's with its state; of a task, Airflow's page is just opened."""
    page.goto(f"/delivery-chain/{CHAIN}/{run.run_id}")
    expect(page.get_by_text(run.note).first).to_be_visible()
    page.goto(ADDRESS[branch].format(run.run_id))
    if branch == RUN:
        expect(page.get_by_test_id("state-badge").first).to_have_text(state)
        expect(page.get_by_text(run.note)).to_be_visible()


def test_a_cancelled_run_goes_on_by_clicks(sandbox: Sandbox, page: Page, building: dict[str, str]) -> None:
    """*Mark as failed* cancels it; *clear* with *only failed*, or of the task, delivers it; all that tells says so."""
    with told(sandbox, building) as told_of_cancel:
        for branch, run_id in building.items():
            page.goto(ADDRESS[branch].format(run_id))
            mark_failed(page, "Dag Run" if branch == RUN else "Task Instance")
        cancelled = {branch: ended(sandbox, run_id) for branch, run_id in building.items()}
    for branch, run in cancelled.items():
        said = f"cancelled by {ADMIN} in build [linux/amd64]; {IMAGE} {branch} was not published"
        assert (run.state, run.note) == ("failed", said)
        assert told_of_cancel[branch] == (1, f"failed  {said}")
        shown(page, run, "Failed", branch)
        clear(page, only_failed=branch == RUN)

    with told(sandbox, building) as told_of_end:
        for run_id in building.values():
            wait_for(lambda run_id=run_id: wake(sandbox.api, CHAIN, run_id), "the build to be done again")
        delivered = {branch: ended(sandbox, run_id) for branch, run_id in building.items()}
    for branch, run in delivered.items():
        assert run.state == "success"
        assert run.note.startswith(f"delivered: {IMAGE} {branch} at sha256:")
        assert told_of_end[branch] == (0, f"success  {run.note}")
        shown(page, run, "Success", branch)
