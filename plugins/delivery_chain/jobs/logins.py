"""Defines the logins of a job. They are passed separately, never in the job, its arguments or its environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from delivery_chain.core.names.registry import Registry  # noqa: TC001 - pydantic reads the fields' types
from delivery_chain.errors import ConfigurationError, UsageError
from delivery_chain.jobs.job import LARGEST
from delivery_chain.tools.git.source import GitSource  # noqa: TC001 - as above

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Logins:
    """A job's registries and git sources by connection id, with their credentials. Never logged."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    registries: dict[str, Registry] = field(default_factory=dict, repr=False)
    sources: dict[str, GitSource] = field(default_factory=dict, repr=False)

    def registry(self, connection: str) -> Registry:
        """Return the registry of a connection.

        Raises:
            ConfigurationError: It was not handed in. Not retryable.
        """
        return _of(self.registries, connection, "registry")

    def source(self, connection: str) -> GitSource:
        """Return the git source of a connection.

        Raises:
            ConfigurationError: It was not handed in. Not retryable.
        """
        return _of(self.sources, connection, "git source")

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets, for masking."""
        passwords = [registry.password for registry in self.registries.values() if registry.password]
        return (*passwords, *(text for source in self.sources.values() for text in source.secrets))

    def to_json(self) -> bytes:
        """Serialize the logins to JSON, credentials included."""
        return _LOGINS.dump_json(self)

    @classmethod
    def from_json(cls, data: bytes) -> Logins:
        """Parse the logins from `to_json`.

        Raises:
            UsageError: They are too large or malformed. The message contains none of them. Not retryable.
            SourceError: A git source uses a transport that it does not allow. Not retryable.
        """
        if len(data) > LARGEST:
            raise UsageError(f"logins: expected at most {LARGEST} bytes, found more")
        try:
            return _LOGINS.validate_json(data)
        except ValidationError as error:
            where = ".".join(map(str, error.errors(include_input=False, include_context=False)[0]["loc"]))
            raise UsageError(
                f"logins: expected JSON as a runner writes it, found another form at {where!r}"
            ) from None


_LOGINS = TypeAdapter(Logins)


def _of(known: dict[str, T], connection: str, what: str) -> T:
    if connection not in known:
        raise ConfigurationError(
            f"job: expected the login of {what} {connection!r} among those handed in, found {_listed(known)}"
        )
    return known[connection]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
