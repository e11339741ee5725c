"""Buttons on a task's page: the image, and what the scanners found in it.

A registry's own addresses are of no use in a browser: manifests answer 404 to it, reports are downloads without a
name, and both ask for a login that Airflow has and the reader does not. So the buttons lead to the run's page in
Airflow's web server (`delivery_chain.web`), or to the registry's page where its connection has a template for one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf
from airflow.sdk.execution_time.xcom import XCom

from delivery_chain.core.web_paths import run_page
from delivery_chain.core.xcom_keys import REGISTRY_URL

if TYPE_CHECKING:
    from airflow.sdk.bases.operator import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

_MANIFEST = re.compile(r"https?://[^/]+/v2/.+/manifests/[^/]+")


def page_of(ti_key: TaskInstanceKey) -> str:
    """The address of the page of a task's run; a path where Airflow does not know its own address."""
    base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return f"{base}{run_page(ti_key.dag_id, ti_key.run_id)}"


class RegistryLink(BaseOperatorLink):
    """The image's page in its registry, or on our page of the run where the registry has none."""

    name: ClassVar[str] = "Image"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The address that the task left if a browser can open it, else the run's page."""
        del operator
        left = str(XCom.get_value(ti_key=ti_key, key=REGISTRY_URL) or "")
        usable = left.startswith(("https://", "http://")) and not _MANIFEST.fullmatch(left)
        return left if usable else f"{page_of(ti_key)}#image"


class ScanReportLink(BaseOperatorLink):
    """The findings of the run's scans, read from the report that is kept as a referrer of the image."""

    name: ClassVar[str] = "Scan report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The run's page, at its findings."""
        del operator
        return f"{page_of(ti_key)}#findings"
