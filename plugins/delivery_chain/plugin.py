"""Registers the plugin that every Airflow process loads; parts for the API server alone are built on demand."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from delivery_chain.airflow_db import listener
from delivery_chain.core.web_paths import PAGES, WEBHOOKS
from delivery_chain.web import pages, webhooks


class DeliveryChainPlugin(AirflowPlugin):
    """Delivery chains for Airflow."""

    name = "delivery_chain"
    listeners = [listener]
    # The first match handles a request, so the longer prefix must come first.
    fastapi_apps = [
        {"app": webhooks, "url_prefix": WEBHOOKS, "name": "delivery-chain webhooks"},
        {"app": pages, "url_prefix": PAGES, "name": "delivery-chain"},
    ]
    external_views = [
        {
            "name": "Push events",
            # Relative to Airflow's own address, which may include a path.
            "href": "delivery-chain/events",
            "destination": "nav",
            "category": "browse",
            "url_route": "push-events",
        }
    ]
