"""Tests `delivery-chain doctor` and `connect` on a real Airflow: problems, their remedies as typed, and a run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.commands.connection_fields import SECRET
from delivery_chain.core.events.watch_dags import source_dag_id
from delivery_chain.core.spec.model import Source
from delivery_chain.sandbox.airflow_parts import ADMIN
from support.branches import git, push_again, push_branches
from support.chain_runs import RUN_SECONDS
from support.faults import FROM
from support.spec_edits import dag, wait_for

if TYPE_CHECKING:
    from support.chain_runs import Ended, Sandbox

pytestmark = pytest.mark.e2e
CHAIN = "doctored"
SPEC = f"""\
version: 1
name: {CHAIN}
scope: {{instance: cn-hangzhuo, namespace: {CHAIN}, repositories: [app]}}
sources: {{app: {{connection: doctor_git, url: {CHAIN}/app.git}}}}
build: {{rules: [{{name: any, branch: '(?<branch>.+)', tags: [{{tag: '${{branch}}'}}]}}]}}
scan: {{enabled: false}}
replicate: [{{name: near, to: near_mirror}}]
distribute: [{{name: tell, url_connection: tell_team}}]
"""
WATCH = source_dag_id(Source(connection="doctor_git", url=f"{CHAIN}/app.git"))
Problems = dict[str, tuple[str, str]]
"""Problem and remedy, by subject."""


def typed(sandbox: Sandbox, command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell that has sourced the sandbox's settings, as the README describes."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {"PATH": path, "HOME": str(sandbox.layout.root), **more}
    env |= {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    script = f'. "{sandbox.layout.airflow_env}"; {command}'
    return subprocess.run(
        ["bash", "-c", script], env=env, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )


def doctor(sandbox: Sandbox) -> tuple[int, Problems]:
    """The doctor's exit code, and the problems that it lists."""
    done = typed(sandbox, f"delivery-chain doctor {CHAIN}")
    found = re.findall(r"^problem +\S+ +(\S+).*?: (.*)\n +-> (.*)$", done.stdout, re.MULTILINE)
    return done.returncode, {about: (said, remedy) for about, said, remedy in found}


@pytest.fixture(scope="module")
def spec(sandbox: Sandbox, started: object) -> Path:
    """The file of a chain with a typo, a connection of the wrong type, and two missing connections."""
    del started
    git(sandbox.layout, "init", "--quiet", "--bare", str(sandbox.layout.git / CHAIN / "app.git"))
    wrong = {"connection_id": "doctor_git", "conn_type": "http", "host": "git.example.com"}
    assert sandbox.api.call("POST", "/connections", body=wrong)
    folder = typed(sandbox, 'printf %s "$AIRFLOW__DELIVERY_CHAIN__SPECS_FOLDER"').stdout
    file = Path(folder) / f"{CHAIN}.yaml"
    file.write_text(SPEC, "ascii")
    for dag_id in (CHAIN, WATCH):
        wait_for(lambda wanted=dag_id: dag(sandbox.api, wanted), f"the Dag {dag_id}")
    return file


@dataclass(slots=True)
class Mended:
    """Output of the doctor, of the remedies, and of runs before and in between."""

    problems: Problems
    typo: Ended
    """A run from when the spec had its typo."""
    missing: Ended
    """A run after that, when connections were missing."""
    said: dict[str, str]
    connected: datetime
    """Time at which the source got its connection."""
    clone: Path
    """A clone of the source."""


