"""Tests failures within a chain: the run names them, the rest continues, and nothing unjudged is released."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from delivery_chain.core.names.tags import STAGING_PREFIX
from delivery_chain.sandbox.receiver import read_deliveries
from support.faults import CHAIN, IMAGE

if TYPE_CHECKING:
    from support.chain_runs import Ended, Sandbox
    from support.faults import Pushed

pytestmark = pytest.mark.e2e
HOME, NEAR, FAR = "cn-hangzhou", "ap-southeast-1", "eu-central-1"
NOWHERE = {HOME: "", NEAR: "", FAR: ""}


def run_of(sandbox: Sandbox, commit: str) -> Ended:
    return sandbox._once(CHAIN, commit, lambda run: (run["conf"] or {}).get("commit") == commit)


def told(sandbox: Sandbox, tag: str) -> list[str]:
    """Ids of the triggers' deliveries of a tag."""
    kept = [
        one for one in read_deliveries(sandbox.layout.deliveries) if one["path"].startswith("/hooks/faults")
    ]
    return [dict(one["headers"])["webhook-id"] for one in kept if f'"tag":"{tag}"' in one["body"]]


@pytest.fixture(scope="session")
def killed(sandbox: Sandbox, faults: Pushed) -> Ended:
    """The run whose build was killed once while its Dockerfile ran."""
    faults.killed.result()
    return run_of(sandbox, faults.commits["killed"])


def test_a_dockerfile_that_fails_ends_the_run_at_once(sandbox: Sandbox, faults: Pushed) -> None:
    """The build is tried once, its log has the output, nothing is published, and no staging tag is left."""
    run = run_of(sandbox, faults.commits["broken"])
    assert (run.state, run.states["build"], run.states["gate"]) == (
        "failed",
        ("failed",),
        ("upstream_failed",),
    )
    assert "this is the cause" in run.logs["build", 0]
    assert "BuildFailed" in run.logs["build", 0]
    assert "UP_FOR_RETRY" not in run.logs["build", 0]
    step = 'RUN ["/bin/busybox", "sh", "-c", "echo this is the cause; exit 3"]'
    assert run.note == (
        f"failed in build [linux/amd64]: Dockerfile:3: {step}: exit status 3; {IMAGE} broken was not published"
    )
    assert sandbox.digests(IMAGE, "broken") == NOWHERE


def test_a_gate_marked_as_success_lets_nothing_out(sandbox: Sandbox, faults: Pushed) -> None:
    """In a run without a verdict, a user marks the gate as successful and clears everything downstream."""
    run = run_of(sandbox, faults.commits["broken"])
    for task in ("assemble", "gate"):
        marked = {"new_state": "success", "include_downstream": False}
        assert sandbox.api.call("PATCH", sandbox.task_path(run, task), body=marked)
    # Marking a task also clears the failed tasks below it; clearing at the same time would collide with that.
    sandbox.again(run)
    sandbox.clear(run, "publish", "replicate", "distribute")
    again = sandbox.again(run)
    assert (again.state, again.states["publish"]) == ("failed", ("failed",))
    assert "this run has no image yet" in again.logs["publish", -1]
    assert "success" not in again.states["replicate"] + again.states["distribute"]
    assert (sandbox.digests(IMAGE, "broken"), told(sandbox, "broken")) == (NOWHERE, [])


def test_a_tag_that_no_registry_takes_is_refused(sandbox: Sandbox, faults: Pushed) -> None:
    """The pattern captured an invalid tag; the plan refuses it and names the rule, and nothing is built."""
    run = run_of(sandbox, faults.commits["bad+tag"])
    assert (run.state, run.states["plan"], run.states["build"]) == (
        "failed",
        ("failed",),
        ("upstream_failed",),
    )
    assert "EventRefused" in run.logs["plan", -1]
    assert "bad+tag" in run.logs["plan", -1]


def test_a_region_that_refuses_leaves_the_others_alone(sandbox: Sandbox, faults: Pushed, taken: str) -> None:
    """In one region, the tag is taken: its copy fails and its trigger waits, but the other region gets everything."""
    run = run_of(sandbox, faults.commits["taken"])
    digest = run.xcom("assemble")["digest"]
    assert (run.states["replicate"], run.states["distribute"]) == (
        ("success", "failed"),
        ("success", "failed"),
    )
    assert "TAG_CONFLICT" in run.logs["replicate", 1]
    assert sandbox.digests(IMAGE, "taken") == {HOME: digest, NEAR: digest, FAR: taken}
    assert len(told(sandbox, "taken")) == 1
    assert run.state == "failed"
    assert run.note.startswith("partly delivered: ")
    assert "; NOT DONE: far failed, tell-far failed; replicate [far]: " in run.note


def test_a_killed_build_is_done_again(sandbox: Sandbox, killed: Ended) -> None:
    """The worker's process is killed during the build; the second try succeeds, and each trigger fires once."""
    digest = killed.xcom("assemble")["digest"]
    assert (killed.state, killed.xcom("build", 0)["digest"]) == ("success", digest)
    build = sandbox.api.call("GET", f"{sandbox.task_path(killed, 'build')}/0")
    assert build["try_number"] == 2
    assert sandbox.digests(IMAGE, "killed") == dict.fromkeys((HOME, NEAR, FAR), digest)
    assert len(told(sandbox, "killed")) == 2
    assert [tag for tag in sandbox.tags(IMAGE) if tag.startswith(STAGING_PREFIX)] == []


def test_nothing_of_a_killed_build_goes_on(faults: Pushed) -> None:
    """Everything that the killed process had started, including the Dockerfile's own command, ends with it."""
    _, alive = psutil.wait_procs(faults.killed.result(), timeout=10)
    assert alive == []


def test_a_blocked_run_cleared_from_its_build_on_is_blocked_again(sandbox: Sandbox, blocked: Ended) -> None:
    """The image is rebuilt, judged again, and refused again."""
    sandbox.clear_from(blocked, "build")
    again = sandbox.again(blocked)
    assert (again.state, again.states["denied"]) == ("failed", ("failed",))
    assert again.xcom("gate")["passed"] is False
    assert sandbox.digests("shop/api", "v1.1.0") == NOWHERE


def test_a_run_whose_build_alone_was_done_again_publishes_nothing_unjudged(
    sandbox: Sandbox, killed: Ended, faults: Pushed
) -> None:
    """A rebuild has a new digest, which the old verdict does not cover; the tags stay."""
    sandbox.clear(killed, "build", "assemble")
    again = sandbox.again(killed)
    sandbox.clear(again, "publish", "replicate", "distribute")
    last = sandbox.again(killed)
    new, old = last.xcom("assemble")["digest"], killed.xcom("assemble")["digest"]
    assert new != old
    assert last.xcom("gate")["digest"] == old
    assert sandbox.digests(IMAGE, "killed") == dict.fromkeys((HOME, NEAR, FAR), old)
    assert (last.state, last.states["publish"]) == ("failed", ("failed",))
    assert "Unjudged" in last.logs["publish", -1]
