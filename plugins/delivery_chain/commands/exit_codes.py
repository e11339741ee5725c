"""Exit codes of every verb."""

DONE = 0
FAILED = 1
"""A spec, event, run, copy or check is not as it should be; the output says what."""
USAGE = 2
"""The command line is wrong; nothing was done."""
UNREACHABLE = 3
"""Airflow's API did not answer; the same command may work later."""
