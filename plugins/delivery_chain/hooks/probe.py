"""Checks that a connection can be read the way a step will read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.spec.connections import GIT, REGISTRY
from delivery_chain.hooks.git import GitSourceHook
from delivery_chain.hooks.registry import OciRegistryHook
from delivery_chain.hooks.target import target_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from delivery_chain.core.spec.connections import Needed


def check_connection(needed: Needed, transports: Iterable[str]) -> None:
    """Check that a connection exists, has the needed type, and valid fields. Contacts only Airflow.

    Args:
        needed: The connection and its purpose.
        transports: Allowed git transports.

    Raises:
        ConnectionMissing: No connection has this id. Not retryable.
        ConfigurationError, SourceError: It has another type, or a field is wrong. Not retryable.
        AirflowUnreachable: Airflow does not respond. Retryable.
    """
    if needed.conn_type == REGISTRY:
        OciRegistryHook(needed.connection).registry()
    elif needed.conn_type == GIT:
        GitSourceHook(needed.connection, transports).source(needed.url)
    else:
        target_at(needed.target, needed.connection)
