"""A folder of specs that this process may not list, as with a mount of another user's files."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@contextlib.contextmanager
def unlisted(name: str, *, filled_from: Path | None = None) -> Iterator[tuple[Path, Path]]:
    """Make a folder without permissions; until the block ends, this process has root's rights no longer.

    Args:
        name: Name of the folder within that of the specs; `.` for that one itself.
        filled_from: Folder of specs to copy first.

    Yields:
        The folder of specs, and the one that can't be listed.
    """
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="delivery-chain-tests-") as made:
        specs = Path(made, "specs")
        if filled_from:
            shutil.copytree(filled_from, specs)
        closed = specs / name
        closed.mkdir(parents=True, exist_ok=True)
        Path(made).chmod(0o755)
        specs.chmod(0o755)
        closed.chmod(0)
        if root:
            os.seteuid(NOBODY)
        try:
            yield specs, closed
        finally:
            if root:
                os.seteuid(0)
            closed.chmod(0o755)
