"""Probe whether a registry verifies digests, by uploading a blob with a wrong digest.

Registries hash what they receive, and hashing it on this side as well would take a quarter of the time of a large
copy. But a registry has to prove that it does: one that has rejected wrong bytes is trusted with large blobs and with
resumed uploads; for all others, every byte is hashed here before the last one is sent.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.errors import ContentMismatch, RegistryError

if TYPE_CHECKING:
    from delivery_chain.oci.copy.endpoint import Place

WORTH_ASKING = 64 * 1024 * 1024
"""Minimum number of bytes to send before probing: hashing fewer takes less time than the two requests."""
_BYTES = b"wrong bytes"
_DIGEST = sha256_digest(b"airflow-delivery-chain asks whether digests are checked")


class Refusals:
    """Probe results of the registries of one copy. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}
        self._lock = threading.Lock()

    def ask(self, target: Place) -> None:
        """Probe a target's registry, once. A registry that rejects the blob stores nothing."""
        with self._lock:
            if target.registry.base_url not in self._known:
                self._known[target.registry.base_url] = _refuses(target)

    def known(self, target: Place) -> bool:
        """Whether a target's registry has rejected wrong bytes."""
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
