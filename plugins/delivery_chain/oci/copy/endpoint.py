"""Endpoint of a copy: one repository of one registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from delivery_chain.core.names.registry import Registry
    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.oci.manifest import Descriptor


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A repository and the client of its registry."""

    client: RegistryClient
    name: str
    """Repository: `shop/api`."""
    mount_from: tuple[str, ...] = ()
    """For a target: other repositories of its registry that may have the image's blobs. Only the first is tried, and
    only if blobs can't be mounted from the source itself."""

    def __str__(self) -> str:
        return f"{self.registry.host}/{self.name}"

    @property
    def registry(self) -> Registry:
        """The repository's registry."""
        return self.client.registry

    def mountable_from(self, other: Place) -> bool:
        """Whether `other` is a different repository of the same registry, and probably readable with this login."""
        here, there = self.registry, other.registry
        return (here.base_url, here.username) == (there.base_url, there.username) and self.name != other.name

    def key(self, blob: Descriptor) -> str:
        """Unique key of a blob in this repository."""
        return f"{self.registry.base_url}/{self.name}@{blob.digest}"
