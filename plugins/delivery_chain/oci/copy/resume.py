"""Resume state that a copy leaves to its next attempt: the uploads that were open when it ended.

Finished blobs and manifests need no state, since the target can be asked for them. The registry also knows how much
of an open upload it has, so only the upload's address is saved.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

WORTH_KEEPING = 8 * 1024 * 1024
"""Minimum size in bytes of a blob whose upload is saved: sending a smaller one again is faster."""


class Resume(Protocol):
    """Storage for a copy's state between attempts, such as Airflow's task state."""

    def load(self) -> Mapping[str, str]:
        """Return the last saved state; empty if none. Addresses in it can hold a registry's signature."""

    def save(self, state: Mapping[str, str]) -> None:
        """Replace the saved state. Called from one thread at a time, a few times per blob.

        Args:
            state: JSON types: `{"http://host/name@sha256:…": "upload address"}`; empty if nothing is open.
        """


class Forget:
    """No storage, for copies without a next attempt."""

    def load(self) -> Mapping[str, str]:
        """Nothing."""
        return {}

    def save(self, state: Mapping[str, str]) -> None:
        """Discard the state."""


class OpenUploads:
    """Addresses of open uploads, each change saved to a `Resume`. Thread-safe."""

    def __init__(self, resume: Resume) -> None:
        self._resume = resume
        self.kept = not isinstance(resume, Forget)
        """Whether a next attempt can resume open uploads."""
        self._lock = threading.Lock()
        self._open: dict[str, str] | None = None

    def get(self, key: str) -> str | None:
        """Return the address of an open upload, or None if none is open."""
        with self._lock:
            return self._loaded().get(key)

    def put(self, key: str, location: str) -> None:
        """Add an opened upload."""
        with self._lock:
            self._loaded()[key] = location
            self._resume.save(dict(self._loaded()))

    def drop(self, key: str) -> None:
        """Remove a finished or failed upload."""
        with self._lock:
            if self._loaded().pop(key, None) is not None:
                self._resume.save(dict(self._loaded()))

    def _loaded(self) -> dict[str, str]:
        if self._open is None:
            # Untrusted input: ignore anything that is not a string.
            kept = self._resume.load().items()
            self._open = {str(key): value for key, value in kept if isinstance(value, str)}
        return self._open
