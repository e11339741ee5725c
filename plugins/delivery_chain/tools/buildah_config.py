"""The configuration files of one buildah run: nothing of the machine's own takes effect but its policy."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery_chain.core.registry import Registry

POLICY = Path("/etc/containers/policy.json")
"""Where an administrator says whose signatures images need."""
_ACCEPT = [{"type": "insecureAcceptAnything"}]


def write_config(folder: Path, seen: Path, registries: Sequence[Registry]) -> None:
    """Write everything but logins into a build's folder, which buildah sees as `seen`."""
    (folder / "containers.conf").write_text("[engine]\n[containers]\n")
    (folder / "storage.conf").write_text('[storage]\ndriver = "overlay"\n')
    (folder / "registries.conf").write_text(_registries(registries))
    policy = folder / "home" / ".config" / "containers" / "policy.json"
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text(json.dumps(_policy(POLICY)))
    # Otherwise signatures are looked for in a folder of the machine's that the build's users can't open.
    places = policy.parent / "registries.d"
    places.mkdir(exist_ok=True)
    (places / "default.yaml").write_text(f"default-docker:\n  lookaside: file://{seen}/home/signatures\n")
    for number, registry in enumerate(registries):
        if registry.ca_certificate:
            (folder / "certificates" / f"{number}.crt").write_text(registry.ca_certificate)


def write_auth(path: Path, registries: Sequence[Registry]) -> None:
    """Write the logins, readable by their owner only.

    Source: containers-auth.json(5).
    """
    auths = {
        registry.host: {
            "auth": base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
        }
        for registry in registries
        if registry.username or registry.password
    }
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"auths": auths}, file)


def _registries(registries: Sequence[Registry]) -> str:
    """Plain http for exactly the registries that are said to speak it; short names are Docker Hub's.

    Source: containers-registries.conf(5).
    """
    lines = ['unqualified-search-registries = ["docker.io"]', 'short-name-mode = "disabled"']
    for registry in registries:
        if registry.plain_http:
            lines += ["[[registry]]", f"location = {json.dumps(registry.host)}", "insecure = true"]
    return "\n".join(lines) + "\n"


def _policy(system: Path) -> dict[str, Any]:
    """Images come from registries only.

    FROM also takes `oci-archive:/path`, `dir:/path`, `docker-daemon:name` and so on, which would read the
    worker's own files and daemons.

    Source: containers-policy.json(5).
    """
    given: dict[str, Any] = {}
    if system.is_file():
        given = json.loads(system.read_text())
    default = given.get("default", _ACCEPT)
    docker = given.get("transports", {}).get("docker", {"": default})
    return {
        "default": [{"type": "reject"}],
        "transports": {"docker": {"": default, **docker}, "containers-storage": {"": _ACCEPT}},
    }
