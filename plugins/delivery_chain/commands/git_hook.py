"""`delivery-chain git-hook`: prints the path of the file to install as `hooks/post-receive` of a bare repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.commands.exit_codes import DONE
from delivery_chain.tools.git.hook_file import git_hook

if TYPE_CHECKING:
    import argparse


def register(parser: argparse.ArgumentParser) -> None:
    """Add the verb, which has no arguments."""
    parser.set_defaults(func=_git_hook)


def _git_hook(_: argparse.Namespace) -> int:
    print(git_hook())  # noqa: T201 - a command speaks to a terminal
    return DONE
