"""Decide which images a build may pull, and with which login. Pure: by an image's name, before anything is sent."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, replace
from ipaddress import ip_address

from delivery_chain.core.names.reference import DIGEST, TAG, check_name
from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import BuildFailed, InvalidReference

DOCKER_HUB = "docker.io"
_HUB_HOSTS = {"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
_TRANSPORTS = {
    "atomic", "containers-storage", "dir", "docker", "docker-archive", "docker-daemon", "oci", "oci-archive",
    "ostree", "sif", "tarball",
}  # fmt: skip
"""Prefixes before a colon that buildah treats as a transport. Source: containers-transports(5)."""
_HOST = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class ImageName:
    """Fully qualified image name, as a builder resolves it."""

    host: str
    """`docker.io` by default."""
    repository: str
    """With its namespace: `library/debian`."""
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def official(self) -> bool:
        """Whether it is one of Docker's official images, which are public."""
        return self.host == DOCKER_HUB and self.repository.startswith("library/")

    @property
    def exact(self) -> ImageName:
        """The image as builders pull it: without its tag if it has a digest."""
        return replace(self, tag="") if self.digest else self

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Parse a name as in FROM: `debian`, `shop/api:1`, `registry.example.com/shop/api@sha256:…`.

        Raises:
            InvalidReference: It is not an image name. Files and daemons of the worker (`oci:/path`) are not.
        """
        if text.partition(":")[0] in _TRANSPORTS and ":" in text:
            raise InvalidReference(
                f"image {text[:300]!r}: expected an image of a registry, found a transport"
            )
        rest, at, digest = text.partition("@")
        first, slash, path = rest.partition("/")
        has_host = slash and (any(sign in first for sign in ".:") or first == "localhost")
        host, path = (first, path) if has_host else (DOCKER_HUB, rest)
        path, colon, tag = path.partition(":")
        if not _HOST.fullmatch(host):
            raise InvalidReference(f"image {text[:300]!r}: expected host or host:port before the first slash")
        host = DOCKER_HUB if host.lower() in _HUB_HOSTS else host.lower()
        if host == DOCKER_HUB and "/" not in path:
            path = f"library/{path}"
        if (colon and not TAG.fullmatch(tag)) or (at and not DIGEST.fullmatch(digest)):
            raise InvalidReference(f"image {text[:300]!r}: expected a tag after ':' and a digest after '@'")
        return cls(host, check_name(path), tag or ("" if digest else "latest"), digest)


@dataclass(frozen=True, slots=True)
class ReadRule:
    """Rule that allows a build to read from one registry."""

    rule: str
    """Name of the rule in messages: `build.from[0]`."""
    host: str
    """Host as images name it."""
    namespaces: tuple[str, ...]
    """Namespaces that may be read; empty for all."""
    registry: Registry
    """Registry to pull from, and its login."""
    named: bool = True
    """Whether the chain names the registry, which allows it to be on the worker itself."""

    def covers(self, image: ImageName) -> bool:
        """Whether the rule allows an image to be read."""
        names = self.namespaces or ("",)
        inside = any(not name or f"{image.repository}/".startswith(f"{name}/") for name in names)
        return image.host == canonical_host(self.host) and inside


@dataclass(frozen=True, slots=True)
class BaseImagePolicy:
    """Rules for the images that a build may read."""

    rules: tuple[ReadRule, ...] = ()
    strangers: bool = True
    """Whether images of registries without a rule are pulled anonymously."""

    def rule_for(self, image: ImageName, written: str) -> ReadRule:
        """Return the rule that allows an image.

        Args:
            image: The requested image.
            written: Place for messages: `Dockerfile:3: FROM debian`.

        Raises:
            BuildFailed: The policy forbids it. Nothing was sent. Not retryable.
        """
        for rule in self.rules:
            if rule.covers(image):
                return rule
        known = any(canonical_host(rule.host) == image.host for rule in self.rules)
        if not self.strangers or (known and not image.official):
            raise BuildFailed(
                f"{written}: {image} may not be read: {self._allowed(image)}. Add its namespace to `build.from` "
                "of the chain's spec, or take another image",
                tool="buildah",
            )
        if is_own_machine(image.host):
            raise BuildFailed(
                f"{written}: {image} may not be read: {image.host} is the worker itself. Name its connection "
                "in `build.from` of the chain's spec, or take another image",
                tool="buildah",
            )
        return ReadRule("no login", image.host, (), Registry(image.host), named=False)

    def _allowed(self, image: ImageName) -> str:
        lists = [
            f"{rule.rule} allows {', '.join(rule.namespaces)} of {rule.host}"
            for rule in self.rules
            if canonical_host(rule.host) == image.host
        ]
        return "; ".join(lists) or f"no entry of `build.from` is for {image.host}"


def canonical_host(host: str) -> str:
    """Normalize a registry's host to the one in image names: Docker Hub has several."""
    return DOCKER_HUB if host.lower() in _HUB_HOSTS else host.lower()


def is_own_machine(host: str) -> bool:
    """Whether a host denotes this machine by its name or address, however spelled."""
    name = host.removeprefix("[").partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    name = name.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        # Parse addresses like the C library: 127.1, 0x7f000001, 2130706433.
        address = ip_address(name if ":" in name else socket.inet_aton(name))
    except (OSError, ValueError):
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified)
