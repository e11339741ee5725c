"""The reason why a step ended without a result: written by the step itself, in one line, for any failure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.branch import BaseBranchOperator
from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout, TaskDeferred
from airflow.triggers.testing import SuccessTrigger

from delivery_chain.core.run.reason import LONGEST
from delivery_chain.errors import BuildFailed, RegistryBusy, Superseded
from delivery_chain.operators.base import ChainOperator
from delivery_chain.operators.reasons import LeavesReason, reason_of
from delivery_chain.operators.scan import GateOperator
from support.chain_steps import Run, chain


class Step(ChainOperator):
    """Ends as it is told."""

    def __init__(self, error: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.error = error

    def execute(self, context: Any) -> str:
        del context
        if self.error:
            raise self.error
        return "done"

    def resumed(self, context: Any) -> None:
        del context
        raise self.error


class Further(Step):
    """A step that adds nothing of its own."""


class Branch(BaseBranchOperator, LeavesReason):
    """A step whose `execute` is Airflow's."""

    def choose_branch(self, context: Any) -> str:
        del context
        raise BuildFailed("no way")


def left(run: Run, task: str = "build", index: int = -1) -> tuple[str, str]:
    return reason_of(run.context("report")["ti"], task, index)


def superseded() -> AirflowSkipException:
    error = AirflowSkipException("a newer one")
    error.__cause__ = Superseded("a newer one")
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BuildFailed("Dockerfile:3: no\n    rest", output=["more"]), ("Dockerfile:3: no", "BuildFailed")),
        (RegistryBusy("\n \x1b[1mslow\x07  down\n"), ("[1mslow down", "RegistryBusy")),
        (ValueError("odd"), ("ValueError: odd", "ValueError")),
        (ValueError(), ("ValueError", "ValueError")),
        (
            AirflowTaskTimeout("Timeout, PID: 7"),
            ("AirflowTaskTimeout: Timeout, PID: 7", "AirflowTaskTimeout"),
        ),
        (AirflowSkipException("nothing to do"), ("nothing to do", "skipped")),
        (superseded(), ("a newer one", "Superseded")),
        (BuildFailed("long, " * 999), (("long, " * 999)[: LONGEST - 1] + "…", "BuildFailed")),
    ],
)
@pytest.mark.parametrize("kind", [Step, Further])
def test_what_ends_a_step_is_left(kind: type[Step], error: BaseException, reason: tuple[str, str]) -> None:
    """And raised as it was."""
    run = Run(chain())
    with pytest.raises(type(error)) as caught:
        kind(error=error, task_id="build").execute(run.context("build", 1))
    assert caught.value is error
    assert (left(run, index=1), left(run)) == (reason, ("", ""))


def test_a_step_that_ends_well_or_waits_leaves_no_reason() -> None:
    """A deferral is no end."""
    run = Run(chain())
    assert Step(task_id="build").execute(run.context("build")) == "done"
    waits = TaskDeferred(trigger=SuccessTrigger(), method_name="resumed")
    with pytest.raises(TaskDeferred):
        Step(error=waits, task_id="build").execute(run.context("build"))
    assert run.xcoms == {}


def test_what_ends_a_resumed_step_is_left() -> None:
    """Airflow resumes it by another method."""
    run = Run(chain())
    step = Step(error=BuildFailed("later"), task_id="build")
    with pytest.raises(BuildFailed):
        step.resume_execution("resumed", {}, run.context("build"))
    assert left(run) == ("later", "BuildFailed")


def test_a_branch_leaves_its_reason() -> None:
    """Also one that is no step of our base, whose `execute` is inherited."""
    run = Run(chain())
    with pytest.raises(BuildFailed):
        Branch(task_id="gate").execute(run.context("gate"))
    assert left(run, "gate") == ("no way", "BuildFailed")
    assert hasattr(GateOperator.execute, "leaves_reason")


def test_a_step_that_is_ended_from_outside_leaves_no_reason() -> None:
    """What its tools say when they are killed is not why it failed."""
    run = Run(chain())
    step = Step(error=BuildFailed("killed by signal 15"), task_id="build")
    step.on_kill()
    with pytest.raises(BuildFailed):
        step.execute(run.context("build"))
    assert left(run) == ("", "")


def test_a_reason_that_can_not_be_left_hides_no_error() -> None:
    """Airflow may be what is away."""

    def away(*_: Any) -> None:
        raise RuntimeError("no API server")

    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="build", map_index=-1, xcom_push=away)
    with pytest.raises(BuildFailed, match="the cause"):
        Step(error=BuildFailed("the cause"), task_id="build").execute({"ti": ti})


def test_a_reason_that_others_wrote_is_not_read() -> None:
    """It is believed under its task's seal alone."""
    run = Run(chain())
    run.say("build", "so", "BuildFailed")
    run.xcoms["scan", -1, "reason"] = run.xcoms["build", -1, "reason"]
    run.xcoms["build", -1, "reason"] = run.xcoms["build", -1, "reason"] | {"reason": "all is well"}
    assert (left(run, "build"), left(run, "scan")) == (("", ""), ("", ""))
