"""Polls in Airflow's triggerer on behalf of the sensors."""
