"""One repository of one registry, as the end of a copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from delivery_chain.core.names.registry import Registry
    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.oci.manifest import Descriptor


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A repository and the client that reaches it."""

    client: RegistryClient
    name: str
    """Repository: `shop/api`."""
    mount_from: tuple[str, ...] = ()
    """Other repositories of this registry that may have blobs of the image, for a target: the first is tried."""

    def __str__(self) -> str:
        return f"{self.registry.host}/{self.name}"

    @property
    def registry(self) -> Registry:
        """The repository's registry."""
        return self.client.registry

    def mountable_from(self, other: Place) -> bool:
        """Whether the target's login can be expected to see the other repository, in the same registry."""
        here, there = self.registry, other.registry
        return (here.base_url, here.username) == (there.base_url, there.username) and self.name != other.name

    def key(self, blob: Descriptor) -> str:
        """A name for a blob here that no other has."""
        return f"{self.registry.base_url}/{self.name}@{blob.digest}"
