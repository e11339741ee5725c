"""Buttons on a task's page: the image in its registry, and the scanner's own report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk.bases.operator import BaseOperator


class RegistryLink(BaseOperatorLink):
    """The image's page in its registry, or its manifest where the registry has no pages."""

    name: ClassVar[str] = "Image in the registry"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """The address that the task left, empty if it left none."""
        del operator
        return str(XCom.get_value(ti_key=ti_key, key="registry_url") or "")


class ScanReportLink(BaseOperatorLink):
    """The scanner's full report, kept in the registry as a referrer of the image."""

    name: ClassVar[str] = "Scan report"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """The address that the task left, empty if it left none."""
        del operator
        return str(XCom.get_value(ti_key=ti_key, key="report_url") or "")
