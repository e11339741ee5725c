"""Runs the step `build` in Airflow's own task runner, in this process. All imports happen with this module's."""

from __future__ import annotations

import logging
import sys
import uuid
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import structlog
from airflow.sdk.api.datamodels._generated import DagRun, TIRunContext
from airflow.sdk.definitions.dag import DAG
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetXCom, XComResult

from delivery_chain.builders.buildah import builder as _buildah
from delivery_chain.hooks import git as _git
from delivery_chain.hooks import registry as _registry
from delivery_chain.operators.build import BuildOperator
from delivery_chain.retry import ChainRetryPolicy
from support.chain_steps import Run, build_plan, chain

__all__ = ["run_task"]
_PRELOADED = (_git, _registry, _buildah)


def run_task(commit: str, run_id: str, wait: int) -> str:
    """Run a build of `support.build_worker`'s source.

    Args:
        commit: What to build.
        run_id: Id of the Dag run.
        wait: Seconds that its RUN step waits.

    Returns:
        The final state of the task, and the error's kind.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)
    plan = build_plan(run_id=run_id)
    assert plan.build is not None
    args = {"WAIT": str(wait)} if wait else {}
    build = plan.build.model_copy(update={"commit": commit, "args": args})
    run = Run(chain(), plan.model_copy(update={"build": build}))

    def send(msg: Any) -> Any:
        if not isinstance(msg, GetXCom):
            return None
        place = (msg.task_id, -1 if msg.map_index is None else msg.map_index, msg.key)
        return XComResult(key=msg.key, value=run.xcoms.get(place))

    task_runner.SUPERVISOR_COMMS = SimpleNamespace(send=send)
    ti = _task_instance(run_id)
    state, _, error = task_runner.run(ti, ti.get_template_context(), structlog.get_logger())
    return str(state) if error is None else f"{state}: {type(error).__name__}"


def _task_instance(run_id: str) -> task_runner.RuntimeTaskInstance:
    now = datetime.now(UTC)
    with DAG("shop", schedule=None, start_date=now):
        step = BuildOperator(task_id="build", slot=0, retries=3, retry_policy=ChainRetryPolicy())
    about = DagRun(
        dag_id="shop", run_id=run_id, run_after=now, start_date=now, run_type="manual", state="running",
        consumed_asset_events=[], logical_date=None, data_interval_start=None, data_interval_end=None, end_date=None,
        partition_key=None,
    )  # fmt: skip
    return task_runner.RuntimeTaskInstance.model_construct(
        id=uuid.uuid4(), task=step, task_id="build", dag_id="shop", run_id=run_id, try_number=1, map_index=0,
        max_tries=3, start_date=now, hostname="", dag_version_id=uuid.uuid4(),
        bundle_instance=SimpleNamespace(name="b", version=None),
        _ti_context_from_server=TIRunContext(dag_run=about, max_tries=3, should_retry=True),
    )  # fmt: skip
