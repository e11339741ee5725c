"""Builds the Dags for the files in `dags/`."""
