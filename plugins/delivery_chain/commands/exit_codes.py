"""Exit codes of all verbs."""

from __future__ import annotations

from delivery_chain.errors import ToolError

DONE = 0
FAILED = 1
"""A spec, event, run, copy or check failed; the output says why."""
USAGE = 2
"""The command line is wrong; nothing was done."""
UNREACHABLE = 3
"""Airflow's API did not respond; a retry may succeed."""


def exit_code(error: Exception) -> int:
    """Return the exit code of a verb that calls Airflow's API, after an error that ended it."""
    return UNREACHABLE if isinstance(error, ToolError) else USAGE
