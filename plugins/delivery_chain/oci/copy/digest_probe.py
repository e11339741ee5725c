"""Whether a registry refuses a blob that is not its digest: asked of the registry itself, with a blob that is not.

Registries hash what they receive, and a second hash on this side would only cost time: a quarter of a large copy's.
But that is to be known and not hoped: who was seen to refuse wrong bytes is trusted with large blobs and with
uploads that go on in the middle; for all others each byte is hashed here before the last one is sent.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.errors import ContentMismatch, RegistryError

if TYPE_CHECKING:
    from delivery_chain.oci.copy.endpoint import Place

WORTH_ASKING = 64 * 1024 * 1024
"""Bytes to send: hashing fewer takes less time than the two requests."""
_BYTES = b"wrong bytes"
_DIGEST = sha256_digest(b"airflow-delivery-chain asks whether digests are checked")


class Refusals:
    """What is known of the registries of one copy. Safe to use from threads."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}
        self._lock = threading.Lock()

    def ask(self, target: Place) -> None:
        """Find out about a target's registry, once. Nothing is stored where it refuses."""
        with self._lock:
            if target.registry.base_url not in self._known:
                self._known[target.registry.base_url] = _refuses(target)

    def known(self, target: Place) -> bool:
        """Whether a target's registry was seen to refuse wrong bytes."""
        with self._lock:
            return self._known.get(target.registry.base_url, False)


def _refuses(target: Place) -> bool:
    client, name = target.client, target.name
    try:
        outgoing = client.open_upload(name, str(client.begin_upload(name, _DIGEST)), _DIGEST, len(_BYTES))
        outgoing.write(memoryview(_BYTES))
        client.close_upload(outgoing, name, _DIGEST)
    except ContentMismatch:
        return True
    except RegistryError:
        return False
    return False
