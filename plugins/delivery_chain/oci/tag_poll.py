"""One look at a registry: which digest each tag of some repositories stands for now."""

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
"""Tags of one watch: each costs a request a look, and all of them some 1 MB in Airflow's database."""
MAX_REPOSITORIES = 1000
"""Repositories of one watch: each costs a request a look."""
LOOK_TIME = 300.0
"""Seconds that one look may take: the most tags, at 60 ms each."""
LONGEST_PUT_OFF = 1.0
"""Seconds that a look waits for its turn itself; a registry that asks for more gets another look, later."""
BUSY_PAUSE = 10.0
"""Seconds without a request to a registry that asked to slow down and did not say for how long."""


def look_at(
    client: RegistryClient,
    repositories: Sequence[str] = (),
    *,
    namespaces: Sequence[str] = (),
    exclude: Collection[str] = (),
    tags: str | None = None,
    seconds: float = LOOK_TIME,
    limits: Limits = SHARED,
) -> dict[str, str]:
    """What the tags stand for, as `name:tag` to digest, by one HEAD for each.

    Staging tags, the referrers' own tags and those that are being deleted do not count. A repository that is not
    there has no tags.

    Args:
        client: Of the registry.
        repositories: Full names: `shop/api`.
        namespaces: Every repository of these too, as the registry's catalogue lists them.
        exclude: Full names of repositories that are left out.
        tags: Name, or regular expression for whole names; None for every tag.
        seconds: How long the look may take.
        limits: Whose gates are entered for each request.

    Raises:
        ConfigurationError: Nothing is named, a wrong pattern, more than `MAX_TAGS` tags or `MAX_REPOSITORIES`
            repositories, or the registry does not list its repositories. Not retryable.
        InvalidReference: A name is none. Not retryable.
        RegistryError: Retryable where its class says so: the look took too long, the registry is not there, …
    """
    if not repositories and not namespaces:
        raise ConfigurationError("image tags: expected a repository or a namespace to look at, found none")
    pattern = tag_pattern(tags)
    with _watched(client, seconds) as check:
        look = _Look(client, limits, check)
        names = dict.fromkeys((*repositories, *look.listed(namespaces)))
        found = look.tags([name for name in names if name not in exclude], pattern)
        seen = look.digests(found)
        look.doubt_away()
    return seen


class _Look:
    """The requests of one look, one after the other."""

    def __init__(self, client: RegistryClient, limits: Limits, check: Callable[[], None]) -> None:
        self._client = client
        self._gate = limits.of(client.registry)
        self._check = check
        self._doubtful = False

    def listed(self, namespaces: Sequence[str]) -> tuple[str, ...]:
        """The repositories of namespaces."""
        if not namespaces:
            return ()
        prefixes = tuple(f"{namespace}/" for namespace in namespaces)
        try:
            return self._ask(lambda: self._client.list_repositories(prefixes))
        except RegistryError as error:
            if error.retryable:
                raise
            self._doubt(error)
            self.doubt_away()
            raise ConfigurationError(
                f"repositories of {', '.join(namespaces)}: expected a registry that lists them, found: {error}. "
                "Where it does not list them for this login, name the repositories one by one"
            ) from error

    def tags(self, names: Collection[str], pattern: Pattern) -> list[tuple[str, str]]:
        """Repository and tag of all that counts."""
        if len(names) > MAX_REPOSITORIES:
            raise _too_many("repositories", MAX_REPOSITORIES, "name fewer repositories")
        found: list[tuple[str, str]] = []
        for name in names:
            found += ((name, tag) for tag in counted(self._tags_of(name), pattern))
            if len(found) > MAX_TAGS:
                raise _too_many("tags that match", MAX_TAGS, "narrow `tags`, or name fewer repositories")
        return found

    def digests(self, found: Sequence[tuple[str, str]]) -> dict[str, str]:
        """What each tag stands for; those that went away meanwhile are left out."""
        seen = {}
        for name, tag in found:
            digest = self._ask(lambda name=name, tag=tag: self._client.head_digest(name, tag))  # type: ignore[misc]
            if digest is None:
                self._doubtful = True
            elif digest != deleted_tag_digest(tag):
                seen[f"{name}:{tag}"] = digest
        return seen

    def doubt_away(self) -> None:
        """Where something was not there by a bare 404, ask whether a registry is there at all.

        A proxy that says 404 to everything while its registry restarts would make every tag gone, and new
        afterwards.
        """
        if not self._doubtful:
            return
        try:
            self._ask(self._client.ping)
        except Unauthorized:
            return  # Some registries let nobody in without a repository to ask for. They are there.
        except NotFound as error:
            raise RegistryFailure(
                f"{error} (what answers now is no registry)", url=error.url, status=404
            ) from error

    def _tags_of(self, name: str) -> tuple[str, ...]:
        try:
            return self._ask(lambda: self._client.list_tags(name))
        except NotFound as error:
            self._doubt(error)
            return ()

    def _doubt(self, error: RegistryError) -> None:
        """A registry says which thing is not there; a proxy does not."""
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
                # An abort at the deadline shows as a broken connection.
                self._check()
                raise
        self._gate.worked()
        return found


@contextmanager
def _watched(client: RegistryClient, seconds: float) -> Iterator[Callable[[], None]]:
    """A deadline over many requests: it breaks the one that is under way. Gives what raises once it passed."""
    deadline = time.monotonic() + seconds
    done = threading.Event()

    def check() -> None:
        if time.monotonic() >= deadline:
            raise RegistryUnreachable(
                f"{client.registry.base_url}: expected a look at the tags to take at most {seconds:g} s, it took "
                "longer. Watch fewer tags, or look whether the registry is slow",
                url=client.registry.base_url,
            )

    def end() -> None:
        wait = seconds
        while not done.wait(wait):
            # Again and again: the client opens a new connection where a kept one broke.
            client.abort()
            wait = 0.5

    thread = threading.Thread(target=end, name="delivery-chain-look", daemon=True)
    thread.start()
    try:
        yield check
    finally:
        done.set()
        thread.join()


def _put_off(seconds: float) -> None:
    if seconds > LONGEST_PUT_OFF:
        raise RegistryBusy("the registry asked to slow down: the look waits", retry_after=seconds)
    time.sleep(seconds)


def _too_many(what: str, most: int, advice: str) -> ConfigurationError:
    return ConfigurationError(
        f"image tags: expected at most {most} {what} in one watch, found more; {advice}"
    )
