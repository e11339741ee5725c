"""Remove a folder of a build or a job, regardless of ownership and depth."""

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
"""The kernel's escapes for whitespace in mount points."""


def remove(folder: Path, *, seconds: float = _REMOVAL_SECONDS) -> None:
    """Remove a folder recursively; links are not followed.

    Uses `rm`, because Python's own function fails at a nesting depth of a thousand, and a build step can create one.

    Args:
        folder: Folder to remove; a missing one is ignored.
        seconds: Time limit.

    Raises:
        OSError: The folder could not be removed, or something is mounted in it.
        ToolError: See `process.run`.
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
        # A folder's mode may prevent even its owner from removing its content.
        _run_on(folder, ["chmod", "-R", "u+rwX"], deadline)
        last = _run_on(folder, ["rm", "-rf", "--one-file-system"], deadline) or last
    if os.path.lexists(folder):
        raise OSError(errno.ENOTEMPTY, f"could not be removed: {last}", str(folder))


def _run_on(folder: Path, command: Sequence[str], deadline: float) -> str:
    """Run a command on a folder, if it exists; return the last line printed, or an empty string."""
    if not os.path.lexists(folder):
        return ""
    argv = [*command, "--", str(folder)]
    ended = process.run(argv, tool="rm", env=process.base_env(), deadline=deadline, check=False)
    return ended.output[-1] if ended.output else ""


def _mounts_below(folder: Path) -> str:
    """Return a mount point in or at a folder, or an empty string."""
    below = str(folder.parent.resolve() / folder.name)
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        place = _OCTAL.sub(lambda found: chr(int(found[1], 8)), line.split()[4])
        if place == below or place.startswith(f"{below}/"):
            return place
    return ""
