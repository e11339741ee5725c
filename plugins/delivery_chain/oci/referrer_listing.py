"""List the referrers of many manifests of one repository with as few requests as possible."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from delivery_chain.errors import NotFound, RegistryError
from delivery_chain.oci.referrers import fallback_referrers, fallback_tag, once

if TYPE_CHECKING:
    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.oci.manifest import Descriptor


class ReferrersOf:
    """Referrers lists of one repository. Thread-safe.

    At a registry without the referrers API, the tags are listed once, instead of sending one request per manifest: a
    manifest without a fallback tag has no referrers. Referrers attached later are not seen.
    """

    def __init__(self, client: RegistryClient, name: str) -> None:
        self._client = client
        self._name = name
        self._api: bool | None = None
        self._listed = False
        self._tags: frozenset[str] | None = None
        self._lock = threading.Lock()

    def __call__(self, digest: str) -> tuple[Descriptor, ...]:
        """Return the referrers of a manifest, without duplicates."""
        if self._api is not False:
            found = self._client.referrers_api(self._name, digest)
            self._api = found is not None
            if found is not None:
                return once(found)
        tags = self._known_tags()
        if tags is not None and fallback_tag(digest) not in tags:
            return ()
        return once(fallback_referrers(self._client, self._name, digest))

    def _known_tags(self) -> frozenset[str] | None:
        with self._lock:
            if not self._listed:
                self._tags = self._list_tags()
                self._listed = True
            return self._tags

    def _list_tags(self) -> frozenset[str] | None:
        try:
            return frozenset(self._client.list_tags(self._name))
        except NotFound:
            return frozenset()
        except RegistryError as error:
            if error.retryable:
                raise
            # The registry does not let this login list tags: request the referrers of each manifest instead.
            return None
