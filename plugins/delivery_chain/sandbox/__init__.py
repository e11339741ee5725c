"""Runs the whole stack on one machine: registries, Airflow, a git source, a webhook receiver."""
