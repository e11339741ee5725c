"""Exit codes of all verbs."""

DONE = 0
FAILED = 1
"""A spec, event, run, copy or check failed; the output says why."""
USAGE = 2
"""The command line is wrong; nothing was done."""
UNREACHABLE = 3
"""Airflow's API did not respond; a retry may succeed."""
