"""Reads the specs in force: from the folder of files, and the last good versions from Airflow Variables."""
