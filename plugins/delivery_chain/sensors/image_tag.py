"""Watches the image tags of a registry; a sensor for any Dag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from delivery_chain.errors import ConfigurationError, RegistryError
from delivery_chain.sensors.base import RefSensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery_chain.triggers.image_tag import ImageTagTrigger

STATE_KEY = "image_tags"
"""Key of the task's state for the known tags, which ensure that a retry misses no push."""


class ImageTagSensor(RefSensor):
    """Waits until a matching image tag is new or moved.

    Its result is a list of `{"name", "tag", "digest", "previous"}` in natural order; `previous` is None for a
    new tag. A deleted tag does not end the wait, and counts as new when it reappears. Chains' staging tags and
    referrers' tags (`sha256-…`, including cosign's) are ignored.
    """

    template_fields: Sequence[str] = (
        "connection",
        "repository",
        "repositories",
        "namespaces",
        "exclude",
        "tags",
    )
    state_key: ClassVar[str] = STATE_KEY
    awaited: ClassVar[str] = "new image tag"

    def __init__(
        self,
        *,
        connection: str,
        repository: str = "",
        repositories: Sequence[str] = (),
        namespaces: Sequence[str] = (),
        exclude: Sequence[str] = (),
        tags: str | None = None,
        known: dict[str, str] | None = None,
        poll_seconds: float | None = None,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        """Store the arguments; no I/O. At least one repository or namespace is required.

        Args:
            connection: Airflow connection of type oci_registry.
            repository: Full name: `shop/api`. It need not exist yet.
            repositories: Further repositories.
            namespaces: Namespaces whose repositories are all watched; the registry must support listing them.
            exclude: Full names of repositories to exclude.
            tags: A tag's name, or a regular expression for whole names; None for every tag.
            known: Maps `name:tag` to digests; None for the tags at the start of the first try. With a single
                `repository`, keys of the form `tag` are accepted, too.
            poll_seconds: Seconds between two polls; None for `[delivery_chain] image_poll_seconds`.
            deferrable: Whether to wait in the triggerer, which takes no worker slot.
            **kwargs: Arguments of BaseSensorOperator: `timeout` (seconds), `soft_fail`, `mode`, …
        """
        super().__init__(known=known, poll_seconds=poll_seconds, deferrable=deferrable, **kwargs)
        self.connection = connection
        self.repository = repository
        self.repositories = repositories
        self.namespaces = namespaces
        self.exclude = exclude
        self.tags = tags

    def _trigger(self, known: dict[str, str], since: str | None) -> ImageTagTrigger:
        from delivery_chain.triggers.image_tag import ImageTagTrigger  # noqa: PLC0415 - not for a Dag parse

        return ImageTagTrigger(
            self.connection,
            self._names(),
            namespaces=self.namespaces,
            exclude=self.exclude,
            tags=self.tags,
            known=known,
            poll_seconds=self._pause(),
            since=since,
        )

    def _failure(self, message: str) -> RegistryError:
        return RegistryError(message)

    def _usual_pause(self) -> float:
        from delivery_chain.settings import Settings  # noqa: PLC0415 - reads Airflow's configuration

        return Settings.load().image_poll_seconds

    def _given(self) -> dict[str, str] | None:
        if self.known is None:
            return None
        names = self._names()
        short = next((key for key in self.known if ":" not in key), None)
        if short is not None and (len(names) != 1 or self.namespaces):
            raise ConfigurationError(
                f"known image tags: expected `name:tag` because more than one repository is watched, found "
                f"{short[:200]!r}; prefix it with the repository"
            )
        return {key if ":" in key else f"{names[0]}:{key}": digest for key, digest in self.known.items()}

    def _names(self) -> list[str]:
        return [*([self.repository] if self.repository else []), *self.repositories]
