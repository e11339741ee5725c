"""Who may read what, as Airflow's auth manager decides it."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from fastapi import Depends, HTTPException

User = GetUserDep
"""A route's parameter of this type is whoever asks; 401 for who is not logged in."""
LOGGED_IN = Depends(get_user)
"""A route's dependency: 401 for who is not logged in."""
READS_XCOMS = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))
"""A route's dependency: whoever may read the XComs of the Dag in its path."""
READS_RUNS = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.RUN))
"""The same of its runs."""


def readable_dags(user: Any) -> set[str]:
    """The ids of the Dags that a user may read."""
    manager: Any = get_auth_manager()
    return set(manager.get_authorized_dag_ids(user=user, method="GET"))


def reads_audit_log(user: User) -> set[str]:
    """The ids of the Dags that a user may read; 403 for who may not read the audit log.

    Not `requires_access_dag`: that takes the right for one Dag from the address, and some pages show many.
    """
    manager: Any = get_auth_manager()
    entity = DagAccessEntity.AUDIT_LOG
    if not manager.is_authorized_dag(method="GET", access_entity=entity, details=DagDetails(), user=user):
        raise HTTPException(403, "Forbidden")
    return readable_dags(user)
