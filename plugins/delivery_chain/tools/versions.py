"""Versions of the installed external programs, and their known vulnerabilities; determined once per process."""

from __future__ import annotations

import functools
import time

from delivery_chain.errors import ToolError
from delivery_chain.tools import known_flaws, process

_SECONDS = 30.0


@functools.cache
def version_text(tool: str) -> str:
    """Return the version line that a program prints; empty if it prints none."""
    env = process.base_env()
    env["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
    try:
        done = process.run([tool, "--version"], tool=tool, env=env, deadline=time.monotonic() + _SECONDS)
    except ToolError:
        return ""
    return done.stdout.decode(errors="replace").partition("\n")[0]


@functools.cache
def flaw_lines(tool: str) -> tuple[str, ...]:
    """Return log lines about an installed program, one per known vulnerability."""
    return tuple(known_flaws.lines(tool, version_text(tool)))
