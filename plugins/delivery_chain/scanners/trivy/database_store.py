"""Store Trivy's databases on a worker: a folder for each, and a pointer per kind to the one in use.

A refresh never touches a database that a scan is reading: it adds a new folder and moves the pointer.

    <cache folder>/lock                                     held while the pointer may change
    <cache folder>/current.json                             the pointer, and where the database came from
    <cache folder>/databases/<id>/db/{trivy.db,metadata.json}
    <cache folder>/java/{lock,current.json,databases}       the same for the Java database
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import sqlite3
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delivery_chain.errors import ConfigurationError, DatabaseUnavailable, ScanFailed
from delivery_chain.scanners.trivy.database_kinds import JAVA, VULNERABILITIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.scanners.trivy.database_kinds import DatabaseKind

LOCK_INTERVAL = 0.1
"""Seconds between two attempts to take a lock that another task holds."""
_MAX_JSON = 64 * 1024
_INCOMING = "incoming-"
_SCRATCH = "scratch"
_FOLDER = re.compile(r"[a-z0-9_]{8,64}")


@dataclass(frozen=True, slots=True)
class Stored:
    """One database on this worker."""

    folder: str
    """Name below `databases`."""
    source: str
    """Repository that the settings named when it was fetched; empty for Trivy's default."""
    repository: str
    """Its origin, such as `ghcr.io/aquasecurity/trivy-db:2`."""
    digest: str
    """Manifest digest of the artifact; empty if Trivy chose the repository."""
    sample: bool
    size: int
    """Size of the database's file in bytes: if it differs later, the file is damaged."""
    updated_at: datetime
    next_update: datetime
    checked_at: datetime
    """Time of the last check for a newer database, UTC."""


