"""Kills a task's processes or a part of the sandbox, with SIGKILL, at random moments, always by pid."""

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
"""Weights: how often each part is killed, relative to the others."""
STEPS = (*CHAIN_STEPS, "watch", "match", "start", "remember")
"""Steps of chains, and of the Dags that watch their sources."""
RAREST = 0.7
"""Probability of waiting for the step that was killed least; otherwise any running task is killed."""
MOMENT_SECONDS = 0.4
"""Maximum seconds from finding a task to killing it."""
LOOK_SECONDS = 0.1
TASK_SECONDS = 10.0
"""Maximum seconds to wait for the step, and then for any task; if none runs, a part is killed."""
HOW = ("the task", "its supervisor", "all of it")


@dataclass(slots=True)
class Killer:
    """Kills tasks and parts, and counts them in `done`."""

    parts: Parts
    chance: random.Random
    tell: Callable[[str], None]
    done: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    """Number of killed tasks by step."""

    def kill(self, stop: threading.Event) -> None:
        """Kill one task or part."""
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
        """Kill a task, mostly of the step that was killed least. Otherwise long steps would be killed most often."""
        rarest = min(STEPS, key=lambda step: (self.steps[step], self.chance.random()))
        wanted = rarest if self.chance.random() < RAREST else ""
        deadline = time.monotonic() + TASK_SECONDS
        while (late := time.monotonic() > deadline) or not stop.wait(LOOK_SECONDS):
            jobs = [(job, job.step) for job in self.parts.jobs()]
            fitting = jobs if late or not wanted else [(job, step) for job, step in jobs if step == wanted]
            if fitting:
                job, step = self.chance.choice(fitting)
                how = self.chance.choice(HOW)
                # Sometimes kill at once, because some steps are very short.
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
        # A supervisor whose task has just ended holds a lock of its pool: killing it then would block all others.
        if not processes.is_alive(job.task) or not processes.is_alive(job.supervisor):
            return False
        if how == HOW[0]:
            return kill(job.task)
        if how == HOW[1]:
            return kill(job.supervisor)
        for mark in processes.family(job.task):
            kill(mark)
        return kill(job.supervisor)
