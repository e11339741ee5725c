"""Logins as other container tools keep them: the auth files of docker, skopeo and podman, read and never written.

Source: containers-auth.json(5); docker's `config.json`.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delivery_chain.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_FILE = 1024 * 1024
"""Bytes of an auth file: a hundred registries are 20 KiB."""


def auth_files(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Where logins are looked for, in that order; a file that is named by hand is the only one.

    Args:
        environment: `REGISTRY_AUTH_FILE`, `XDG_RUNTIME_DIR`, `DOCKER_CONFIG` and `HOME` count.
    """
    if named := environment.get("REGISTRY_AUTH_FILE"):
        return (Path(named),)
    found: list[Path] = []
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        found.append(Path(runtime) / "containers" / "auth.json")
    home = Path(environment.get("HOME", "/nonexistent"))
    docker = environment.get("DOCKER_CONFIG")
    found += [
        home / ".config" / "containers" / "auth.json",
        (Path(docker) if docker else home / ".docker") / "config.json",
    ]
    return tuple(found)


def find_login(host: str, name: str, files: tuple[Path, ...], *, must_exist: bool = False) -> tuple[str, str]:
    """The user name and password for a repository; two empty texts for anonymous access.

    Args:
        host: `registry.example.com` or `127.0.0.1:5000`.
        name: Repository; an entry for `host/shop` counts before one for `host`.
        files: Looked through in this order.
        must_exist: Whether a missing file is an error: somebody named it.

    Raises:
        ConfigurationError: A file can't be read, or holds a login of a kind that is not known here.
    """
    for file in files:
        if not file.exists() and not must_exist:
            continue
        data = _read(file)
        entry = _entry(data.get("auths"), host, name)
        if entry is not None:
            return _login(entry, file, host)
        if host in _table(data.get("credHelpers")):
            raise ConfigurationError(
                f"{file}: the login for {host} is kept by a credential helper, which is not asked. "
                "Log in to a file instead: REGISTRY_AUTH_FILE=… and skopeo login, or podman login"
            )
    return "", ""


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_FILE + 1)
        data = json.loads(raw) if len(raw) <= MAX_FILE else None
    except OSError as error:
        raise ConfigurationError(f"auth file {file}: {error.strerror}. Check REGISTRY_AUTH_FILE") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"auth file {file}: expected JSON, found something else") from error
    if not isinstance(data, dict):
        raise ConfigurationError(f"auth file {file}: expected a JSON object of at most {MAX_FILE} bytes")
    return data


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _entry(auths: Any, host: str, name: str) -> dict[str, Any] | None:
    """The entry of the longest key that fits: `host/a/b`, `host/a`, `host`."""
    known = {_plain(key): value for key, value in _table(auths).items() if isinstance(value, dict)}
    path = f"{host}/{name}"
    while True:
        # An empty entry is docker's note that the login is elsewhere.
        if known.get(path):
            return known[path]
        if "/" not in path:
            return None
        path = path.rpartition("/")[0]


def _plain(key: str) -> str:
    """`https://host/v1/`, as docker writes some keys, is `host`."""
    bare = key.partition("://")[2] or key
    bare = bare.rstrip("/")
    return bare.removesuffix("/v1").removesuffix("/v2")


def _login(entry: dict[str, Any], file: Path, host: str) -> tuple[str, str]:
    if entry.get("identitytoken"):
        raise ConfigurationError(
            f"auth file {file}: the login for {host} is an identity token, expected user name and password"
        )
    try:
        text = base64.b64decode(str(entry.get("auth", "")), validate=True).decode()
    except ValueError as error:
        raise ConfigurationError(
            f"auth file {file}: the login for {host} is not base64 of user:password"
        ) from error
    user, colon, password = text.partition(":")
    if not colon or not user:
        raise ConfigurationError(f"auth file {file}: the login for {host} is not base64 of user:password")
    return user, password.rstrip("\0")
