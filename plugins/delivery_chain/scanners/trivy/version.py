"""Check that Trivy's version is supported; once per process, before the first scan."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.errors import ToolMissing
from delivery_chain.tools.process import INSTALL, base_env, run

if TYPE_CHECKING:
    from collections.abc import Sequence

Version = tuple[int, int, int]
MINIMUM: Version = (0, 69, 0)
"""Older versions write reports in another format, so every scan would fail at its end."""
WITHDRAWN: frozenset[Version] = frozenset({(0, 69, 4), (0, 69, 5), (0, 69, 6)})
"""Published by an attacker with the maintainers' keys (GHSA-69fq-xp46-6x23)."""
SECONDS = 60.0
"""Time limit of `trivy --version`; a cold start reads 170 MB."""
_VERSION = re.compile(r"^Version:\s*v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?", re.MULTILINE)


def parse_version(output: str) -> Version | None:
    """Return the version that `trivy --version` prints, or None if it prints none (a custom build)."""
    found = _VERSION.search(output)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3] or 0))


def version_problem(program: str, output: Sequence[str]) -> str:
    """Describe the problem with a Trivy, from the output of `--version`; empty if it is supported."""
    version = parse_version("\n".join(output))
    minimum = ".".join(map(str, MINIMUM))
    if version is None:
        said = output[0][:100] if output else "nothing"
        return f"{program}: expected Trivy {minimum} or newer, found one that does not print its version: {said!r}"
    found = f"{program}: expected Trivy {minimum} or newer, found {'.'.join(map(str, version))}"
    if version in WITHDRAWN:
        return (
            f"{found}, which an attacker published in its maintainers' name (GHSA-69fq-xp46-6x23): remove it, and "
            "replace every secret that this machine reaches"
        )
    return found if version < MINIMUM else ""


@lru_cache(maxsize=8)
def check_version(program: str) -> str:
    """Refuse a Trivy that is too old, before anything is fetched or scanned. Runs each program once per process.

    Args:
        program: Its full path.

    Returns:
        Its output about its version.

    Raises:
        ToolMissing: It is older than the minimum, or does not print its version. Not retryable.
        ToolTimeout, ToolError: It does not start.
    """
    # Trivy reads trivy.yaml from its working directory. It also looks for databases in its home folder, but creates
    # nothing.
    completed = run(
        [program, "--version"],
        tool="trivy",
        env={**base_env(), "HOME": "/nonexistent"},
        deadline=time.monotonic() + SECONDS,
        cwd=Path("/proc/self"),
    )
    printed = completed.stdout.decode("utf-8", "replace").splitlines()
    if problem := version_problem(program, printed):
        raise ToolMissing(f"{problem}; {INSTALL['trivy']}", tool="trivy")
    return "\n".join(printed)
