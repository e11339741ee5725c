"""Opens the target that a trigger delivers to, of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.hooks.connection import read_connection
from delivery_chain.targets.table import TARGETS

if TYPE_CHECKING:
    from delivery_chain.targets.interface import Target


def target_at(kind: str, conn_id: str) -> Target:
    """Build the target that an Airflow connection describes, its secrets masked in logs.

    Args:
        kind: A name in the table of targets.
        conn_id: Airflow's connection id.

    Raises:
        ConfigurationError: The kind is unknown, or the connection is missing or wrong. Not retryable.
        AirflowUnreachable: It is unknown whether the connection exists. Retryable.
    """
    found = TARGETS.load(kind)
    return found.of(read_connection(conn_id, found.connection_type))
