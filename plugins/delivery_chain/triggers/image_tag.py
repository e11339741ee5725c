"""Waits in the triggerer until the tags of a registry, or their digests, differ from the known ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from delivery_chain.core.events.image_tags import tag_difference
from delivery_chain.triggers.base import PollTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

REQUEST_TIME = 20.0
"""Timeout in seconds of a connect, and of each read: a registry that hangs must not block a poll for long."""


class ImageTagTrigger(PollTrigger):
    """Fires once, as soon as the matching tags differ from the known ones.

    The event is `{"refs": [{"name", "tag", "digest", "previous"}, …], "gone": ["name:tag", …],
    "seen": {"name:tag": digest, …}, "since": time}`, or `{"error": message}`; see `PollTrigger`.
    """

    arguments: ClassVar[tuple[str, ...]] = ("connection", "repositories", "namespaces", "exclude", "tags")

    def __init__(
        self,
        connection: str,
        repositories: Sequence[str] = (),
        *,
        namespaces: Sequence[str] = (),
        exclude: Sequence[str] = (),
        tags: str | None = None,
        known: dict[str, str] | None = None,
        poll_seconds: float = 60.0,
        since: str | None = None,
        told: str | None = None,
    ) -> None:
        """Store the arguments; no I/O.

        Args:
            connection: Airflow connection of type oci_registry.
            repositories: Full names: `shop/api`.
            namespaces: Namespaces whose repositories are all watched; the registry must support listing them.
            exclude: Full names of repositories to exclude.
            tags: A tag's name, or a regular expression for whole names; None for every tag.
            known: Maps `name:tag` to digests; None to fire at the first poll, with every tag as new.
            poll_seconds: Seconds between two polls.
            since: See `PollTrigger`.
            told: See `PollTrigger`.
        """
        super().__init__(known=known, poll_seconds=poll_seconds, since=since, told=told)
        self.connection = connection
        self.repositories = list(repositories)
        self.namespaces = list(namespaces)
        self.exclude = list(exclude)
        self.tags = tags

    def look(self) -> dict[str, str]:
        """The tags that match now. Blocks; see the function `look`."""
        return look(
            self.connection,
            self.repositories,
            namespaces=self.namespaces,
            exclude=self.exclude,
            tags=self.tags,
        )

    def difference(self, known: dict[str, str], seen: dict[str, str]) -> dict[str, Any]:
        """Compare two listings, see `tag_difference`."""
        return tag_difference(known, seen)


def look(
    connection: str,
    repositories: Sequence[str] = (),
    *,
    namespaces: Sequence[str] = (),
    exclude: Sequence[str] = (),
    tags: str | None = None,
) -> dict[str, str]:
    """Map the matching tags, as `name:tag`, to their digests.

    The connection is read each time, so that a new password takes effect at once.

    Args:
        connection: Airflow connection of type oci_registry.
        repositories: Full names: `shop/api`. A missing repository has no tags.
        namespaces: Namespaces whose repositories are all included; the registry must support listing them.
        exclude: Full names of repositories to exclude.
        tags: A tag's name, or a regular expression for whole names; None for every tag.

    Raises:
        ConfigurationError: The connection or a pattern is wrong, no repository or namespace is given, the limits of
            one watch are exceeded, or the registry does not list its repositories. Not retryable.
        RegistryError: The registry failed. The error's class says whether a retry helps.
    """
    from delivery_chain.hooks.registry import OciRegistryHook  # noqa: PLC0415 - not for a Dag parse
    from delivery_chain.oci.tag_poll import poll_tags  # noqa: PLC0415

    with OciRegistryHook(connection).client(timeout=REQUEST_TIME) as client:
        return poll_tags(client, repositories, namespaces=namespaces, exclude=exclude, tags=tags)
