"""The steps of a chain as Airflow operators, one file per step."""
