"""Fetch Trivy's databases to a worker, and report the age and origin of each.

Trivy itself accepts an old database silently, and its report does not name the one it was made with.
"""

from __future__ import annotations

import ipaddress
import re
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from delivery_chain.core.gate.findings import Database
from delivery_chain.core.names.reference import Reference
from delivery_chain.core.names.registry import Registry
from delivery_chain.core.section import SECTION
from delivery_chain.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    InvalidReference,
    RegistryError,
    ScanFailed,
    ToolError,
    ToolMissing,
)
from delivery_chain.oci.client import RegistryClient
from delivery_chain.scanners.trivy.command import run_trivy
from delivery_chain.scanners.trivy.database_kinds import VULNERABILITIES
from delivery_chain.scanners.trivy.database_store import DatabaseStore, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from delivery_chain.scanners.trivy.database_kinds import DatabaseKind
    from delivery_chain.scanners.trivy.options import TrivyOptions

SAMPLE_ANNOTATION = "dev.delivery-chain.sample"
"""Annotation of a database artifact's manifest; `true` means that it knows only a handful of vulnerabilities."""
PAUSE = timedelta(minutes=10)
"""Time between two checks for a newer database, while the present one is fresh enough."""
_AHEAD = timedelta(days=1)
"""Time by which a build time may lie in the future and still be trusted."""
_DOWNLOADED = re.compile(r'successfully downloaded\s+repo="([^"\s]{1,300})"')


@dataclass(frozen=True, slots=True)
class LocalDatabase:
    """A database that Trivy can read here."""

    cache_dir: Path
    """Value of Trivy's `--cache-dir`."""
    facts: Database
    stored: Stored


def ensure_database(
    options: TrivyOptions,
    folder: Path,
    *,
    now: datetime,
    deadline: float,
    kind: DatabaseKind = VULNERABILITIES,
    on_line: Callable[[str], None] | None = None,
    logins: Sequence[Registry] = (),
    damaged: LocalDatabase | None = None,
) -> LocalDatabase:
    """Return a database, after fetching it if it is missing or due: once per worker, however many tasks need it.

    Args:
        options: Mirrors and maximum ages.
        folder: The machine's folder, see `cache_folder`.
        now: The time, UTC.
        deadline: Time of `time.monotonic()`, seconds.
        kind: The kind of database.
        on_line: Receives Trivy's log lines, and a line if an old database is kept.
        logins: Credentials for the mirror, if it is one of these registries; otherwise access is anonymous.
        damaged: A database that Trivy could not read: it is fetched again, unless another task has done so. If no
            other can be fetched, it is kept, since the image may be the cause.

    Returns:
        The database. `facts.stale` says that it is older than allowed: the gate decides on that.

    Raises:
        DatabaseUnavailable: None is present, and none can be fetched. Retryable.
        ScanFailed: The download is not a database. Not retryable.
        ConfigurationError: The mirror's name or the folder can't be used.
        ToolMissing: Trivy is not installed.
    """
    mirror = _mirror(options, kind)
    store = DatabaseStore(folder, kind)
    unusable = damaged.stored.folder if damaged is not None else None

    def usable() -> tuple[Stored | None, bool]:
        found = store.current(options.repository(kind))
        if found is None or found.folder == unusable:
            return None, True
        return found, _is_due(found, options.max_age(kind), now)

    stored, due = usable()
    if stored is None or due:
        with store.locked(deadline):
            stored, due = usable()
            if stored is None or due:
                fetch = _Fetch(kind, store, options, mirror, now, deadline, on_line, logins)
                stored = _refreshed(fetch, stored)
    facts = Database(
        kind=kind.name,
        repository=stored.repository,
        updated_at=stored.updated_at,
        sample=stored.sample,
        stale=not -_AHEAD <= now - stored.updated_at <= options.max_age(kind),
        limit=f"[{SECTION}] {kind.limit}",
        remedy=f"let the worker reach a newer one, or name a mirror in [{SECTION}] {kind.setting}",
    )
    return LocalDatabase(store.cache_dir(stored), facts, stored)


