"""Which versions of the outside programs are installed, and what is known of them. Asked once per process."""

from __future__ import annotations

import functools
import time

from delivery_chain.errors import ToolError
from delivery_chain.tools import known_flaws, process

_SECONDS = 30.0


@functools.cache
def version_text(tool: str) -> str:
    """What a program says of its version; empty when it says nothing."""
    env = process.base_env()
    env["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
    try:
        done = process.run([tool, "--version"], tool=tool, env=env, deadline=time.monotonic() + _SECONDS)
    except ToolError:
        return ""
    return done.stdout.decode(errors="replace").partition("\n")[0]


@functools.cache
def flaw_lines(tool: str) -> tuple[str, ...]:
    """What a log says of an installed program: a line per known flaw."""
    return tuple(known_flaws.lines(tool, version_text(tool)))
