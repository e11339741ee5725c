"""A registry in this process whose contents are a value that tests compare, and which fails on request.

It behaves like docker-registry 2.8, which tests/integration/oci/test_registry_contract.py verifies request by request;
the options of `MemoryRegistry` are the ways in which other registries differ.
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
"""Number of times for a turn that never ends."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Fault of a request; without arguments, none."""

    status: int = 0
    """Status to respond with at once, without carrying out the request; 0 carries it out."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of the response, in addition to or instead of the usual ones."""
    cut: int | None = None
    """Number of bytes of an upload, or of the response's body, after which the connection is closed."""
    change: Callable[[bytes], bytes] | None = None
    """Turns the response's body into another one."""
    closed: Literal["", "before", "after"] = ""
    """Close the connection without a response, before or after the request is carried out."""


@dataclass(eq=False, slots=True)
class Turn:
    """Something that happens when a matching request arrives."""

    method: str
    """Regular expression for the whole method."""
    path: str
    """Regular expression for the whole path with its query."""
    act: Callable[[], Fault | int | None]
    after: bool
    times: int

    def fits(self, method: str, path: str) -> bool:
        """Whether the turn matches a request."""
        return bool(self.times and re.fullmatch(self.method, method) and re.fullmatch(self.path, path))


@dataclass(slots=True)
class Upload:
    """An open upload."""

    name: str
    content: bytearray = field(default_factory=bytearray)


@dataclass(slots=True, repr=False)
class MemoryRegistry:
    """The running registry."""

    registry: Registry
    tags: dict[str, str] = field(default_factory=dict)
    """Maps `name:tag` to digests."""
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Maps `name@digest` to media type and bytes."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    """Maps `name@digest` to bytes."""
    uploads: dict[str, Upload] = field(default_factory=dict)
    """Open uploads by their number."""
    turns: list[Turn] = field(default_factory=list)
    """Pending turns, in the order in which they were requested."""

    deletes: bool = True
    """Whether deletes are enabled; docker-registry requires a setting for that."""
    deletes_tags: bool = False
    """Whether a tag can be deleted by name; docker-registry 2 deletes by digest only."""
    resumes: bool = False
    """Whether a broken upload can be resumed; docker-registry resumes only between chunks."""
    referrers: bool = False
    """Whether it has the referrers API; docker-registry 2 does not."""
    checks: bool = True
    """Whether it rejects bytes that don't match their digest; every registry should."""

    requests: list[str] = field(default_factory=list)
    """`METHOD path` of each request, in order."""
    received: int = 0
    """Number of blob bytes received."""
    given: int = 0
    """Number of blob bytes sent."""
    opened: int = 0
    """Number of uploads ever opened."""
    at_once: int = 0
    """Number of requests in progress."""
    most_at_once: int = 0
    known: set[str] = field(default_factory=set)
    """Repositories that ever held a blob: the catalog keeps listing them."""
    tagged: set[str] = field(default_factory=set)
    """Repositories that ever had a tag: their list of tags may be empty, but exists."""
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
        """When a request matches, call `act` before (or after) it is carried out.

        Before a request, turns are taken in order until one returns a `Fault`, or a status, which counts as one.
        """
        turn = Turn(method, path, act, after, times)
        self.turns.append(turn)
        return turn

    def fail(self, method: str, path: str, status: int = 0, *, times: int = LASTING, **fault: Any) -> None:
        """Let requests fail: respond with `status` at once, or as `Fault` describes."""
        self.on(method, path, lambda: Fault(status, **fault), times=times)

    @contextmanager
    def dying(self, after: int, *, lost_answer: bool = False) -> Iterator[None]:
        """Break every connection after some requests, as if the worker had been killed, until the block ends.

        Args:
            after: Number of requests that still get responses.
            lost_answer: Whether the next request is still carried out.
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
        """Run the turns that match this request, without the lock: a turn may send requests of its own."""
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
        """Open an upload; return its number."""
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
        """Tags of one repository, without staging and fallback tags."""
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
