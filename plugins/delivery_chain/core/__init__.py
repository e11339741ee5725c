"""Pure rules: no Airflow, HTTP, clock or files."""
