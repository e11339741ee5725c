"""Runs of chains in a sandbox, read over Airflow's REST API, with deadlines for waiting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from delivery_chain.oci.client import RegistryClient
from delivery_chain.sandbox import outcome
from delivery_chain.sandbox.airflow_parts import ADMIN
from delivery_chain.sandbox.api import PAGE
from delivery_chain.sandbox.registries import HOME
from delivery_chain.sandbox.runs import FINISHED, RUN_FINISHED

if TYPE_CHECKING:
    from collections.abc import Callable

    from delivery_chain.core.names.registry import Registry
    from delivery_chain.sandbox.api import AirflowApi
    from delivery_chain.sandbox.layout import Layout
    from delivery_chain.sandbox.source import Push

POLL_SECONDS = 0.5
RUN_SECONDS = 240
"""Timeout from a push or trigger to the end of its run, on two busy cores; measured 20 to 60 s."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A run, as it was at its end."""

    dag_id: str
    run_id: str
    state: str
    note: str
    conf: dict[str, Any]
    states: dict[str, tuple[str, ...]]
    """States by task id, in the order of the map indexes."""
    xcoms: dict[tuple[str, int, str], Any]
    """XComs by task id, map index and key."""
    logs: dict[tuple[str, int], str]
    """Each task instance's last log as the REST API shows it, as JSON text."""

    def xcom(self, task: str, index: int = -1) -> Any:
        """Return value of a task; None if it returned nothing."""
        return self.xcoms.get((task, index, "return_value"))


