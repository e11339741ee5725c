"""`delivery-chain dags-folder`: prints the folder for Airflow's `dags_folder` option."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import delivery_chain
from delivery_chain.commands.exit_codes import DONE

if TYPE_CHECKING:
    import argparse


def register(parser: argparse.ArgumentParser) -> None:
    """Add the verb, which has no arguments."""
    parser.set_defaults(func=_dags_folder)


def _dags_folder(_: argparse.Namespace) -> int:
    package = Path(delivery_chain.__file__).parent
    inside = package / "_dags"
    print(inside if inside.is_dir() else package.parents[1] / "dags")  # noqa: T201 - a command speaks to a terminal
    return DONE
