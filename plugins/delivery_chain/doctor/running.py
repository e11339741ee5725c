"""Runs checks concurrently, each with a timeout: one that hangs or crashes becomes a line, and stops no other."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery_chain.core.diagnosis import Check, Line, problem
from delivery_chain.errors import DeliveryChainError

if TYPE_CHECKING:
    from collections.abc import Sequence

AT_ONCE = 16


@dataclass(slots=True)
class _Job:
    check: Check
    done: threading.Condition
    until: float = 0.0
    lines: list[Line] | None = None
    thread: threading.Thread | None = None

    def start(self) -> None:
        self.until = time.monotonic() + self.check.seconds
        # A daemon thread, so that a hanging check does not keep the command from exiting.
        self.thread = threading.Thread(target=self._run, daemon=True, name=f"doctor {self.check.about}")
        self.thread.start()

    def _run(self) -> None:
        found = _lines(self.check)
        with self.done:
            if self.lines is None:
                self.lines = found
            self.done.notify_all()

    def over(self) -> bool:
        """Whether it has finished or timed out. Needs the lock."""
        if self.lines is None and time.monotonic() >= self.until:
            self.lines = [
                problem(
                    self.check.topic,
                    self.check.about,
                    f"no answer within {self.check.seconds:g} s",
                    "find out what keeps it from responding to this machine: its load, a firewall, a proxy",
                )
            ]
        return self.lines is not None


@dataclass(slots=True)
class _Running:
    jobs: list[_Job] = field(default_factory=list)

    def wait(self, done: threading.Condition) -> None:
        """Wait until one of them is over."""
        with done:
            while not any(job.over() for job in self.jobs):
                nearest = min(job.until for job in self.jobs)
                done.wait(max(0.0, nearest - time.monotonic()))
            self.jobs = [job for job in self.jobs if not job.over()]


def run_all(checks: Sequence[Check]) -> list[Line]:
    """Run the checks; return their lines in order. Never raises for one of them."""
    done = threading.Condition()
    jobs = [_Job(check, done) for check in checks]
    waiting, running = deque(jobs), _Running()
    while waiting or running.jobs:
        while waiting and len(running.jobs) < AT_ONCE:
            job = waiting.popleft()
            job.start()
            running.jobs.append(job)
        running.wait(done)
    return [line for job in jobs for line in job.lines or ()]


def _lines(check: Check) -> list[Line]:
    try:
        return list(check.ask())
    except DeliveryChainError as error:
        return [problem(check.topic, check.about, str(error), "follow the message, and run this again")]
    except Exception as error:  # noqa: BLE001 - a fault of one check is no reason to say nothing of the others
        said = f"the check itself failed: {type(error).__name__}: {str(error)[:300]}"
        return [problem(check.topic, check.about, said, "please report it; the other lines are valid")]
