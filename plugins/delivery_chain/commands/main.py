"""Delivery chains from the command line: check specs, plan and start runs, list pushes, copy images, run a sandbox."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING

from delivery_chain import __version__
from delivery_chain.commands.exit_codes import FAILED
from delivery_chain.errors import DeliveryChainError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERBS = {
    "copy": "copy an image, with all platforms and referrers, to other registries",
    "check": "check chain specs and print every problem as file:line",
    "schema": "print the JSON Schema of a chain spec, for editors",
    "dags-folder": "print the path to set as Airflow's dags_folder",
    "git-hook": "print the path of the file to install as hooks/post-receive of a bare repository",
    "plan": "print what an event would do, without running or looking up anything",
    "replicate": "backfill regions with images older than a replication rule; needs this machine's Airflow",
    "trigger": "start a chain's run over Airflow's REST API",
    "events": "list every push seen, who saw it first, and its runs; needs this machine's Airflow",
    "webhook": "let a forge or registry start chains by webhook",
    "connect": "create the connection of a registry, a git source or a trigger",
    "doctor": "check everything that chains need",
    "job": "run one build or scan from a JSON document on standard input; for runners",
    "sandbox": "run a whole delivery chain on this machine",
}
"""Each verb with its help line. Its module has the same name, and is imported for that verb alone."""


def main(
    arguments: Sequence[str] | None = None, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> int:
    """Run one command.

    Args:
        arguments: The command line; defaults to the process's own.
        clock: Returns the current time, UTC.

    Returns:
        One of `delivery_chain.commands.exit_codes`; 0 on success.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    args = parser_for(words).parse_args(words, argparse.Namespace(clock=clock))
    try:
        code = int(args.func(args))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader closed the pipe, as `| head` does. Python flushes again at exit, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except DeliveryChainError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command speaks to a terminal
        return FAILED
    return code


def parser_for(words: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser for a command line. It lists every verb, but has arguments only for the first word's."""
    parser = argparse.ArgumentParser(prog="delivery-chain", description=__doc__)
    parser.add_argument("--version", action="version", version=f"delivery-chain {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for verb, about in VERBS.items():
        added = commands.add_parser(verb, help=about, description=f"{about[0].upper()}{about[1:]}.")
        if verb == next(iter(words), ""):
            import_module(f"delivery_chain.commands.{verb.replace('-', '_')}").register(added)
    return parser
