"""Read logins from the auth files of docker, skopeo and podman. Never writes them.

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
"""Maximum size of an auth file, in bytes: a hundred registries take 20 KiB."""


def auth_files(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the auth files to search, in order; `REGISTRY_AUTH_FILE` replaces all others.

    Args:
        environment: `REGISTRY_AUTH_FILE`, `XDG_RUNTIME_DIR`, `DOCKER_CONFIG` and `HOME` are read.
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
    """Return the user name and password for a repository; two empty strings for anonymous access.

    Args:
        host: `registry.example.com` or `127.0.0.1:5000`.
        name: Repository; an entry for `host/shop` takes precedence over one for `host`.
        files: Auth files, searched in this order.
        must_exist: Whether a missing file is an error, because the user named that file.

    Raises:
        ConfigurationError: A file can't be read, or holds a login of an unsupported kind.
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
                f"{file}: the login for {host} is in a credential helper, which is not supported. "
                "Log in to a file instead: set REGISTRY_AUTH_FILE and run skopeo login or podman login"
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
    """Return the entry with the longest matching key: `host/a/b`, `host/a`, `host`; None if no key matches."""
    known = {_plain(key): value for key, value in _table(auths).items() if isinstance(value, dict)}
    path = f"{host}/{name}"
    while True:
        # Docker writes an empty entry if the login is stored elsewhere.
        if known.get(path):
            return known[path]
        if "/" not in path:
            return None
        path = path.rpartition("/")[0]


def _plain(key: str) -> str:
    """Reduce a key such as docker's `https://host/v1/` to `host`."""
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
