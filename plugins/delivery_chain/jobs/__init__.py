"""Builds and scans as values that run anywhere: JSON both ways, by reference, without Airflow."""
