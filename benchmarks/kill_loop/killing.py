"""SIGKILL at random moments: a task's processes, or a part of the sandbox. Always by pid."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.kill_loop.parts import Job, kill

from delivery_chain.core.steps import STEPS as CHAIN_STEPS
from delivery_chain.sandbox import processes

if TYPE_CHECKING:
    import random
    import threading
    from collections.abc import Callable

    from benchmarks.kill_loop.parts import Parts


TASK = "task"
WEIGHTS = {
    TASK: 80,
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
STEPS = (*CHAIN_STEPS, "watch", "match", "start", "remember")
"""Of chains, and of the Dags that watch their sources."""
RAREST = 0.7
"""How often the step that was killed least is waited for; else whatever runs is killed."""
MOMENT_SECONDS = 0.4
"""How long a task may go on after it was seen."""
LOOK_SECONDS = 0.1
TASK_SECONDS = 10.0
"""How long it is waited for, and then for any task; where there is none, a part is killed."""
HOW = ("the task", "its supervisor", "all of it")


@dataclass(slots=True)
class Killer:
    """Kills; `done` says what."""

    parts: Parts
    chance: random.Random
    tell: Callable[[str], None]
    done: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    """Tasks that were killed, by step."""

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
        """Kill a task, mostly of the step that was killed least: else it is always one that takes long."""
        rarest = min(STEPS, key=lambda step: (self.steps[step], self.chance.random()))
        wanted = rarest if self.chance.random() < RAREST else ""
        deadline = time.monotonic() + TASK_SECONDS
        while (late := time.monotonic() > deadline) or not stop.wait(LOOK_SECONDS):
            jobs = [(job, job.step) for job in self.parts.jobs()]
            fitting = jobs if late or not wanted else [(job, step) for job, step in jobs if step == wanted]
            if fitting:
                job, step = self.chance.choice(fitting)
                how = self.chance.choice(HOW)
                # At once at times: some steps take no longer.
                stop.wait(max(0.0, self.chance.uniform(-MOMENT_SECONDS, MOMENT_SECONDS)))
                if self._end(job, how):
                    self.steps[step] += 1
                    self.done[TASK] += 1
                    self.tell(f"killed {step}: {how}")
                    return True
            if late:
                return False
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
