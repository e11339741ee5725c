"""Add buttons to a task's page: the image, and the findings of its scans.

A registry's API addresses are useless in a browser: the registry answers manifests with 404, serves reports as unnamed
downloads, and wants credentials that Airflow has and the reader lacks. So the buttons link to the run's page in
Airflow's web server (`delivery_chain.web`), or to the registry's own page if its connection has a template for it.
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
    """Return the URL of the page of a task's run, or only its path if Airflow does not know its own address."""
    base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return f"{base}{run_page(ti_key.dag_id, ti_key.run_id)}"


class RegistryLink(BaseOperatorLink):
    """Button to the image's page in its registry, or to the run's page if the registry has none."""

    name: ClassVar[str] = "Image"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL that the task left if a browser can open it, otherwise the URL of the run's page."""
        del operator
        left = str(XCom.get_value(ti_key=ti_key, key=REGISTRY_URL) or "")
        usable = left.startswith(("https://", "http://")) and not _MANIFEST.fullmatch(left)
        return left if usable else f"{page_of(ti_key)}#image"


class ScanReportLink(BaseOperatorLink):
    """Button to the findings of the run's scans, which are read from the reports attached to the image."""

    name: ClassVar[str] = "Scan report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL of the findings on the run's page."""
        del operator
        return f"{page_of(ti_key)}#findings"
