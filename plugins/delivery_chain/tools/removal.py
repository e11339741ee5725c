"""Removes a folder of a build or a job, whoever owns what is in it and however deep it is."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.tools import process

if TYPE_CHECKING:
    from collections.abc import Sequence

_REMOVAL_SECONDS = 600.0
_OCTAL = re.compile(r"\\([0-7]{3})")
"""How the kernel writes blanks in the names of places where something is mounted."""


def remove(folder: Path, *, seconds: float = _REMOVAL_SECONDS) -> None:
    """Remove a folder with all that is in it; links are not followed.

    By `rm`, as Python's own way stops at a thousand folders that are one in the other, which a step may make.

    Args:
        folder: What to remove; nothing happens where it is not there.
        seconds: How long it may take.

    Raises:
        OSError: It could not be removed, or something is mounted in it.
        ToolError: As `process.run` says.
    """
    deadline = time.monotonic() + seconds
    if mounted := _mounts_below(folder):
        raise OSError(errno.EBUSY, "something is mounted there; unmount it", mounted)
    unshare = shutil.which("unshare")
    entries: list[list[str]] = [[]]
    if os.geteuid() != 0 and unshare is not None:
        entries.insert(0, [unshare, "--user", "--map-root-user", "--map-auto", "--"])
    last = ""
    for entry in entries:
        last = _run_on(folder, [*entry, "rm", "-rf", "--one-file-system"], deadline)
    if os.path.lexists(folder):
        # A folder may forbid its own user to remove what is in it.
        _run_on(folder, ["chmod", "-R", "u+rwX"], deadline)
        last = _run_on(folder, ["rm", "-rf", "--one-file-system"], deadline) or last
    if os.path.lexists(folder):
        raise OSError(errno.ENOTEMPTY, f"could not be removed: {last}", str(folder))


def _run_on(folder: Path, command: Sequence[str], deadline: float) -> str:
    """The last line that a command says about a folder, if any."""
    if not os.path.lexists(folder):
        return ""
    argv = [*command, "--", str(folder)]
    ended = process.run(argv, tool="rm", env=process.base_env(), deadline=deadline, check=False)
    return ended.output[-1] if ended.output else ""


def _mounts_below(folder: Path) -> str:
    """A place in or at a folder where something is mounted; empty where there is none."""
    below = str(folder.parent.resolve() / folder.name)
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        place = _OCTAL.sub(lambda found: chr(int(found[1], 8)), line.split()[4])
        if place == below or place.startswith(f"{below}/"):
            return place
    return ""
