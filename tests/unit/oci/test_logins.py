"""Logins from other tools' files."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.errors import ConfigurationError
from delivery_chain.oci.logins import auth_files, find_login

if TYPE_CHECKING:
    from pathlib import Path


def auth(user: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:p:w".encode()).decode()}


def test_where_files_are_looked_for(tmp_path: Path) -> None:
    """As skopeo does, then as docker does; a file that is named is the only one."""
    home = {"HOME": str(tmp_path)}
    own, docker = tmp_path / ".config/containers/auth.json", tmp_path / ".docker/config.json"

    assert auth_files(home) == (own, docker)
    assert auth_files({**home, "XDG_RUNTIME_DIR": "/run/u", "DOCKER_CONFIG": "/d"}) == (
        type(tmp_path)("/run/u/containers/auth.json"),
        own,
        type(tmp_path)("/d/config.json"),
    )
    assert auth_files({**home, "REGISTRY_AUTH_FILE": "/a.json"}) == (type(tmp_path)("/a.json"),)


FOUND: dict[str, tuple[str, str]] = {
    "r.example.com": ("host", "p:w"),
    "legacy.example.com": ("legacy", "p:w"),
    "empty.example.com": ("", ""),
    "other.example.com": ("", ""),
}


@pytest.mark.parametrize(("host", "login"), FOUND.items(), ids=FOUND)
def test_a_host_has_its_login(tmp_path: Path, host: str, login: tuple[str, str]) -> None:
    """Hosts and docker's old URLs are keys; an empty entry is none."""
    auths = {
        "r.example.com": auth("host"),
        "https://legacy.example.com/v1/": auth("legacy"),
        "empty.example.com": {},
    }
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": auths}))

    assert find_login(host, "shop/api", (tmp_path / "missing.json", file)) == login


def test_a_repository_s_own_login_counts_first(tmp_path: Path) -> None:
    """The longest key that fits."""
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": {"r.io": auth("all"), "r.io/shop": auth("shop")}}))

    assert find_login("r.io", "shop/api", (file,))[0] == "shop"
    assert find_login("r.io", "shopping/api", (file,))[0] == "all"


WRONG: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "expected JSON"),
    "a list": ([], "JSON object"),
    "a helper": ({"credHelpers": {"r.io": "ecr-login"}}, "credential helper"),
    "an identity token": ({"auths": {"r.io": {"identitytoken": "t0k3n"}}}, "identity token"),
    "no base64": ({"auths": {"r.io": {"auth": "s3cret!"}}}, "base64"),
    "no password": ({"auths": {"r.io": {"auth": base64.b64encode(b"s3cret").decode()}}}, "base64"),
}


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_login_is_named_without_its_secret(tmp_path: Path, content: Any, message: str) -> None:
    """The file and the reason, never what stands there."""
    file = tmp_path / "auth.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))

    with pytest.raises(ConfigurationError, match=message) as caught:
        find_login("r.io", "a", (file,))

    assert str(file) in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "t0k3n" not in str(caught.value)


def test_a_named_file_has_to_be_there(tmp_path: Path) -> None:
    """Somebody meant it."""
    with pytest.raises(ConfigurationError, match="No such file"):
        find_login("r.io", "a", (tmp_path / "none.json",), must_exist=True)
