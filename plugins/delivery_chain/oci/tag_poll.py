"""Poll a registry once: resolve the tags of some repositories to digests."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from delivery_chain.core.events.image_tags import counted, tag_pattern
from delivery_chain.core.placeholder import deleted_tag_digest
from delivery_chain.errors import (
    ConfigurationError,
    NotFound,
    RegistryBusy,
    RegistryError,
    RegistryFailure,
    RegistryUnreachable,
    Unauthorized,
)
from delivery_chain.oci.copy.limits import SHARED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from delivery_chain.core.names.pattern import Pattern
    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.oci.copy.limits import Limits

Result = TypeVar("Result")

MAX_TAGS = 5000
"""Maximum number of tags of one watch: each costs a request per poll; this many take 1 MB in Airflow's database."""
MAX_REPOSITORIES = 1000
"""Maximum number of repositories of one watch: each costs a request per poll."""
POLL_SECONDS = 300.0
"""Time limit of one poll in seconds: `MAX_TAGS` requests of 60 ms each."""
LONGEST_PUT_OFF = 1.0
"""Longest `Retry-After`, in seconds, that a poll waits out; for longer ones, a later poll tries again."""
BUSY_PAUSE = 10.0
"""Seconds to pause requests to a registry that throttled one without a `Retry-After`."""


def poll_tags(
    client: RegistryClient,
    repositories: Sequence[str] = (),
    *,
    namespaces: Sequence[str] = (),
    exclude: Collection[str] = (),
    tags: str | None = None,
    seconds: float = POLL_SECONDS,
    limits: Limits = SHARED,
) -> dict[str, str]:
    """Map `name:tag` to its digest, with one HEAD request per tag.

    Staging tags, referrers' fallback tags and tags being deleted are skipped. A missing repository counts as one
    without tags.

    Args:
        client: The registry.
        repositories: Full names: `shop/api`.
        namespaces: Prefixes whose repositories, as listed in the registry's catalog, are polled as well.
        exclude: Full names of repositories to leave out.
        tags: A tag's name, or a regular expression for whole names; None for every tag.
        seconds: Time limit of the poll.
        limits: Gates to enter for each request.

    Raises:
        ConfigurationError: Nothing to poll, an invalid pattern, more than `MAX_TAGS` tags or `MAX_REPOSITORIES`
            repositories, or the registry does not list its repositories. Not retryable.
        InvalidReference: A name is invalid. Not retryable.
        RegistryError: Retryable if its class says so: the poll took too long, the registry is unreachable, …
    """
    if not repositories and not namespaces:
        raise ConfigurationError("image tags: expected a repository or a namespace to watch, found none")
    pattern = tag_pattern(tags)
    with _watched(client, seconds) as check:
        poll = _Poll(client, limits, check)
        names = dict.fromkeys((*repositories, *poll.listed(namespaces)))
        found = poll.tags([name for name in names if name not in exclude], pattern)
        seen = poll.digests(found)
        poll.rule_out_outage()
    return seen


class _Poll:
    """Sequential requests of one poll."""

    def __init__(self, client: RegistryClient, limits: Limits, check: Callable[[], None]) -> None:
        self._client = client
        self._gate = limits.of(client.registry)
        self._check = check
        self._doubtful = False

    def listed(self, namespaces: Sequence[str]) -> tuple[str, ...]:
        """Return the repositories of namespaces."""
        if not namespaces:
            return ()
        prefixes = tuple(f"{namespace}/" for namespace in namespaces)
        try:
            return self._ask(lambda: self._client.list_repositories(prefixes))
        except RegistryError as error:
            if error.retryable:
                raise
            self._doubt(error)
            self.rule_out_outage()
            raise ConfigurationError(
                f"repositories of {', '.join(namespaces)}: expected a registry that lists them, found: {error}. "
                "If it does not list them for this login, name the repositories one by one"
            ) from error

    def tags(self, names: Collection[str], pattern: Pattern) -> list[tuple[str, str]]:
        """Return repository and tag of every watched tag."""
        if len(names) > MAX_REPOSITORIES:
            raise _too_many("repositories", MAX_REPOSITORIES, "name fewer repositories")
        found: list[tuple[str, str]] = []
        for name in names:
            found += ((name, tag) for tag in counted(self._tags_of(name), pattern))
            if len(found) > MAX_TAGS:
                raise _too_many("tags that match", MAX_TAGS, "narrow `tags`, or name fewer repositories")
        return found

    def digests(self, found: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Resolve each tag; tags deleted meanwhile are omitted."""
        seen = {}
        for name, tag in found:
            digest = self._ask(lambda name=name, tag=tag: self._client.head_digest(name, tag))  # type: ignore[misc]
            if digest is None:
                self._doubtful = True
            elif digest != deleted_tag_digest(tag):
                seen[f"{name}:{tag}"] = digest
        return seen

    def rule_out_outage(self) -> None:
        """After a 404 without an error code, check that a registry responds at all.

        A proxy may answer 404 to everything while its registry restarts. Without this check, every tag would seem
        deleted, and later new.
        """
        if not self._doubtful:
            return
        try:
            self._ask(self._client.ping)
        except Unauthorized:
            return  # Some registries deny a ping without a repository scope, but they are up.
        except NotFound as error:
            raise RegistryFailure(
                f"{error} (the server that answers now is not a registry)", url=error.url, status=404
            ) from error

    def _tags_of(self, name: str) -> tuple[str, ...]:
        try:
            return self._ask(lambda: self._client.list_tags(name))
        except NotFound as error:
            self._doubt(error)
            return ()

    def _doubt(self, error: RegistryError) -> None:
        """Remember a 404 without an error code: a registry says what is missing, a proxy does not."""
        self._doubtful = self._doubtful or (isinstance(error, NotFound) and not error.codes)

    def _ask(self, work: Callable[[], Result]) -> Result:
        self._check()
        with self._gate.entered(_put_off):
            try:
                found = work()
            except RegistryBusy as error:
                self._gate.busy(BUSY_PAUSE if error.retry_after is None else error.retry_after)
                raise
            except RegistryError:
                # An abort at the deadline surfaces as a broken connection: raise the timeout instead.
                self._check()
                raise
        self._gate.worked()
        return found


@contextmanager
def _watched(client: RegistryClient, seconds: float) -> Iterator[Callable[[], None]]:
    """Enforce a deadline over many requests by aborting the one in flight. Yield a check that raises once it passed."""
    deadline = time.monotonic() + seconds
    done = threading.Event()

    def check() -> None:
        if time.monotonic() >= deadline:
            raise RegistryUnreachable(
                f"{client.registry.base_url}: expected to poll the tags within {seconds:g} s, it took longer. "
                "Watch fewer tags, or check whether the registry is slow",
                url=client.registry.base_url,
            )

    def end() -> None:
        wait = seconds
        while not done.wait(wait):
            # Abort repeatedly: if an idle connection broke, the client opens a new one.
            client.abort()
            wait = 0.5

    thread = threading.Thread(target=end, name="delivery-chain-poll", daemon=True)
    thread.start()
    try:
        yield check
    finally:
        done.set()
        thread.join()


def _put_off(seconds: float) -> None:
    if seconds > LONGEST_PUT_OFF:
        raise RegistryBusy("the registry asked to slow down: the poll waits", retry_after=seconds)
    time.sleep(seconds)


def _too_many(what: str, most: int, advice: str) -> ConfigurationError:
    return ConfigurationError(
        f"image tags: expected at most {most} {what} in one watch, found more; {advice}"
    )
