"""A source for the end-to-end tests: one branch per Dockerfile, all pushed at once."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from delivery_chain.tools.process import base_env

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from delivery_chain.sandbox.layout import Layout


def git(layout: Layout, *arguments: str, cwd: Path | None = None) -> str:
    """Run git with a neutral identity; return its output."""
    who = {
        f"GIT_{role}_{what}": "tester@example.com"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    env = (
        base_env() | who | {"HOME": str(layout.root), "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
    )
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, env=env, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout


def push_branches(
    layout: Layout, folder: Path, repository: Path, dockerfiles: Mapping[str, str]
) -> dict[str, str]:
    """Push all branches at once, each with its Dockerfile and a busybox next to it.

    Args:
        layout: The sandbox's.
        folder: Where the clone is made.
        repository: The bare one.
        dockerfiles: By branch; one without a Dockerfile where it is empty.

    Returns:
        The commits by branch.
    """
    git(layout, "init", "--quiet", str(folder))
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, folder / "busybox")
    commits = {}
    for branch, dockerfile in dockerfiles.items():
        git(layout, "checkout", "--quiet", "--orphan", branch, cwd=folder)
        file = folder / "Dockerfile"
        file.unlink(missing_ok=True)
        if dockerfile:
            file.write_text(dockerfile, "ascii")
        git(layout, "add", "--all", cwd=folder)
        git(layout, "commit", "--quiet", f"--message={branch}", cwd=folder)
        commits[branch] = git(layout, "rev-parse", "HEAD", cwd=folder).strip()
    git(layout, "push", "--quiet", "--all", repository.as_uri(), cwd=folder)
    return commits


def push_again(layout: Layout, folder: Path, repository: Path, branch: str, dockerfile: str) -> str:
    """Push another Dockerfile to a branch, from the clone that `push_branches` made, and return the commit."""
    git(layout, "checkout", "--quiet", branch, cwd=folder)
    (folder / "Dockerfile").write_text(dockerfile, "ascii")
    git(layout, "commit", "--quiet", "--all", f"--message={branch} again", cwd=folder)
    git(layout, "push", "--quiet", repository.as_uri(), branch, cwd=folder)
    return git(layout, "rev-parse", "HEAD", cwd=folder).strip()
