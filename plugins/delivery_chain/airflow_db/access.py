"""Authorizes readers through Airflow's auth manager."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from fastapi import Depends, HTTPException

User = GetUserDep
"""Type of a route parameter: the logged-in user; 401 otherwise."""
LOGGED_IN = Depends(get_user)
"""Route dependency: 401 unless logged in."""
READS_XCOMS = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))
"""Route dependency: requires read access to XComs of the Dag in the path."""
READS_RUNS = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.RUN))
"""Route dependency: requires read access to runs of the Dag in the path."""


def readable_dags(user: Any) -> set[str]:
    """Ids of the Dags that a user may read."""
    manager: Any = get_auth_manager()
    return set(manager.get_authorized_dag_ids(user=user, method="GET"))


def reads_audit_log(user: User) -> set[str]:
    """Ids of the Dags that a user may read; 403 if the user may not read the audit log.

    `requires_access_dag` does not fit: it checks the one Dag in the path, and some pages show many.
    """
    manager: Any = get_auth_manager()
    entity = DagAccessEntity.AUDIT_LOG
    if not manager.is_authorized_dag(method="GET", access_entity=entity, details=DagDetails(), user=user):
        raise HTTPException(403, "Forbidden")
    return readable_dags(user)
