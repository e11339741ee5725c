"""Writes buildah's configuration files for one build. They replace the machine's own, except for its policy."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delivery_chain.core.dockerfile.base_image_policy import DOCKER_HUB, canonical_host

if TYPE_CHECKING:
    from delivery_chain.core.names.registry import Registry

POLICY = Path("/etc/containers/policy.json")
"""The administrator's policy on image signatures."""
_ACCEPT = [{"type": "insecureAcceptAnything"}]
_OPEN, _ENTER = 0o644, 0o755
"""Modes independent of the worker's umask, because the build's users must be able to read the files."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One build's settings. buildah and RUN steps can read but not write them; they contain no login."""

    folder: Path
    """The folder as this process sees it."""
    seen: Path
    """The folder as buildah sees it."""

    def write(self, dockerfile: bytes) -> None:
        """Write the settings that do not depend on a registry, and the Dockerfile."""
        self._folder("")
        self._file("Dockerfile", dockerfile)
        self._file("containers.conf", b"[engine]\n[containers]\n")
        self._file("storage.conf", b'[storage]\ndriver = "overlay"\n')
        self._file("anonymous.json", b'{"auths": {}}')
        self._file("registries.conf", _registries(None, "").encode())
        home = "home/.config/containers"
        for name in ("home", "home/.config", home, f"{home}/registries.d", "certificates"):
            self._folder(name)
        self._file(f"{home}/policy.json", json.dumps(_policy(POLICY)).encode())
        # Otherwise signatures are looked up in a system folder that the build's users can't open.
        lookaside = f"default-docker:\n  lookaside: file://{self.seen}/home/signatures\n"
        self._file(f"{home}/registries.d/default.yaml", lookaside.encode())

    def write_registry(self, registry: Registry, host: str) -> None:
        """Write the access settings of one registry, for the next command.

        Args:
            registry: Registry to fetch from or push to.
            host: Its name in image references.
        """
        self._file("registries.conf", _registries(registry, host).encode())
        certificate = self.folder / "certificates" / "0.crt"
        certificate.unlink(missing_ok=True)
        if registry.ca_certificate:
            self._file("certificates/0.crt", registry.ca_certificate.encode())

    def _folder(self, name: str) -> None:
        path = self.folder / name
        path.mkdir()
        path.chmod(_ENTER)

    def _file(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.write_bytes(content)
        path.chmod(_OPEN)


def logins(registry: Registry) -> str:
    """Encode the login for one registry in buildah's format.

    Source: containers-auth.json(5).
    """
    if not (registry.username or registry.password):
        return '{"auths": {}}'
    login = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
    return json.dumps({"auths": {canonical_host(registry.host): {"auth": login}}})


def _registries(registry: Registry | None, host: str) -> str:
    """Allow plain HTTP only for a registry that is configured for it; let short names refer to Docker Hub.

    Source: containers-registries.conf(5).
    """
    lines = [f'unqualified-search-registries = ["{DOCKER_HUB}"]', 'short-name-mode = "disabled"']
    if registry is not None:
        location = canonical_host(registry.host)
        lines += ["[[registry]]", f"prefix = {json.dumps(host)}", f"location = {json.dumps(location)}"]
        lines += ["insecure = true"] if registry.plain_http else []
    return "\n".join(lines) + "\n"


def _policy(system: Path) -> dict[str, Any]:
    """Allow images from registries only.

    FROM also accepts `oci-archive:/path`, `dir:/path`, `docker-daemon:name` and so on, which would read the
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