@dataclass(frozen=True, slots=True)
class _Fetch:
    """One attempt to get a newer database, under the store's lock."""

    kind: DatabaseKind
    store: DatabaseStore
    options: TrivyOptions
    mirror: Reference | None
    now: datetime
    deadline: float
    on_line: Callable[[str], None] | None
    logins: Sequence[Registry]

    def run(self, stored: Stored | None) -> Stored:
        """Query the mirror, or have Trivy query its own repositories, and adopt a newer database."""
        if self.mirror is None:
            return self._download(None, digest="", sample=False)
        registry = self._registry(self.mirror)
        with RegistryClient(registry) as client:
            ref = self.mirror.digest or self.mirror.tag or str(self.kind.schema)
            manifest = client.get_manifest(self.mirror.name, ref)
        if stored is not None and stored.digest == manifest.digest:
            self.store.checked(stored, self.now)
            return stored
        sample = manifest.annotations.get(SAMPLE_ANNOTATION) == "true"
        return self._download(registry, digest=manifest.digest, sample=sample)

    def _download(self, registry: Registry | None, *, digest: str, sample: bool) -> Stored:
        repositories: list[str] = []

        def watch(line: str) -> None:
            repositories.extend(_DOWNLOADED.findall(line))
            if self.on_line is not None:
                self.on_line(line)

        until = min(self.deadline, time.monotonic() + self.kind.seconds)
        arguments = ["image", self.kind.download, "--no-progress"]
        if self.mirror is not None:
            # By digest, so that the download is exactly the artifact that was inspected.
            arguments += [self.kind.repository, f"{self.mirror.host}/{self.mirror.name}@{digest}"]
        with self.store.incoming() as folder:
            run_trivy(
                arguments,
                cache_dir=folder,
                work_dir=self.store.scratch(folder),
                wheel=self.options.wheel,
                registry=registry,
                deadline=until,
                on_line=watch,
            )
            repository = str(self.mirror or (repositories or [self.kind.defaults])[-1])
            return self.store.adopt(
                folder,
                source=self.options.repository(self.kind),
                repository=repository,
                digest=digest,
                sample=sample,
                now=self.now,
            )

    def _registry(self, mirror: Reference) -> Registry:
        known = next((registry for registry in self.logins if registry.host == mirror.host), None)
        return known or Registry(host=mirror.host, plain_http=is_loopback(mirror.host))


def _refreshed(fetch: _Fetch, stored: Stored | None) -> Stored:
    """Return the fetched database, or fall back to the present one."""
    try:
        return fetch.run(stored)
    except ToolMissing:
        raise
    except (RegistryError, ToolError) as error:
        if stored is None:
            raise _unavailable(fetch, error) from error
        fetch.store.checked(stored, fetch.now)
        if fetch.on_line is not None:
            reason = str(error).strip().splitlines()[0]
            fetch.on_line(
                f"{fetch.kind.name}: could not be refreshed, the one of "
                f"{stored.updated_at:%Y-%m-%d %H:%M} UTC is used: {reason}"
            )
        return stored


def _unavailable(fetch: _Fetch, error: RegistryError | ToolError) -> ScanFailed:
    if isinstance(error, ScanFailed):
        return error
    return DatabaseUnavailable(
        f"{fetch.kind.name}: expected one from {fetch.mirror or fetch.kind.defaults}, found none there "
        "and no readable one on this worker. Let the worker reach it, or name a mirror in "
        f"[{SECTION}] {fetch.kind.setting}. Reason: {error}",
        tool="trivy",
    )


def _is_due(stored: Stored, max_age: timedelta, now: datetime) -> bool:
    """Whether to check for a newer database: this one is too old, or a newer one is due and the last check is old."""
    if now - stored.updated_at > max_age:
        return True
    return now >= stored.next_update and not timedelta(0) <= now - stored.checked_at < PAUSE


def _mirror(options: TrivyOptions, kind: DatabaseKind) -> Reference | None:
    if not options.repository(kind):
        return None
    try:
        return Reference.parse(options.repository(kind))
    except InvalidReference as error:
        raise ConfigurationError(f"[{SECTION}] {kind.setting}: {error}") from error


def is_loopback(host: str) -> bool:
    """Whether a registry is on this machine, where plain http is used."""
    name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) else host
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name == "localhost"
