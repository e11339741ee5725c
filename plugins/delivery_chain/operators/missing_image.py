"""Name the task to clear when an image of the run is missing, since the step that needs the image can't restore it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.names.reference import short_digest
from delivery_chain.errors import NotFound

if TYPE_CHECKING:
    from delivery_chain.core.plan import Plan
    from delivery_chain.oci.client import RegistryClient


def check_there(client: RegistryClient, plan: Plan, *digests: str) -> None:
    """Check that the run's images still exist: they may have been quarantined, swept or deleted meanwhile.

    Args:
        client: The home registry.
        plan: The run's plan.
        digests: Images that the step is about to use.

    Raises:
        NotFound: An image is missing; the message says how to restore it. Not retryable.
    """
    missing = [digest for digest in digests if client.head_digest(plan.name, digest) is None]
    if not missing:
        return
    what = ", ".join(f"{plan.name}@{short_digest(digest)}" for digest in missing)
    again = (
        "clear `build` and everything downstream, so that it is rebuilt from the same commit"
        if plan.build
        else "push it again, which starts a new run; a blocked image may be in the chain's quarantine"
    )
    raise NotFound(f"{what} is no longer in {client.registry.host}: it has been removed; {again}")
