"""Where the hook `post-receive` is that comes along."""

from __future__ import annotations

from pathlib import Path

import delivery_chain


def git_hook() -> Path:
    """The file, as a checkout has it or as the wheel does."""
    package = Path(delivery_chain.__file__).parent
    installed = package / "_post_receive"
    return installed if installed.exists() else package.parents[1] / "docs" / "events" / "post-receive"
