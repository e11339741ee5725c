"""Runs the sandbox of the kill loop: remembers how each part was started, restarts dead parts, finds running tasks."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delivery_chain.sandbox import airflow_parts, processes, stack

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from delivery_chain.sandbox.console import Console
    from delivery_chain.sandbox.layout import Layout
    from delivery_chain.sandbox.processes import Mark

SCHEDULER = "airflow-scheduler"
DEAD_SECONDS = (0.5, 6.0)
"""Range of seconds from a part's death to its next start."""
ORPHANS_SECONDS = 20.0
"""Seconds after which the tasks of a killed scheduler are killed, as a service manager or kubelet would do."""
CLOCKS = {
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
}
"""Airflow's own timeouts, shortened: a dead worker is noticed after 30 s instead of 300, the tasks of a dead scheduler
are adopted within 10 s instead of 300 after it counts as dead, and a task that no worker picks up is queued again after
60 s instead of 600. The time after which a scheduler or triggerer counts as dead stays 30 s: even on a busy machine, a
live one sends a heartbeat within that time."""
WORKER = re.compile(r"airflow worker -- (?:LocalExecutor: )?[0-9a-f-]{36}")
"""Process title of a task's supervisor and of the task's own process, with the id of the task instance."""
LOG = re.compile(r"/dag_id=[^/]+/run_id=[^/]+/task_id=([^/]+)/")
"""Part of the path of a task's log."""


@dataclass(frozen=True, slots=True)
class Started:
    """Arguments that a part was started with."""

    argv: tuple[str, ...]
    env: dict[str, str]
    log: Path


@dataclass(frozen=True, slots=True)
class Job:
    """A running task: its supervisor and its own process."""

    supervisor: Mark
    task: Mark

    @property
    def step(self) -> str:
        """The step, such as `build`, from the log that the supervisor writes; `some task` if it has no log open."""
        with suppress(OSError):
            for entry in Path(f"/proc/{self.supervisor.pid}/fd").iterdir():
                with suppress(OSError):
                    if found := LOG.search(str(entry.readlink())):
                        return found[1]
        return "some task"


@dataclass(slots=True)
class Parts:
    """The processes of one sandbox."""

    layout: Layout
    chance: random.Random
    started: dict[int, Started] = field(default_factory=dict)
    """By pid."""
    all_marks: list[Mark] = field(default_factory=list)
    restarts: dict[str, int] = field(default_factory=dict)
    sandbox: Any = None
    known: dict[str, Started] = field(default_factory=dict)
    """By name."""
    due: dict[str, float] = field(default_factory=dict)
    orphans: list[tuple[float, Mark]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def up(self, options: stack.Options, console: Console) -> None:
        """Start the sandbox, with shortened timeouts, and remember how each part is started."""
        temporary = self.layout.root / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        with _extended(CLOCKS | {"TMPDIR": str(temporary)}), self._remembering():
            self.sandbox = stack.up(self.layout, options, console)
        marks = self.sandbox.state.processes
        self.known = {name: self.started[mark.pid] for name, mark in marks.items()}

    def down(self, console: Console, *, purge: bool) -> None:
        """Stop everything that was ever started here."""
        with self.lock:
            stack.down(self.layout, console, purge=purge)
        for mark in self.all_marks:
            for one in processes.family(mark):
                kill(one)

    @property
    def names(self) -> list[str]:
        """The parts."""
        return list(self.known)

    def mark(self, name: str) -> Mark:
        """A part's process."""
        return self.sandbox.state.processes[name]

    def alive(self, name: str) -> bool:
        """Whether a part runs."""
        return processes.is_alive(self.mark(name))

    def restore(self) -> None:
        """Restart dead parts, each at a random time after it was found dead."""
        with self.lock:
            now = time.monotonic()
            for name in self.names:
                if self.alive(name):
                    self.due.pop(name, None)
                elif name not in self.due:
                    self.due[name] = now + self.chance.uniform(*DEAD_SECONDS)
                elif now >= self.due[name]:
                    self._start(name)
            for at, mark in [one for one in self.orphans if one[0] <= now]:
                self.orphans.remove((at, mark))
                for member in processes.family(mark):
                    kill(member)

    def restore_until(self, stop: threading.Event) -> None:
        """Restart dead parts until `stop` is set."""
        while not stop.wait(0.2):
            self.restore()

    def kill_part(self, name: str) -> str:
        """Kill a part. For the scheduler, sometimes kill only its main process, so that its tasks continue without it.

        Returns:
            Description of what was killed.
        """
        mark = self.mark(name)
        if name == SCHEDULER and self.chance.random() < 0.5:  # noqa: PLR2004 - half of them
            with self.lock:
                self.orphans.append((time.monotonic() + ORPHANS_SECONDS, mark))
            kill(mark)
            return "it alone"
        members = processes.family(mark)
        for member in sorted(members, key=lambda member: member != mark):
            kill(member)
        return f"{len(members)} processes"

    def jobs(self) -> list[Job]:
        """Return the running tasks of the live scheduler."""
        members = {mark.pid: mark for mark in processes.family(self.mark(SCHEDULER))}
        found = []
        for mark in members.values():
            match, parent = WORKER.match(title(mark.pid)), members.get(parent_of(mark.pid))
            if match and parent and WORKER.match(title(parent.pid)):
                found.append(Job(parent, mark))
        return found

    def _start(self, name: str) -> None:
        how = self.known[name]
        if name != SCHEDULER:
            # Surviving children of the dead part would hold its port.
            for member in processes.family(self.mark(name)):
                kill(member)
        mark = processes.start(how.argv, env=how.env, log=how.log)
        self.all_marks.append(mark)
        self.sandbox.state.processes[name] = mark
        self.sandbox.state.save(self.layout)
        self.restarts[name] = self.restarts.get(name, 0) + 1
        del self.due[name]

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        start = processes.start

        def remembered(argv: Sequence[str], *, env: dict[str, str], log: Path) -> Mark:
            mark = start(argv, env=env, log=log)
            self.started[mark.pid] = Started(tuple(argv), dict(env), log)
            self.all_marks.append(mark)
            return mark

        processes.start = remembered  # type: ignore[assignment]
        try:
            yield
        finally:
            processes.start = start


@contextmanager
def _extended(more: dict[str, str]) -> Iterator[None]:
    """Extend the sandbox's settings of Airflow with these, while the block runs."""
    settings = airflow_parts.settings
    airflow_parts.settings = lambda *given: settings(*given) | more  # type: ignore[assignment]
    try:
        yield
    finally:
        airflow_parts.settings = settings


def kill(mark: Mark) -> bool:
    """Send SIGKILL to just this process; return whether it existed."""
    if not processes.is_alive(mark):
        return False
    with suppress(ProcessLookupError):
        os.kill(mark.pid, signal.SIGKILL)
        return True
    return False


def title(pid: int) -> str:
    """Return a process's command line; empty if the process has exited."""
    with suppress(OSError):
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        )
    return ""


def parent_of(pid: int) -> int:
    """Return a process's parent; 0 if the process has exited."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        return int(text[text.rindex(")") + 2 :].split()[1])
    return 0
