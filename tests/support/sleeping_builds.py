"""Builds that sleep in their Dockerfile: until they are cancelled or lost, or a test wakes them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from support.faults import FROM

if TYPE_CHECKING:
    from delivery_chain.sandbox.api import AirflowApi

SLEEPS = FROM + 'RUN ["/bin/busybox", "sleep", "600"]\n'
WAKES = FROM + 'RUN ["/bin/busybox", "sh", "-c", "/bin/busybox sleep 600; exit 0"]\n'
"""Goes on when its sleep ends, however it ends."""


def worker_of(api: AirflowApi, dag_id: str, run_id: str) -> psutil.Process | None:
    """The process that builds for a run; None until its Dockerfile sleeps."""
    for one in api.task_instances(dag_id, run_id):
        if one["task_id"] == "build" and one["state"] == "running" and one["pid"]:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(one["pid"])
                if _sleeping(process):
                    return process
    return None


def wake(api: AirflowApi, dag_id: str, run_id: str) -> bool:
    """Let a run's build go on. Returns whether it slept."""
    worker = worker_of(api, dag_id, run_id)
    for child in _sleeping(worker) if worker else []:
        child.terminate()
    return worker is not None


def _sleeping(worker: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in worker.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "sleep" in child.cmdline():
                found.append(child)
    return found
