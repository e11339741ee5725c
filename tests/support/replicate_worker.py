"""Runs the step `replicate` in a process of its own, as an Airflow worker does, with a task state that outlives it."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delivery_chain.operators.replicate import ReplicateOperator

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from support.chain_steps import Run


class FileStore:
    """Airflow's task state store in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def get(self, key: str) -> Any:
        """Return the value set last, by any process."""
        return self._all().get(key)

    def set(self, key: str, value: Any) -> None:
        """Set the value atomically: a killed process leaves the old or the new one."""
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(self._all() | {key: value}), "utf-8")
        new.rename(self._file)

    def _all(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._file.read_text("utf-8")) if self._file.exists() else {}
        return found


def start_try(run: Run, slot: int, folder: Path) -> BaseProcess:
    """Start a try of the step; its return value is in `folder`/result.json."""
    process = multiprocessing.get_context("spawn").Process(target=_try, args=(run, slot, str(folder)))
    process.start()
    return process


def _try(run: Run, slot: int, folder: str) -> None:
    context = run.context("replicate", 0) | {"task_state_store": FileStore(Path(folder) / "state.json")}
    result = ReplicateOperator(task_id="replicate", slot=slot).execute(context)
    (Path(folder) / "result.json").write_text(json.dumps(result), "utf-8")