@pytest.fixture(scope="module")
def mended(sandbox: Sandbox, spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Mended:
    """Follow the remedies literally, with the addresses filled in, and start runs in between."""
    code, problems = doctor(sandbox)
    assert code == 1
    repository = sandbox.layout.git / CHAIN / "app.git"
    clone = tmp_path_factory.mktemp("doctored")
    push_branches(sandbox.layout, clone, repository, {"works": FROM})
    typo = run(sandbox, "typo")
    assert problems["cn-hangzhuo"][1].endswith(f", or write 'cn-hangzhou' in {spec}")
    versions = len(dag_versions(sandbox))
    spec.write_text(SPEC.replace("cn-hangzhuo", "cn-hangzhou"), "ascii")
    room = problems["doctor_git"][1].partition(", or if nothing else uses this one: ")[2]
    said = {"doctor_git": follow(sandbox, room, "URL", sandbox.layout.git.as_uri())}
    connected = datetime.now(UTC)
    wait_for(lambda: len(dag_versions(sandbox)) > versions, "the corrected spec to be in force")
    missing = run(sandbox, "missing")
    near = sandbox.registries["ap-southeast-1"]
    options = " --plain-http --test" + (f" --username {near.username}" if near.username else "")
    said["near_mirror"] = follow(
        sandbox, problems["near_mirror"][1], "HOST", near.host + options, near.password
    )
    target = sandbox.api.call("GET", "/connections/faults_redeploy")["host"]
    said["tell_team"] = follow(sandbox, problems["tell_team"][1], "URL", f"{target} --test")
    wait_for(lambda: sandbox.api.variable(WATCH), "the watch's first look")
    return Mended(problems, typo, missing, said, connected, clone)


def dag_versions(sandbox: Sandbox) -> list[Any]:
    """Airflow's versions of the chain's Dag."""
    found: list[Any] = sandbox.api.call("GET", f"/dags/{CHAIN}/dagVersions")["dag_versions"]
    return found


def run(sandbox: Sandbox, run_id: str) -> Ended:
    sandbox.api.trigger(CHAIN, run_id, {"ref": "refs/heads/works"})
    return sandbox.of_run(CHAIN, run_id)


def follow(sandbox: Sandbox, remedy: str, word: str, real: str, secret: str = "") -> str:
    """Run the command of a remedy; return the last line of its output."""
    done = typed(sandbox, remedy.replace(word, real), **({SECRET: secret} if secret else {}))
    assert done.returncode == 0, f"{remedy}: {done.stderr}"
    return done.stdout.splitlines()[-1]


def test_the_doctor_names_what_is_wrong(mended: Mended) -> None:
    """It lists all problems at once, and no others."""
    nothing = "no connection of this name, needed for"
    wrong = "connection 'doctor_git', field conn_type: expected type git, found 'http'"
    assert {about: said for about, (said, _) in mended.problems.items()} == {
        "cn-hangzhuo": f"{nothing} the registry of chain {CHAIN}; did you mean 'cn-hangzhou'?",
        "doctor_git": f"{wrong}; correct it under Admin > Connections",
        "near_mirror": f"{nothing} replication rule near",
        "tell_team": f"{nothing} trigger tell",
    }


def test_the_first_task_of_a_run_names_it_before_anything_is_built(mended: Mended) -> None:
    """The note names a misspelt registry and a missing connection of a trigger, with the commands that add them."""
    typo, missing = mended.typo, mended.missing
    assert (typo.state, typo.states["plan"], typo.states["build"]) == (
        "failed",
        ("failed",),
        ("upstream_failed",),
    )
    assert typo.note.startswith(
        "failed in plan: connection 'cn-hangzhuo' is missing, needed for the registry of chain doctored: add it with "
        "`delivery-chain connect registry cn-hangzhuo HOST`"
    )
    assert (missing.state, missing.states["plan"], missing.states["build"]) == (
        "failed", ("failed",), ("upstream_failed",),
    )  # fmt: skip
    assert "connection 'tell_team' is missing, needed for trigger tell: add it with" in missing.note
    assert missing.note.endswith("; nothing was built")


def test_what_the_remedies_say_is_all_there_is_to_do(sandbox: Sandbox, mended: Mended) -> None:
    """After following the remedies, no problem is left."""
    said = {about: text.split()[0] for about, text in mended.said.items()}
    assert said == {"doctor_git": "created", "near_mirror": "tested", "tell_team": "secret"}
    assert doctor(sandbox) == (0, {})


def test_connections_that_are_made_so_work(sandbox: Sandbox, mended: Mended) -> None:
    """The run that lacked the connections is cleared; it builds from the source, replicates, and delivers."""
    sandbox.clear_failed(CHAIN, mended.missing.run_id)
    again = sandbox.again(mended.missing)
    assert (again.state, again.note.startswith(f"delivered: {CHAIN}/app works at sha256:")) == (
        "success",
        True,
    )
    assert again.note.endswith(", copied to near_mirror, 1 trigger fired")
    digests = sandbox.digests(f"{CHAIN}/app", "works")
    assert digests["ap-southeast-1"] == digests["cn-hangzhou"] == again.xcom("assemble")["digest"]


def test_the_watch_looks_within_a_minute_of_its_connection(sandbox: Sandbox, mended: Mended) -> None:
    """Its connection had another type until then; the ledger lists what the first poll saw."""
    first = min(events(sandbox), key=lambda one: str(one["at"]))
    assert datetime.fromisoformat(first["at"]) - mended.connected < timedelta(seconds=60)


def test_what_was_pushed_before_the_first_look_is_in_the_ledger(sandbox: Sandbox, mended: Mended) -> None:
    """The first poll starts no run, but the ledger's line names the command that does."""
    del mended
    first = min(events(sandbox), key=lambda one: str(one["at"]))
    assert f"delivery-chain trigger {CHAIN} --rule any --ref refs/heads/works" in json.dumps(first)


def test_a_sender_that_is_made_late_leaves_no_gap_before_it(sandbox: Sandbox, mended: Mended) -> None:
    """Changes that only the sensor saw before are no gaps. For a sender that existed by then, one is."""
    later = datetime.now(UTC)
    repository = sandbox.layout.git / CHAIN / "app.git"
    push_again(sandbox.layout, mended.clone, repository, "works", f'{FROM}LABEL later="yes"\n')
    wait_for(lambda: len(events(sandbox)) > 1, "the watch to see the push")
    login = {"AIRFLOW_API_USERNAME": ADMIN, "AIRFLOW_API_PASSWORD": sandbox.secrets["admin"]}
    made = typed(
        sandbox,
        "delivery-chain webhook doctor_hooks --sender github --speaks-for doctor_git",
        AIRFLOW_API_URL=sandbox.api.address,
        **login,
    )
    assert made.returncode == 0, made.stderr
    # A webhook may arrive up to a minute after the sensor.
    wait_for(
        lambda: datetime.now(UTC) - later > timedelta(seconds=75),
        "a minute after the watch saw the push",
    )
    assert events(sandbox, "--gaps") == []
    extra = {"sender": "github", "speaks_for": "doctor_git", "since": "2026-01-01T00:00:00+00:00"}
    body = {"connection_id": "doctor_hooks", "conn_type": "webhook_sender", "extra": json.dumps(extra)}
    assert sandbox.api.call("PATCH", "/connections/doctor_hooks", body=body)
    (gap,) = events(sandbox, "--gaps")
    assert "no webhook reported it" in json.dumps(gap)


def events(sandbox: Sandbox, *options: str) -> list[dict[str, Any]]:
    """The ledger's lines about the chain's source."""
    done = typed(sandbox, shlex.join(["delivery-chain", "events", "--json", "--source", CHAIN, *options]))
    return [json.loads(line) for line in done.stdout.splitlines()]
