"""Polls all tags of all registries over plain HTTP until stopped, and records every change of a tag."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import requests
from benchmarks.kill_loop.facts import Image, Sight
from benchmarks.kill_loop.judge import is_users

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json"
)
COMMIT = "org.opencontainers.image.revision"
PUSHED_AT = "dev.delivery-chain.pushed-at"
PAUSE_SECONDS = 0.2
WHOLE_EVERY = 10
"""Every round polls the moving tags and new tags; every tenth round polls all tags."""
TIMEOUT = 5.0


@dataclass(slots=True)
class Watcher:
    """One thread per registry."""

    hosts: Mapping[str, str]
    """Maps regions to hosts such as `127.0.0.1:5000`."""
    moving: Mapping[str, str]
    """Maps repositories to their moving tags."""
    sights: list[Sight] = field(default_factory=list)
    images: dict[str, Image] = field(default_factory=dict)
    looks: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start polling."""
        for region in self.hosts:
            thread = threading.Thread(target=self._watch, args=(region,), name=f"watch {region}")
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Stop polling."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _watch(self, region: str) -> None:
        known: dict[tuple[str, str], str] = {}
        number = 0
        with Registry(self.hosts[region]) as registry:
            while not self._stop.wait(PAUSE_SECONDS):
                number += 1
                try:
                    self._look(region, registry, known, whole=number % WHOLE_EVERY == 0)
                except requests.RequestException:
                    # The registry was killed: try again in the next round.
                    continue
                self.looks += 1

    def _look(
        self, region: str, registry: Registry, known: dict[tuple[str, str], str], *, whole: bool
    ) -> None:
        for name, moving in self.moving.items():
            tags = {tag for tag in registry.tags(name) if is_users(tag)}
            gone = {tag for owner, tag in known if owner == name} - tags
            wanted = tags if whole else {tag for tag in tags if tag == moving or (name, tag) not in known}
            for tag in sorted(wanted | gone):
                digest = registry.digest(name, tag)
                if digest == known.get((name, tag), ""):
                    continue
                known[name, tag] = digest
                self.sights.append(Sight(at=time.time(), region=region, name=name, tag=tag, digest=digest))
                if digest and digest not in self.images and (image := registry.image(name, digest)):
                    self.images[digest] = image


class Registry:
    """Client for one registry, independent of the project's own. A context manager."""

    def __init__(self, host: str) -> None:
        self.base = f"http://{host}/v2"
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Accept"] = MANIFESTS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def tags(self, name: str) -> list[str]:
        """Return all tags of a repository."""
        answer = self._get(f"{name}/tags/list?n=10000")
        return list((answer.json().get("tags") if answer else None) or [])

    def digest(self, name: str, ref: str) -> str:
        """Return the digest of a tag or digest; empty if it does not exist."""
        answer = self.session.head(f"{self.base}/{name}/manifests/{ref}", timeout=TIMEOUT)
        if answer.status_code == requests.codes.not_found:
            return ""
        answer.raise_for_status()
        return answer.headers["Docker-Content-Digest"]

    def manifest(self, name: str, ref: str) -> dict[str, Any]:
        """Return a manifest; empty if it does not exist."""
        answer = self._get(f"{name}/manifests/{ref}")
        return dict(answer.json()) if answer else {}

    def image(self, name: str, digest: str) -> Image | None:
        """Return an image's origin, according to its manifest; None if the manifest does not name one."""
        notes = self.manifest(name, digest).get("annotations") or {}
        if COMMIT not in notes:
            return None
        return Image(commit=notes[COMMIT], pushed_at=notes.get(PUSHED_AT, "1970-01-01T00:00:00+00:00"))

    def _get(self, path: str) -> requests.Response | None:
        answer = self.session.get(f"{self.base}/{path}", timeout=TIMEOUT)
        if answer.status_code == requests.codes.not_found:
            return None
        answer.raise_for_status()
        return answer


def ever(data: Path, names: Iterable[str]) -> dict[tuple[str, str], frozenset[str]]:
    """Return every digest that each user's tag ever had, according to docker-registry's storage.

    Args:
        data: The registry's root folder.
        names: Repositories.

    Source: distribution's `registry/storage/paths.go`, "Manifests": `tags/<tag>/index/<algorithm>/<hex>/link`.
    """
    found = {}
    for name in names:
        tags = data / "docker/registry/v2/repositories" / name / "_manifests" / "tags"
        for tag in tags.iterdir() if tags.is_dir() else ():
            if is_users(tag.name):
                links = (tag / "index").glob("*/*/link")
                found[name, tag.name] = frozenset(f"{link.parts[-3]}:{link.parts[-2]}" for link in links)
    return found


def dumped(value: Any) -> str:
    """Format a value as JSON for people."""
    return json.dumps(value, indent=2, sort_keys=True, default=str)
