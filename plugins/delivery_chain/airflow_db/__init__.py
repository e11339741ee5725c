"""Reads and writes Airflow's own tables. The only importer of `airflow.models` and of API-server internals."""
