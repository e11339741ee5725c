"""Client for the OCI distribution API. Independent of Airflow."""
