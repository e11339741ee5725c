"""Runs external programs within limits and with an allowlisted environment; clients for git and Airflow's REST API."""
