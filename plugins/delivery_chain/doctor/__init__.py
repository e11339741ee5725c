"""Checks what `delivery-chain doctor` reports on: Airflow, this machine, registries, sources and targets."""
