"""Defines builds and scans as jobs that run anywhere without Airflow: JSON values that name commits and digests."""
