"""A chain whose runs end in every possible way: its spec, its source, and the pushes to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.branches import git, push_branches
from support.faults import FROM
from support.sleeping_builds import SLEEPS

if TYPE_CHECKING:
    from pathlib import Path

    from delivery_chain.sandbox.layout import Layout

CHAIN = "ends"
IMAGE = "ends/app"
TARGET = "ends_target"
"""Connection of its trigger, with an address that at first refuses every delivery."""
SPEC = f"""\
version: 1
name: {CHAIN}
scope: {{instance: cn-hangzhou, namespace: ends, repositories: [app]}}
sources: {{app: {{connection: git_shop, url: ends/app.git}}}}
build: {{rules: [{{name: any, branch: '(?<branch>.+)', tags: [{{tag: '${{branch}}'}}]}}]}}
scan: {{enabled: false}}
replicate: [{{name: near, to: ap-southeast-1}}]
distribute: [{{name: tell, url_connection: {TARGET}}}]
"""
DOCKERFILES = {
    "cancelled": SLEEPS,
    "marked-green": SLEEPS + 'LABEL a="b"\n',
    "marked-task": SLEEPS + 'LABEL a="c"\n',
    "lost": SLEEPS + 'LABEL a="e"\n',
    "dropped": SLEEPS + 'LABEL a="f"\n',
    "repaired": FROM + 'LABEL a="d"\n',
    "no-dockerfile": "",
    "no-base": "FROM cn-hangzhou.invalid/no/such:1\n",
    "typo": "\nFORM scratch\n",
    "run-fails": FROM + '\nRUN ["/bin/busybox", "false"]\n',
}
"""Dockerfiles by branch; empty for a branch without one."""


def create_source(layout: Layout) -> None:
    """Create the source, empty."""
    git(layout, "init", "--quiet", "--bare", str(layout.git / "ends" / "app.git"))


def push(layout: Layout, folder: Path) -> dict[str, str]:
    """Push all branches at once; return their commits."""
    return push_branches(layout, folder, layout.git / "ends" / "app.git", DOCKERFILES)
