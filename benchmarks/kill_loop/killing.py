"""SIGKILL at random moments: a task's processes, or a part of the sandbox. Always by pid."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.kill_loop.parts import Job, kill

from delivery_chain.errors import DeliveryChainError
from delivery_chain.sandbox import processes

if TYPE_CHECKING:
    import random
    import threading
    from collections.abc import Callable

    from benchmarks.kill_loop.parts import Parts

    from delivery_chain.sandbox.api import AirflowApi

TASK = "task"
WEIGHTS = {
    TASK: 50,
    "airflow-scheduler": 8,
    "airflow-api-server": 9,
    "airflow-triggerer": 7,
    "airflow-dag-processor": 6,
    "postgresql": 6,
    "registry-cn-hangzhou": 4,
    "registry-ap-southeast-1": 3,
    "registry-eu-central-1": 3,
    "receiver": 4,
}
"""How often each is killed, beside the others."""
LOOK_SECONDS = 0.05
TASK_SECONDS = 10.0
"""How long a task to kill is waited for; then a part is killed instead."""
HOW = ("the task", "its supervisor", "all of it")


@dataclass(slots=True)
class Killer:
    """Kills; `done` says what."""

    parts: Parts
    api: AirflowApi
    chance: random.Random
    tell: Callable[[str], None]
    done: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    """Tasks that were killed, by step."""
    _names: dict[str, str] = field(default_factory=dict)

    def kill(self, stop: threading.Event) -> None:
        """Kill one thing."""
        names = [name for name in WEIGHTS if name == TASK or name in self.parts.names]
        name = self.chance.choices(names, [WEIGHTS[name] for name in names])[0]
        if name == TASK and self._kill_task(stop):
            return
        alive = [one for one in names if one != TASK and self.parts.alive(one)]
        if name not in alive:
            name = self.chance.choice(alive) if alive else ""
        if name and not stop.is_set():
            self.done[name] += 1
            self.tell(f"killed {name}: {self.parts.kill_part(name)}")

    def _kill_task(self, stop: threading.Event) -> bool:
        """Kill a task: rather one of a step that was killed less often. Whether there was one."""
        deadline = time.monotonic() + TASK_SECONDS
        while time.monotonic() < deadline and not stop.wait(LOOK_SECONDS):
            jobs = self.parts.jobs()
            if not jobs:
                continue
            steps = [self._step(job) for job in jobs]
            weights = [1 / (1 + self.steps[step]) ** 2 for step in steps]
            job, step = self.chance.choices(list(zip(jobs, steps, strict=True)), weights)[0]
            how = self.chance.choice(HOW)
            # Others than the rarest are left alone for a moment: it may come.
            if self._end(job, how):
                self.steps[step] += 1
                self.done[TASK] += 1
                self.tell(f"killed {step}: {how}")
                return True
        return False

    def _end(self, job: Job, how: str) -> bool:
        # A supervisor whose task has just ended holds a lock of its pool: killed then, it would stop all others.
        if not processes.is_alive(job.task) or not processes.is_alive(job.supervisor):
            return False
        if how == HOW[0]:
            return kill(job.task)
        if how == HOW[1]:
            return kill(job.supervisor)
        for mark in processes.family(job.task):
            kill(mark)
        return kill(job.supervisor)

    def _step(self, job: Job) -> str:
        """`loop-api build`, as far as Airflow says it in time."""
        if job.id not in self._names:
            with suppress(DeliveryChainError):
                for one in self._running():
                    self._names[one["id"]] = one["task_id"]
        return self._names.get(job.id, "some task")

    def _running(self) -> list[dict[str, Any]]:
        path = "/dags/~/dagRuns/~/taskInstances"
        answer = self.api.call("GET", path, query={"state": "running", "limit": 100})
        return list(answer.get("task_instances", []))
