"""Where the hook `post-receive` is that comes along."""

from __future__ import annotations

from pathlib import Path


def git_hook() -> Path:
    """The file, as a checkout has it or as the wheel does."""
    installed = Path(__file__).parent / "_post_receive"
    return installed if installed.exists() else Path(__file__).parents[2] / "docs" / "events" / "post-receive"