@dataclass(slots=True)
class Sandbox:
    """A running stack, and the questions that tests ask it."""

    layout: Layout
    api: AirflowApi
    registries: dict[str, Registry]
    secrets: dict[str, str]
    _ended: dict[tuple[str, str], Ended] = field(default_factory=dict)

    @property
    def home(self) -> Registry:
        """The home registry."""
        return self.registries[HOME]

    def tags(self, name: str, region: str = HOME) -> tuple[str, ...]:
        """All tags of a repository, including staging and fallback tags."""
        return outcome.tags(self.registries[region], name)

    def digests(self, name: str, tag: str) -> dict[str, str]:
        """The tag's digest by region; empty in regions without the tag."""
        return outcome.digests(self.registries, name, tag)

    def manifest(self, name: str, tag: str) -> Any:
        """Return a manifest of the home registry as JSON."""
        with RegistryClient(self.home) as client:
            return json.loads(client.get_manifest(name, tag).raw)

    def of_push(self, dag_id: str, push: Push) -> Ended:
        """Wait for the run of a push. The first call's result is cached, whatever is done to the run later."""
        return self._once(dag_id, push.commit, lambda run: (run["conf"] or {}).get("commit") == push.commit)

    def of_image(self, dag_id: str, digest: str) -> Ended:
        """Wait for the run of an image push. The first call's result is cached."""
        return self._once(dag_id, digest, lambda run: (run["conf"] or {}).get("digest") == digest)

    def of_run(self, dag_id: str, run_id: str) -> Ended:
        """Wait for a run that was triggered. The first call's result is cached."""
        return self._once(dag_id, run_id, lambda run: bool(run["dag_run_id"] == run_id))

    def again(self, ended: Ended) -> Ended:
        """Wait for a run that was cleared."""
        return self._await(ended.dag_id, ended.run_id, lambda run: bool(run["dag_run_id"] == ended.run_id))

    def clear(self, ended: Ended, *tasks: str) -> None:
        """Clear tasks of an ended run, and no others."""
        body = {
            "dry_run": False,
            "dag_run_id": ended.run_id,
            "task_ids": list(tasks),
            "only_failed": False,
            "include_downstream": False,
        }
        cleared = self.api.call("POST", f"/dags/{ended.dag_id}/clearTaskInstances", body=body)
        assert {one["task_id"] for one in cleared["task_instances"]} == set(tasks)

    def clear_from(self, ended: Ended, task: str) -> None:
        """Clear a task of an ended run, and all tasks downstream."""
        body = {
            "dry_run": False,
            "dag_run_id": ended.run_id,
            "task_ids": [task],
            "only_failed": False,
            "include_downstream": True,
        }
        assert self.api.call("POST", f"/dags/{ended.dag_id}/clearTaskInstances", body=body)["task_instances"]

    def run_of(self, dag_id: str, commit: str, state: str = "") -> str:
        """Return the id of a commit's run; wait until the run exists, and until its build is in a state."""
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            for run in self.api.runs(dag_id):
                if (run["conf"] or {}).get("commit") == commit:
                    tasks = self.api.task_instances(dag_id, run["dag_run_id"])
                    if not state or ("build", state) in {(one["task_id"], one["state"]) for one in tasks}:
                        return str(run["dag_run_id"])
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"no run of {commit} whose build is {state}")

    def outcome(self, dag_id: str, run_id: str) -> Any:
        """The outcome of a run, as the plugin returns it."""
        return self.page(f"runs/{dag_id}/{run_id}/outcome").json()

    def page(self, path: str) -> requests.Response:
        """Fetch one of the plugin's pages."""
        login = {"username": ADMIN, "password": self.secrets["admin"]}
        token = requests.post(f"{self.api.address}/auth/token", json=login, timeout=15).json()["access_token"]
        answer = requests.get(
            f"{self.api.address}/delivery-chain/{path}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=15,
        )
        assert answer.status_code == requests.codes.ok, answer.text
        return answer

    def trigger(self, *words: str) -> subprocess.Popen[str]:
        """Run `delivery-chain trigger` as on a machine that has only Airflow's address and a login."""
        program = str(Path(sys.executable).parent / "delivery-chain")
        login = {"AIRFLOW_API_USERNAME": ADMIN, "AIRFLOW_API_PASSWORD": self.secrets["admin"]}
        env = {"PATH": os.environ["PATH"], "AIRFLOW_API_URL": self.api.address, **login}
        env |= {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        return subprocess.Popen(
            [program, "trigger", *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def triggered(self, *words: str) -> tuple[int, str, str]:
        """Run it to its end; return its exit code and output."""
        with self.trigger(*words) as command:
            out, err = command.communicate(timeout=RUN_SECONDS)
        return command.returncode, out, err

    def clear_failed(self, dag_id: str, run_id: str) -> None:
        """Send what the UI sends for *Clear Run* with *only failed*: first a dry run, then the request itself."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/clear"
        for dry_run in (True, False):
            assert self.api.call("POST", path, body={"dry_run": dry_run, "only_failed": True})

    def task_path(self, ended: Ended, task: str) -> str:
        """Return a task instance's path in the REST API."""
        return f"/dags/{ended.dag_id}/dagRuns/{ended.run_id}/taskInstances/{task}"

    def _once(self, dag_id: str, key: str, is_it: Callable[[dict[str, Any]], bool]) -> Ended:
        if (dag_id, key) not in self._ended:
            self._ended[dag_id, key] = self._await(dag_id, key, is_it)
        return self._ended[dag_id, key]

    def _await(self, dag_id: str, key: str, is_it: Callable[[dict[str, Any]], bool]) -> Ended:
        deadline = time.monotonic() + RUN_SECONDS
        seen = "no run"
        while time.monotonic() < deadline:
            run = next(filter(is_it, self.api.runs(dag_id)), None)
            if run is not None:
                instances = self.api.task_instances(dag_id, run["dag_run_id"])
                open_ = [one["task_id"] for one in instances if one["state"] not in FINISHED]
                if run["state"] in RUN_FINISHED and not open_:
                    return self._read(dag_id, run, instances)
                seen = f"{run['state']} at {', '.join(open_)}"
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"{dag_id} {key}: not ended after {RUN_SECONDS} s, {seen}")

    def _read(self, dag_id: str, run: dict[str, Any], instances: list[dict[str, Any]]) -> Ended:
        run_id = run["dag_run_id"]
        states: dict[str, tuple[str, ...]] = {}
        logs: dict[tuple[str, int], str] = {}
        for one in sorted(instances, key=lambda one: (one["task_id"], one["map_index"])):
            task, index = one["task_id"], one["map_index"]
            states[task] = (*states.get(task, ()), one["state"])
            if one["try_number"] and one["state"] in {"success", "failed"}:
                logs[task, index] = self._log(dag_id, run_id, task, index, one["try_number"])
        return Ended(
            dag_id=dag_id,
            run_id=run_id,
            state=run["state"],
            note=run["note"] or "",
            conf=run["conf"] or {},
            states=states,
            xcoms=self._xcoms(dag_id, run_id),
            logs=logs,
        )

    def _log(self, dag_id: str, run_id: str, task: str, index: int, number: int) -> str:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}/logs/{number}"
        return json.dumps(self.api.call("GET", path, query={"map_index": index, "full_content": "true"}))

    def _xcoms(self, dag_id: str, run_id: str) -> dict[tuple[str, int, str], Any]:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/~/xcomEntries"
        page = self.api.call("GET", path, query={"limit": PAGE})
        assert page["total_entries"] == len(page["xcom_entries"]), "more XComs than one page has"
        keys = [(one["task_id"], one["map_index"], one["key"]) for one in page["xcom_entries"]]
        return {
            (task, index, key): self.api.xcom(dag_id, run_id, task, map_index=index, key=key)
            for task, index, key in keys
        }
