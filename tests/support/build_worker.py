"""A worker that runs the step `build` in Airflow's own task runner, each task in a forked process.

`BuildWorker` starts and controls it; `main` is the worker itself.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

WAITS = "started"
"""Output of a build's RUN step before it waits."""
DOCKERFILE = f"""FROM scratch
COPY busybox /bin/busybox
COPY busybox /bin/sh
ARG WAIT
RUN ["/bin/busybox", "sh", "-c", "if [ -n \\"$WAIT\\" ]; then echo {WAITS}; exec /bin/busybox sleep $WAIT; fi"]
"""


def make_source(folder: Path) -> str:
    """Create a repository `api.git` below a folder, with a small Dockerfile; return its commit."""
    tree = folder / "api.git"
    tree.mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "busybox")
    (tree / "Dockerfile").write_text(DOCKERFILE)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-C", str(tree)]
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "."],
        ["commit", "-q", "-m", "first"],
        ["tag", "v1.2"],
    ):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return head.stdout.strip()


@dataclass(slots=True)
class BuildTask:
    """A task that the worker was asked to run."""

    pid: int
    log: Path

    def said(self) -> str:
        """Output of the task and its programs so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Wait until the output contains a text."""
        until = time.monotonic() + seconds
        while text not in self.said():
            if time.monotonic() > until or not is_running(self.pid):
                raise TimeoutError(self.said())
            time.sleep(0.02)

    def cancel(self) -> bool:
        """End the task as Airflow's supervisor does: SIGTERM, and SIGKILL after 5 s. Return whether that was needed."""
        os.kill(self.pid, signal.SIGTERM)
        until = time.monotonic() + 5
        while time.monotonic() < until:
            if not is_running(self.pid):
                return False
            time.sleep(0.02)
        os.kill(self.pid, signal.SIGKILL)
        return True

    def kill(self) -> None:
        """End the task as the kernel does when memory runs out."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def is_running(pid: int) -> bool:
    """Whether a process exists and has not exited."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class BuildWorker:
    """Controls the worker."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._count = 0

    def start(self, run_id: str, *, wait: int = 0) -> BuildTask:
        """Start the build of a run; its RUN step waits for that many seconds."""
        self._count += 1
        log = self._folder / f"{self._count}.log"
        return BuildTask(self._ask({"run_id": run_id, "wait": wait, "log": str(log)}), log)

    def end(self, task: BuildTask) -> str:
        """Wait for a task's end; return what Airflow would record: a state, or what the process died of."""
        code = self._ask({"pid": task.pid})
        state = task.log.with_suffix(".state")
        return state.read_text() if state.exists() else f"exit code {code}"

    def _ask(self, what: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(what), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


@contextmanager
def build_worker(folder: Path, host: str, **settings: str) -> Iterator[BuildWorker]:
    """Run a worker that builds from `folder`/git and pushes to a registry without login, with logs in `folder`/logs."""
    commit = make_source(folder / "git")
    for name in ("logs", "tmp", "home"):
        (folder / name).mkdir()
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TMPDIR": str(folder / "tmp"),
        # Inherited by the programs and RUN steps that the worker starts, which distinguishes them from others.
        "NO_PROXY": str(folder),
        "AIRFLOW_HOME": str(folder / "home"),
        "AIRFLOW__DELIVERY_CHAIN__WORK_FOLDER": str(folder / "work"),
        "AIRFLOW__DELIVERY_CHAIN__GIT_TRANSPORTS": "file",
        "AIRFLOW_VAR_DELIVERY_CHAIN_SIGNING_SECRET": "0123456789abcdef" * 4,
        "AIRFLOW_CONN_HOME": json.dumps(
            {"conn_type": "oci_registry", "host": host, "extra": {"plain_http": True}}
        ),
        "AIRFLOW_CONN_GIT_SHOP": json.dumps({"conn_type": "git", "host": f"file://{folder}/git"}),
        **settings,
    }
    command = [sys.executable, "-m", "support.build_worker", commit]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=env, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield BuildWorker(process, folder / "logs")
        finally:
            process.kill()


def main(commit: str) -> None:
    """For each line of standard input, fork a task for the run that it names, or wait for the process that it names."""
    # Import what a task needs only once, as Airflow's LocalExecutor does.
    from support import build_task  # noqa: PLC0415

    for line in sys.stdin:
        order = json.loads(line)
        if "pid" in order:
            _answer(os.waitstatus_to_exitcode(os.waitpid(order["pid"], 0)[1]))
            continue
        pid = os.fork()
        if pid == 0:
            with open(order["log"], "ab", 0) as log:  # noqa: PTH123
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            try:
                said = build_task.run_task(commit, order["run_id"], order["wait"])
                Path(order["log"]).with_suffix(".state").write_text(said)
            except BaseException:  # noqa: BLE001 - the process ends here
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _answer(pid)


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
