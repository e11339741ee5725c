"""Defines builds and scans as values that run anywhere: serializable to JSON, by reference, without Airflow."""