class DatabaseStore:
    """The databases of one kind below a cache folder, shared by all tasks of a worker."""

    def __init__(self, folder: Path, kind: DatabaseKind = VULNERABILITIES) -> None:
        self._folder = folder.absolute() / kind.home
        self._kind = kind

    def cache_dir(self, stored: Stored) -> Path:
        """Return Trivy's `--cache-dir` for that database."""
        return self._folder / "databases" / stored.folder

    def current(self, source: str) -> Stored | None:
        """Return the database in use, or None if it is missing, from another source, or damaged."""
        try:
            stored = _stored(_read_json(self._pointer))
            file = self._file(self.cache_dir(stored))
            size = file.stat().st_size
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return stored if stored.source == source and size == stored.size and self._sound(file) else None

    @contextlib.contextmanager
    def locked(self, deadline: float) -> Iterator[None]:
        """Keep other tasks of this worker from refreshing during the block; first remove leftovers of killed ones.

        Raises:
            DatabaseUnavailable: Another task held the lock until the deadline. Retryable.
            ConfigurationError: The folder can't be written.
        """
        try:
            (self._folder / "databases").mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"[delivery_chain] trivy_cache_dir {self._folder}: expected a folder that the worker can "
                f"write, found {error.strerror}; correct the setting or the folder's permissions"
            ) from error
        try:
            self._await(descriptor, deadline)
            # Left by a task that held the lock and was killed during a download.
            for left_over in (self._folder / "databases").glob(f"{_INCOMING}*"):
                shutil.rmtree(left_over, ignore_errors=True)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def incoming(self) -> Iterator[Path]:
        """Yield a folder for Trivy to download into; removed unless `adopt` took it. Needs the lock."""
        folder = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self._folder / "databases"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def scratch(incoming: Path) -> Path:
        """Return the folder of Trivy's temporary files during the download; `adopt` removes it."""
        folder = incoming / _SCRATCH
        folder.mkdir()
        return folder

    def adopt(
        self, incoming: Path, *, source: str, repository: str, digest: str, sample: bool, now: datetime
    ) -> Stored:
        """Make a downloaded database the one in use. Needs the lock.

        Raises:
            ScanFailed: The download is not a database. Not retryable.
        """
        file = self._file(incoming)
        updated_at, next_update = read_metadata(file.with_name("metadata.json"), self._kind)
        size = file.stat().st_size
        if not self._sound(file):
            raise ScanFailed(
                f"{self._kind.name}: expected a SQLite database with the table indices in {file.name}, found something "
                "else; check the artifact in the database repository",
                tool="trivy",
            )
        shutil.rmtree(incoming / _SCRATCH, ignore_errors=True)
        before = self._pointed()
        stored = Stored(
            folder=incoming.name.removeprefix(_INCOMING),
            source=source,
            repository=repository,
            digest=digest,
            sample=sample,
            size=size,
            updated_at=updated_at,
            next_update=next_update,
            checked_at=now,
        )
        incoming.rename(self.cache_dir(stored))
        self._point_to(stored)
        # A scan may have just read the pointer, so the previous database stays until the next refresh.
        self._prune({stored.folder, before})
        return stored

    def checked(self, stored: Stored, now: datetime) -> None:
        """Record the time of a check for a newer database. Needs the lock."""
        self._point_to(replace(stored, checked_at=now))

    def _sound(self, file: Path) -> bool:
        """Whether a Java database is readable: Trivy treats an unreadable one as empty. True for other databases."""
        if self._kind is not JAVA:
            return True
        try:
            with contextlib.closing(
                sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True)
            ) as database:
                database.execute("SELECT version FROM indices LIMIT 1").fetchall()
        except sqlite3.Error:
            return False
        return True

    def _file(self, cache_dir: Path) -> Path:
        return cache_dir / self._kind.folder / self._kind.file

    @property
    def _pointer(self) -> Path:
        return self._folder / "current.json"

    def _pointed(self) -> str:
        try:
            return _stored(_read_json(self._pointer)).folder
        except (OSError, ValueError, TypeError, KeyError):
            return ""

    def _point_to(self, stored: Stored) -> None:
        partial = self._pointer.with_name("current.json.partial")
        partial.write_text(json.dumps(asdict(stored), default=_iso), encoding="utf-8")
        partial.replace(self._pointer)

    def _prune(self, kept: set[str]) -> None:
        for folder in (self._folder / "databases").iterdir():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _await(self, descriptor: int, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise DatabaseUnavailable(
                        f"{self._kind.name} in {self._folder}: another task of this worker is still "
                        "fetching it; try again later",
                        tool="trivy",
                    ) from None
                time.sleep(LOCK_INTERVAL)
            else:
                return


def read_metadata(path: Path, kind: DatabaseKind) -> tuple[datetime, datetime]:
    """Return `UpdatedAt` and `NextUpdate` of a database's `metadata.json`.

    Raises:
        ScanFailed: It is missing, or has another schema. Not retryable.
    """
    try:
        document = _read_json(path)
        version = document["Version"]
        times = _utc(document["UpdatedAt"]), _utc(document["NextUpdate"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ScanFailed(
            f"{kind.name}: expected metadata.json with Version, UpdatedAt and NextUpdate, found "
            f"{type(error).__name__}; check the artifact in the database repository",
            tool="trivy",
        ) from error
    if version != kind.schema:
        raise ScanFailed(
            f"{kind.name}: expected schema {kind.schema}, found {str(version)[:50]!r}; "
            "use a matching Trivy version",
            tool="trivy",
        )
    return times


def _stored(document: dict[str, Any]) -> Stored:
    times = {name: _utc(document[name]) for name in ("updated_at", "next_update", "checked_at")}
    stored = Stored(**{**document, **times})
    if not _FOLDER.fullmatch(stored.folder):
        raise ValueError("no folder of ours")
    return stored


def _read_json(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        content = file.read(_MAX_JSON)
    try:
        document = json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(document, dict):
        raise TypeError("not an object")
    return document


def _utc(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError("a time without its zone")
    try:
        return when.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time out of range") from error


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"not a time: {value!r}")
