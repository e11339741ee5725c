"""Reads the specs in force: the folder of files, and the last good versions in Airflow Variables."""
