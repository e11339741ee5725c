"""Speaks to registries over the OCI distribution API. Knows nothing of Airflow."""
