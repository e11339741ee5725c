"""The shell commands of docs/events.md and of the CI files, run verbatim."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from support.airflow_fake import PASSWORD, USER, FakeAirflow, fake_airflow

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration
DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "events.md").read_text(encoding="utf-8")
CURL = next(block for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) if "/auth/token" in block)
GITHUB = yaml.safe_load((DOCS / "events" / "github-action.yaml").read_text(encoding="utf-8"))["jobs"][
    "deliver"
]
GITLAB = yaml.safe_load((DOCS / "events" / "gitlab-ci.yml").read_text(encoding="utf-8"))["deliver"]
SHELLS = {
    "curl": ["bash", "-euo", "pipefail", "-c", CURL],
    # GitHub's own command for `shell: bash`.
    "github": ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", GITHUB["steps"][0]["run"]],
    "gitlab": ["busybox", "sh", "-ec", "\n".join(GITLAB["script"])],
}
REF = "refs/tags/v1.2.0"
VARIABLES = {
    "CHAIN": "shop-api",
    "GITHUB_RUN_ID": "77",
    "GITHUB_REF": REF,
    "GITHUB_ACTOR": "mona",
    "CI_PIPELINE_ID": "78",
    "CI_COMMIT_TAG": "v1.2.0",
    "GITLAB_USER_LOGIN": "lisa",
}
EVENTS = {
    "curl": (None, {"ref": REF}),
    "github": ("github__77", {"ref": REF, "actor": "mona"}),
    "gitlab": ("gitlab__78", {"ref": REF, "actor": "lisa"}),
}


@pytest.fixture(name="airflow")
def _airflow() -> Iterator[FakeAirflow]:
    with fake_airflow() as fake:
        yield fake


def run(name: str, airflow: FakeAirflow, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    login = {"AIRFLOW_API_URL": airflow.url, "AIRFLOW_API_USERNAME": USER, "AIRFLOW_API_PASSWORD": PASSWORD}
    env = {"PATH": os.environ["PATH"], **VARIABLES, **login, **more}
    return subprocess.run(
        SHELLS[name], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("name", SHELLS)
def test_starts_a_run(name: str, airflow: FakeAirflow, tmp_path: Path) -> None:
    """A token, then a run with the conf from the page; a password with quotes arrives unchanged."""
    done = run(name, airflow, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    run_id, conf = EVENTS[name]
    identity = {"dag_run_id": run_id} if run_id else {}
    assert airflow.posted == [{**identity, "logical_date": None, "conf": conf}]
    assert PASSWORD not in done.stdout
    if run_id:
        assert done.stdout.endswith(f"started: {airflow.url}/dags/shop-api/runs/{run_id}\n")
    else:
        assert json.loads(done.stdout)["state"] == "queued"


@pytest.mark.parametrize("name", ["github", "gitlab"])
def test_a_job_that_is_run_again(name: str, airflow: FakeAirflow, tmp_path: Path) -> None:
    """A rerun of a job starts no second run of the chain, and does not fail."""
    run(name, airflow, tmp_path)
    done = run(name, airflow, tmp_path)
    assert (done.returncode, "is there already" in done.stdout, len(airflow.runs)) == (0, True, 1)


@pytest.mark.parametrize("name", SHELLS)
def test_a_refused_login(name: str, airflow: FakeAirflow, tmp_path: Path) -> None:
    """A rejected login fails the job before a run is requested."""
    done = run(name, airflow, tmp_path, AIRFLOW_API_PASSWORD="wrong")
    assert (done.returncode == 0, airflow.posted) == (False, [])


@pytest.mark.parametrize("name", SHELLS)
def test_a_refused_run(name: str, airflow: FakeAirflow, tmp_path: Path) -> None:
    """A refused run fails the job, and Airflow's reason is in its log."""
    airflow.say["POST /api/v2/dags/shop-api/dagRuns"] = [(400, {"detail": "because"})]
    done = run(name, airflow, tmp_path)
    assert (done.returncode == 0, "because" in done.stdout) == (False, True)


@pytest.mark.parametrize("name", SHELLS)
def test_a_redirect(name: str, airflow: FakeAirflow, tmp_path: Path) -> None:
    """The token does not follow a redirect, and the job fails because no run was started."""
    airflow.say["POST /api/v2/dags/shop-api/dagRuns"] = [(307, b"/elsewhere")]
    done = run(name, airflow, tmp_path)
    assert ("POST /elsewhere" in airflow.seen, done.returncode == 0) == (False, False)


@pytest.mark.parametrize("name", ["github", "gitlab"])
def test_a_ref_with_quotes(name: str, airflow: FakeAirflow, tmp_path: Path) -> None:
    """A ref's name is data: quotes and dollar signs in it stay unchanged."""
    odd = "v1\"$(id)';{}"
    done = run(name, airflow, tmp_path, GITHUB_REF=f"refs/tags/{odd}", CI_COMMIT_TAG=odd)
    assert (done.returncode, airflow.posted[0]["conf"]["ref"]) == (0, f"refs/tags/{odd}")
