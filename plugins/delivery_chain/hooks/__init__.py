"""Reads Airflow connections as registries, git sources, targets and senders."""
