"""The pages in Airflow's web server: home, runs, push events."""
