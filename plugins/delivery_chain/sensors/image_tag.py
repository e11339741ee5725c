"""A sensor on the image tags of a registry, for any Dag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from delivery_chain.errors import ConfigurationError, RegistryError
from delivery_chain.sensors.base import RefSensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery_chain.triggers.image_tag import ImageTagTrigger

STATE_KEY = "image_tags"
"""Where the task's state keeps the tags known so far, so that a retry misses no push."""


class ImageTagSensor(RefSensor):
    """Waits until an image tag that matches is new or moved.

    Its result is a list of `{"name", "tag", "digest", "previous"}` in natural order; `previous` is None for a
    new tag. A tag that was deleted ends no wait, and counts as new when it comes back. The chain's staging tags and
    the referrers' own tags (`sha256-…`, cosign's among them) never count.
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
        """Look at nothing yet. At least one repository or namespace has to be named.

        Args:
            connection: Airflow connection of type oci_registry.
            repository: Full name: `shop/api`. It need not be there yet.
            repositories: More of them.
            namespaces: Every repository of these too; the registry has to list its repositories.
            exclude: Full names of repositories that are left out.
            tags: Name or regular expression for whole names; None for every tag.
            known: `name:tag` to digest; None for what is there when the first try starts. With one `repository`
                alone, tag to digest will do.
            poll_seconds: Time between two looks; None for `[delivery_chain] image_poll_seconds`.
            deferrable: Wait in the triggerer, without a worker's slot.
            **kwargs: For BaseSensorOperator: `timeout` (seconds), `soft_fail`, `mode`, …
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

    def _told(self) -> dict[str, str] | None:
        if self.known is None:
            return None
        names = self._names()
        short = next((key for key in self.known if ":" not in key), None)
        if short is not None and (len(names) != 1 or self.namespaces):
            raise ConfigurationError(
                f"known image tags: expected `name:tag` where more than one repository is watched, found "
                f"{short[:200]!r}; write the repository before it"
            )
        return {key if ":" in key else f"{names[0]}:{key}": digest for key, digest in self.known.items()}

    def _names(self) -> list[str]:
        return [*([self.repository] if self.repository else []), *self.repositories]
