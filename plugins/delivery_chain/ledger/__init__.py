"""The ledger as Airflow's own records have it, and the command that prints it."""
