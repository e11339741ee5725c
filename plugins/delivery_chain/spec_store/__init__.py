"""Reads the specs in force: from the folder of files, or the last valid versions from Airflow Variables."""
