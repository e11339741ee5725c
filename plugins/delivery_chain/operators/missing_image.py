"""An image of the run that its registry no longer has: what to clear, for the step that misses it can't make it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.names.reference import short_digest
from delivery_chain.errors import NotFound

if TYPE_CHECKING:
    from delivery_chain.core.plan import Plan
    from delivery_chain.oci.client import RegistryClient


def check_there(client: RegistryClient, plan: Plan, *digests: str) -> None:
    """See that the run's images are still there: they may have been quarantined, swept or deleted since.

    Args:
        client: The home registry.
        plan: The run's.
        digests: What the step is about to use.

    Raises:
        NotFound: One is not there; the message says how to have it again. Not retryable.
    """
    gone = [digest for digest in digests if client.head_digest(plan.name, digest) is None]
    if not gone:
        return
    what = ", ".join(f"{plan.name}@{short_digest(digest)}" for digest in gone)
    again = (
        "clear `build` and all that follow it, so that it is built again from the same commit"
        if plan.build
        else "push it again, which starts a run of its own; a blocked image may be in the chain's quarantine"
    )
    raise NotFound(f"{what} is not in {client.registry.host} any more: it was removed meanwhile; {again}")
