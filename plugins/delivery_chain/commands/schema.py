"""`delivery-chain schema`: prints the JSON Schema of a chain spec, or of a run's conf."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.commands.exit_codes import DONE
from delivery_chain.core.spec.schema import event_schema, spec_schema

if TYPE_CHECKING:
    import argparse


def register(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "--event",
        action="store_true",
        help="print the schema of a run's conf instead, for clients that start runs",
    )
    parser.set_defaults(func=_schema)


def _schema(args: argparse.Namespace) -> int:
    print(event_schema() if args.event else spec_schema(), end="")  # noqa: T201 - a command speaks to a terminal
    return DONE
