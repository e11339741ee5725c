"""A git working copy for tests to commit in, independent of the user's own configuration."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WHO = ("-c", "user.name=A Robot", "-c", "user.email=robot@example.com")
GIT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Clone:
    """One working copy."""

    folder: Path

    def git(self, *arguments: str) -> str:
        """Run git; return its output."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", *WHO, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        """Make a commit; return its id."""
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")
