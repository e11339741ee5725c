"""An in-memory registry: its contents are a value that tests can compare, and it fails on request.

It answers as docker-registry 2.8 does, which tests/integration/oci/test_registry_contract.py compares request by
request; `MemoryRegistry`'s options are the ways in which other registries differ from that one.
"""

from __future__ import annotations

import itertools
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from delivery_chain.core.names.registry import Registry
from support.http_server import serving
from support.oci_memory_server import handler_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LASTING = 1_000_000
"""Times that a turn happens where it is not to end."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in the handling of a request; by default none."""

    status: int = 0
    """Answered at once, and the request is not carried out; 0 carries it out."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the answer, besides or instead of the usual ones."""
    cut: int | None = None
    """Bytes of an upload, or else of the answer's body, after which the connection is closed."""
    change: Callable[[bytes], bytes] | None = None
    """Makes another body out of the answer's."""
    closed: Literal["", "before", "after"] = ""
    """Close the connection without an answer, before or after the request is carried out."""


@dataclass(eq=False, slots=True)
class Turn:
    """An action that is triggered by a request."""

    method: str
    """Regular expression for the whole method."""
    path: str
    """Regular expression for the whole path with its query."""
    act: Callable[[], Fault | int | None]
    after: bool
    times: int

    def fits(self, method: str, path: str) -> bool:
        """Whether the action applies to this request."""
        return bool(self.times and re.fullmatch(self.method, method) and re.fullmatch(self.path, path))


@dataclass(slots=True)
class Upload:
    """An upload that is open."""

    name: str
    content: bytearray = field(default_factory=bytearray)


@dataclass(slots=True, repr=False)
class MemoryRegistry:
    """The running registry."""

    registry: Registry
    tags: dict[str, str] = field(default_factory=dict)
    """`name:tag` to digest."""
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """`name@digest` to media type and bytes."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    """`name@digest` to bytes."""
    uploads: dict[str, Upload] = field(default_factory=dict)
    """Open uploads by their number."""
    turns: list[Turn] = field(default_factory=list)
    """What is to happen, in the order in which it was asked for."""

    deletes: bool = True
    """Whether anything can be deleted; docker-registry needs a setting for it."""
    deletes_tags: bool = False
    """Whether a tag can be deleted by its name; docker-registry 2 deletes by digest alone."""
    resumes: bool = False
    """Whether an upload that broke off can be resumed; docker-registry resumes between chunks alone."""
    referrers: bool = False
    """Whether it has the referrers API; docker-registry 2 has none."""
    checks: bool = True
    """Whether it refuses bytes that are not their digest; every registry should."""

    requests: list[str] = field(default_factory=list)
    """`METHOD path` of each, in order."""
    received: int = 0
    """Bytes of blobs that were sent here."""
    given: int = 0
    """Bytes of blobs that were fetched here."""
    opened: int = 0
    """Uploads ever opened."""
    at_once: int = 0
    """Requests that are being answered."""
    most_at_once: int = 0
    known: set[str] = field(default_factory=set)
    """Repositories that ever held a blob: the catalog goes on listing them."""
    tagged: set[str] = field(default_factory=set)
    """Repositories that ever had a tag: an empty list of tags is none that is missing."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def on(
        self,
        method: str,
        path: str,
        act: Callable[[], Fault | int | None],
        *,
        after: bool = False,
        times: int = 1,
    ) -> Turn:
        """When a request fits, call `act` before (or after) it is carried out; the only way to make it fail.

        Before, turns are taken in order until one gives a `Fault`, or a status, which is a fault too.
        """
        turn = Turn(method, path, act, after, times)
        self.turns.append(turn)
        return turn

    def fail(self, method: str, path: str, status: int = 0, *, times: int = LASTING, **fault: Any) -> None:
        """Let requests go wrong: `status` is answered without more ado; for the rest see `Fault`."""
        self.on(method, path, lambda: Fault(status, **fault), times=times)

    @contextmanager
    def dying(self, after: int, *, lost_answer: bool = False) -> Iterator[None]:
        """Break every connection after so many requests, as if the worker had been killed, until the block ends.

        Args:
            after: Requests that are still answered.
            lost_answer: Whether the next one is carried out nevertheless.
        """
        left = itertools.count(after, -1)

        def act() -> Fault | None:
            now = next(left)
            if now > 0:
                return None
            return Fault(closed="after" if lost_answer and now == 0 else "before")

        turn = self.on(".*", ".*", act, times=LASTING)
        try:
            yield
        finally:
            self.turns.remove(turn)

    def take_turns(self, method: str, path: str, *, after: bool = False) -> Fault:
        """Let happen what waits for this request. Without the lock: an act may send requests of its own."""
        for turn in list(self.turns):
            with self.lock:
                if turn.after is not after or not turn.fits(method, path):
                    continue
                turn.times -= 1
                if not turn.times:
                    self.turns.remove(turn)
            found = turn.act()
            if found is not None and not after:
                return Fault(found) if isinstance(found, int) else found
        return Fault()

    def open_upload(self, name: str) -> str:
        """Begin an upload; gives its number."""
        self.opened += 1
        self.uploads[str(self.opened)] = Upload(name)
        return str(self.opened)

    def writes(self) -> list[str]:
        """Return the requests that change something."""
        return [one for one in self.requests if not one.startswith(("GET", "HEAD"))]

    def count(self, method: str) -> int:
        """Return the requests of one method."""
        return sum(one.startswith(f"{method} ") for one in self.requests)

    def user_tags(self, name: str) -> dict[str, str]:
        """Tags of one repository, apart from those the chain and the referrers keep for themselves."""
        own = re.compile(r"_staging-.*|sha256-.*")
        return {tag: digest for tag, digest in self.tags_of(name).items() if not own.fullmatch(tag)}

    def tags_of(self, name: str) -> dict[str, str]:
        """All tags of one repository."""
        return {
            key.rpartition(":")[2]: digest for key, digest in self.tags.items() if key.startswith(f"{name}:")
        }


@contextmanager
def memory_registry(*, username: str = "", password: str = "", **options: bool) -> Iterator[MemoryRegistry]:
    """Run a registry on a free port until the block ends.

    Args:
        username: What clients log in with; it does not ask for a login unless a turn makes it.
        password: With it.
        options: `deletes`, `deletes_tags`, `resumes`, `referrers`, `checks`; see `MemoryRegistry`.
    """
    held = MemoryRegistry(Registry(host=""), **options)
    with serving(handler_for(held)) as port:
        held.registry = Registry(
            host=f"127.0.0.1:{port}", username=username, password=password, plain_http=True
        )
        yield held
