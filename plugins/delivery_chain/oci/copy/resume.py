"""What a copy remembers for its next attempt: the uploads that were open when it ended.

Finished blobs and manifests need no memory: the target is asked for them. An open upload is asked too, for how
much of it the registry holds, so the state is only where to ask.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

WORTH_KEEPING = 8 * 1024 * 1024
"""Bytes: smaller blobs are sent again sooner than their state is saved."""


class Resume(Protocol):
    """Where a copy's state is kept between attempts; Airflow's task state can hold it."""

    def load(self) -> Mapping[str, str]:
        """What `save` was given last; empty where nothing was. Addresses in it can hold a registry's signature."""

    def save(self, state: Mapping[str, str]) -> None:
        """Keep the state in place of the one before. Called from one thread at a time, a few times a blob.

        Args:
            state: JSON-able: `{"http://host/name@sha256:…": "upload address"}`; empty when nothing is open.
        """


class Forget:
    """For copies that have no next attempt."""

    def load(self) -> Mapping[str, str]:
        """Nothing."""
        return {}

    def save(self, state: Mapping[str, str]) -> None:
        """Keep nothing."""


class OpenUploads:
    """The uploads under way, mirrored into a `Resume`. Safe to use from threads."""

    def __init__(self, resume: Resume) -> None:
        self._resume = resume
        self.kept = not isinstance(resume, Forget)
        """Whether there is a next attempt that an open upload is of use to."""
        self._lock = threading.Lock()
        self._open: dict[str, str] | None = None

    def get(self, key: str) -> str | None:
        """The address of an upload that was open."""
        with self._lock:
            return self._loaded().get(key)

    def put(self, key: str, location: str) -> None:
        """An upload was opened."""
        with self._lock:
            self._loaded()[key] = location
            self._resume.save(dict(self._loaded()))

    def drop(self, key: str) -> None:
        """An upload has ended, well or not."""
        with self._lock:
            if self._loaded().pop(key, None) is not None:
                self._resume.save(dict(self._loaded()))

    def _loaded(self) -> dict[str, str]:
        if self._open is None:
            # From outside: what is no text is none of ours.
            kept = self._resume.load().items()
            self._open = {str(key): value for key, value in kept if isinstance(value, str)}
        return self._open
