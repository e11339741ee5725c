"""The target that a trigger delivers to, whatever its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.hooks.connection import read_connection
from delivery_chain.targets.table import target_class

if TYPE_CHECKING:
    from delivery_chain.targets.interface import Target


def target_at(kind: str, conn_id: str) -> Target:
    """The target of a kind that an Airflow connection leads to, its secrets masked in logs.

    Args:
        kind: A name of the table of targets.
        conn_id: Airflow's connection id.

    Raises:
        ConfigurationError: No target is of this kind, or the connection is missing or wrong. Not retryable.
        AirflowUnreachable: Airflow did not say whether the connection is there. Retryable.
    """
    found = target_class(kind)
    return found.of(read_connection(conn_id, found.connection_type))
