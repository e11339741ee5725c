"""What Airflow loads in each of its processes; what only the API server needs is built when it asks."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from delivery_chain import listener


class DeliveryChainPlugin(AirflowPlugin):
    """Delivery chains for Airflow."""

    name = "delivery_chain"
    listeners = [listener]
