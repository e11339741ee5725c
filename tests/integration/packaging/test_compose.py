"""docker-compose.yml, as parsed by docker-compose itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from delivery_chain.sandbox.connections import STAGES
from delivery_chain.sandbox.registries import REGIONS, name_of

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
REQUIRED = re.findall(r"^([A-Z_]+)=", EXAMPLE, re.MULTILINE)
MARK = "from-the-environment"
ONE_SHOT = {"init"}


def compose(*arguments: str, without: str = "") -> subprocess.CompletedProcess[str]:
    """Run docker-compose with every required variable but one; the developer's own .env is not read."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    env |= {name: MARK for name in REQUIRED if name != without}
    command = ["docker-compose", "--env-file", ".env.example", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    if shutil.which("docker-compose") is None:
        pytest.fail("docker-compose is not on PATH; scripts/setup.sh installs it")
    done = compose("config")
    assert done.returncode == 0, done.stderr
    return dict(yaml.safe_load(done.stdout)["services"])


def test_compose_takes_the_file() -> None:
    """`docker-compose config -q` prints nothing."""
    done = compose("config", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_secret_is_named(name: str) -> None:
    """Without a required variable, compose stops and says which one is missing, and where to look."""
    done = compose("config", "-q", without=name)
    assert done.returncode != 0
    assert name in done.stderr
    assert "is not set, see .env.example" in done.stderr


def test_every_service_is_watched(services: dict[str, dict[str, Any]]) -> None:
    """A service either has a health check, or runs once."""
    unwatched = {name for name, service in services.items() if not service.get("healthcheck", {}).get("test")}
    assert unwatched == ONE_SHOT
    assert {services[name]["restart"] for name in ONE_SHOT} == {"no"}


def test_nothing_listens_outside_this_machine(services: dict[str, dict[str, Any]]) -> None:
    """All published ports are on 127.0.0.1."""
    ports = [str(port) for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 1 + len(REGIONS)
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    assert [name for name, service in services.items() if "network_mode" in service] == []


def test_no_secret_is_written_down(services: dict[str, dict[str, Any]]) -> None:
    """Secrets come from the environment, and the example file has no values."""
    secret = re.compile(r"PASSWORD$|SECRET|_KEY$|SQL_ALCHEMY_CONN$")
    found = {
        f"{name}.{variable}": value
        for name, service in services.items()
        for variable, value in service.get("environment", {}).items()
        if secret.search(variable)
    }
    assert len(found) > len(services)
    assert [name for name, value in found.items() if MARK not in value] == []
    assert re.findall(r"^[A-Z_]+=.+", EXAMPLE, re.MULTILINE) == []


def test_each_region_has_its_registry(services: dict[str, dict[str, Any]]) -> None:
    """The registries have the names that init creates connections to, and keep their data in volumes."""
    found = {name: service["volumes"] for name, service in services.items() if name.startswith("registry-")}
    assert found == {name_of(region): [f"{name_of(region)}:/var/lib/registry:rw"] for region in REGIONS}
    assert {f"WEBHOOK_SECRET_{stage.upper()}" for stage in STAGES} <= set(services["init"]["environment"])
