"""Folder mode's way in: Airflow runs this file from its plugins folder. Not for use beside the wheel."""

from delivery_chain.plugin import DeliveryChainPlugin

__all__ = ["DeliveryChainPlugin"]
