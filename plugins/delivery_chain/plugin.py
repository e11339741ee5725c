"""What Airflow loads in each of its processes; what only the API server needs is built when it asks."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from delivery_chain import listener
from delivery_chain.web import application


class DeliveryChainPlugin(AirflowPlugin):
    """Delivery chains for Airflow."""

    name = "delivery_chain"
    listeners = [listener]
    fastapi_apps = [{"app": application, "url_prefix": "/delivery-chain", "name": "delivery-chain"}]
