"""Makes the Dags: what the files in `dags/` call."""
