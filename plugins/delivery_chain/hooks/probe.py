"""Reading a connection the way a step will read it, to see that it can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.spec.connections import GIT, REGISTRY
from delivery_chain.hooks.git import GitSourceHook
from delivery_chain.hooks.registry import OciRegistryHook
from delivery_chain.hooks.webhook import WebhookHook

if TYPE_CHECKING:
    from collections.abc import Iterable

    from delivery_chain.core.spec.connections import Needed


def check_connection(needed: Needed, transports: Iterable[str]) -> None:
    """See that a connection is there, is of the type that is needed, and says what it has to. Nobody else is asked.

    Args:
        needed: Which, and as what.
        transports: How git sources may be reached.

    Raises:
        ConnectionMissing: There is none of this name. Not retryable.
        ConfigurationError, SourceError: Of another type, or a field is wrong. Not retryable.
        AirflowUnreachable: Airflow does not answer. Retryable.
    """
    if needed.conn_type == REGISTRY:
        OciRegistryHook(needed.connection).registry()
    elif needed.conn_type == GIT:
        GitSourceHook(needed.connection, transports).source(needed.url)
    else:
        WebhookHook(needed.connection).target()
