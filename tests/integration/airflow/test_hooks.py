"""The hooks' connection tests, and a poll of a git source, with real parts."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from delivery_chain.hooks.registry import OciRegistryHook
from delivery_chain.triggers.git_ref import GitRefTrigger
from support.oci_registry import PASSWORD, USER, docker_registry

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def test_the_registry_is_asked_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A valid login is accepted, and the region named; a wrong one is reported without its password."""

    def ask(password: str) -> tuple[bool, str]:
        fields = {"conn_type": "oci_registry", "host": registry.host, "login": USER, "password": password}
        extra = {"plain_http": True, "region": "ap-southeast-1"}
        monkeypatch.setenv("AIRFLOW_CONN_SING", json.dumps(fields | {"extra": extra}))
        return OciRegistryHook("sing").test_connection()

    with docker_registry(tmp_path, htpasswd=True) as registry:
        assert ask(PASSWORD) == (
            True,
            f"{registry.host} in region ap-southeast-1 is an OCI registry and grants access as 'robot'",
        )
        good, message = ask("another-password")
    assert (good, "another-password" in message, "401" in message or "login" in message) == (
        False,
        False,
        True,
    )


def test_a_look_finds_the_refs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connection, settings and git together return the matching refs."""
    git = ("git", "-C", str(tmp_path / "api.git"), "-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path / "api.git")], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    subprocess.run([*git, "tag", "v1"], check=True)
    head = subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    monkeypatch.setenv("AIRFLOW_CONN_GIT", json.dumps({"conn_type": "git", "host": tmp_path.as_uri()}))
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__GIT_TRANSPORTS", "file")
    assert GitRefTrigger("git", "api.git", tags="v.*").look() == {"refs/tags/v1": head}
