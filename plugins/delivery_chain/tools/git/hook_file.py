"""Locate the bundled `post-receive` hook."""

from __future__ import annotations

from pathlib import Path

import delivery_chain


def git_hook() -> Path:
    """Path of the hook in a checkout or in the wheel."""
    package = Path(delivery_chain.__file__).parent
    installed = package / "_post_receive"
    return installed if installed.exists() else package.parents[1] / "docs" / "events" / "post-receive"
