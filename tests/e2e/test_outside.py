"""Starts runs from outside, over a real Airflow's REST API, with the command and with the documented curl."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.sandbox.airflow_parts import ADMIN

if TYPE_CHECKING:
    from support.chain_runs import Ended, Sandbox

pytestmark = pytest.mark.e2e
DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "events.md").read_text(encoding="utf-8")
CURL = next(block for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) if "/auth/token" in block)
REF = "refs/tags/v1.2.0"


def outside(sandbox: Sandbox, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command as on a machine that has only Airflow's address and a login."""
    login = {"AIRFLOW_API_USERNAME": ADMIN, "AIRFLOW_API_PASSWORD": sandbox.secrets["admin"]}
    env = {"PATH": os.environ["PATH"], "AIRFLOW_API_URL": sandbox.api.address, **login, **more}
    if "PYTHONPATH" in os.environ:
        env["PYTHONPATH"] = os.environ["PYTHONPATH"]
    done = subprocess.run(list(command), env=env, capture_output=True, text=True, timeout=300, check=False)
    assert sandbox.secrets["admin"] not in done.stdout + done.stderr
    return done


def trigger(sandbox: Sandbox, *arguments: str, **more: str) -> tuple[int, str, str]:
    """Run `delivery-chain trigger`; return its exit code and output."""
    program = str(Path(sys.executable).parent / "delivery-chain")
    done = outside(sandbox, program, "trigger", *arguments, **more)
    return done.returncode, done.stdout, done.stderr


def page(sandbox: Sandbox, chain: str, run_id: str) -> str:
    return f"{sandbox.api.address}/dags/{chain}/runs/{run_id}"


def test_an_image_that_is_there(sandbox: Sandbox, image: Ended) -> None:
    """The command starts the run, waits for it and prints its note; with the same id, it finds the existing run."""
    del image
    words = ("base-images", "--repository", "busybox", "--tag", "1.0", "--run-id", "outside-image", "--wait")
    where = page(sandbox, "base-images", "outside-image")
    code, out, err = trigger(sandbox, *words)
    ended = sandbox.of_run("base-images", "outside-image")
    last = f"success  {ended.note}\n"
    assert (code, out, err) == (0, f"started  outside-image  {where}\n{last}", "")
    assert (ended.conf, bool(ended.note)) == ({"repository": "busybox", "tag": "1.0"}, True)
    assert trigger(sandbox, *words) == (0, f"exists  outside-image  {where}\n{last}", "")


def test_a_blocked_image(sandbox: Sandbox, blocked: Ended) -> None:
    """A blocked run fails the command, and the note says why."""
    ref = blocked.conf["ref"]
    code, out, err = trigger(sandbox, "shop-api", "--ref", ref, "--run-id", "outside-blocked", "--wait")
    ended = sandbox.of_run("shop-api", "outside-blocked")
    assert (code, err, out.splitlines()[1:]) == (1, "", f"failed  {ended.note}".splitlines())
    assert (ended.states["denied"], bool(ended.note)) == (("failed",), True)


def test_refusals(sandbox: Sandbox) -> None:
    """Unknown chain, unknown rule, invalid login."""
    address = sandbox.api.address
    code, out, err = trigger(sandbox, "shop-apy", "--ref", "v1.0.0")
    assert (code, out) == (3, "")
    assert err.startswith(f"{address}: no chain 'shop-apy'; chains visible to this login: base-images, ")
    assert ", shop-api, shop-web" in err
    for words, reason in (
        (("--ref", "v9"), "no build rule of chain 'shop-api' matches 'v9' as a whole name (release: tag "),
        (
            ("--ref", "v1.0.0", "--rule", "no-such-rule"),
            "chain 'shop-api' has no build rule 'no-such-rule': it has ",
        ),
        (
            ("--repository", "nobodys", "--tag", "v1"),
            "repository 'nobodys' is not in the scope of chain 'shop-api'",
        ),
    ):
        code, out, err = trigger(sandbox, "shop-api", *words)
        assert (code, out) == (1, "")
        assert err.startswith(f"shop-api does not take this event, nothing was started: {reason}")
    code, out, err = trigger(sandbox, "shop-api", "--ref", "v1.0.0", AIRFLOW_API_PASSWORD="wrong")
    assert (code, out, err.startswith(f"{address}/auth/token: Airflow rejects ")) == (3, "", True)
    code, out, err = trigger(
        sandbox, "shop-api", "--ref", "v1.0.0", AIRFLOW_API_TOKEN="eyJhbGciOiJIUzUxMiJ9.e30.AA"
    )
    assert (code, out, err.startswith(f"{address}: Airflow rejects AIRFLOW_API_TOKEN (status 4")) == (
        3,
        "",
        True,
    )


def test_the_documented_curl(sandbox: Sandbox) -> None:
    """The commands of the page, verbatim, start a run with the conf from the page."""
    done = outside(sandbox, "bash", "-euo", "pipefail", "-c", CURL)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert (said["dag_id"], said["conf"], said["state"]) == ("shop-api", {"ref": REF}, "queued")
    # The sandbox has no such tag: the chain's first step refuses it.
    ended = sandbox.of_run("shop-api", said["dag_run_id"])
    assert (ended.state, ended.states["plan"]) == ("failed", ("failed",))
