"""The command `delivery-chain`: check specs, plan and start runs, list pushes, copy images, run a sandbox."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import delivery_chain
from delivery_chain import __version__
from delivery_chain.errors import DeliveryChainError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date

    from delivery_chain.core.spec.model import ChainSpec

FINE, BAD, USAGE = 0, 1, 2


def main(
    arguments: Sequence[str] | None = None, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> int:
    """Run one command.

    Args:
        arguments: The command line; the process's own if left out.
        clock: The time, UTC.

    Returns:
        0 if all is well, 1 if a spec, event or run is not, 2 for a wrong command line.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    args = _parser(words[:1]).parse_args(words, argparse.Namespace(clock=clock))
    try:
        code = int(args.func(args))
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read it has seen enough, as `| head` does; what Python itself flushes at its end must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BAD
    except DeliveryChainError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command speaks to a terminal
        return BAD
    return code


def _parser(command: list[str]) -> argparse.ArgumentParser:
    """The command line. A copy starts in a tenth of a second: nothing that is for specs is imported for it."""
    parser = argparse.ArgumentParser(prog="delivery-chain", description=__doc__)
    parser.add_argument("--version", action="version", version=f"delivery-chain {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    from delivery_chain.commands.copy import register

    register(commands)
    if command == ["copy"]:
        return parser
    check = commands.add_parser("check", help="check chain specs and print every problem as file:line")
    check.add_argument("place", type=Path, nargs="+", metavar="SPEC", help="spec file, or folder of them")
    check.set_defaults(func=_check)
    schema = commands.add_parser("schema", help="print the JSON Schema of a chain spec, for editors")
    schema.add_argument("--event", action="store_true", help="of a run's conf instead, for who starts runs")
    schema.set_defaults(func=_schema)
    folder = commands.add_parser("dags-folder", help="print the folder to point Airflow's dags_folder at")
    folder.set_defaults(func=_dags_folder)
    hook = commands.add_parser(
        "git-hook", help="print the file to install as hooks/post-receive of a bare repository"
    )
    hook.set_defaults(func=_git_hook)
    from delivery_chain.commands import connect, doctor, events, job, replicate, trigger, webhook
    from delivery_chain.commands import plan as planning
    from delivery_chain.sandbox.cli import add_parser

    planning.register(commands)
    replicate.register(commands)
    trigger.register(commands)
    events.register(commands)
    webhook.register(commands)
    connect.register(commands)
    doctor.register(commands)
    job.register(commands)
    add_parser(commands)
    return parser


def _check(args: argparse.Namespace) -> int:
    from delivery_chain.spec_store.folder import load, spec_files

    missing = [place for place in args.place if not place.exists()]
    if missing:
        print(f"{missing[0]}: no such file or folder", file=sys.stderr)  # noqa: T201
        return USAGE
    problems: list[Problem] = []
    warnings: list[Problem] = []
    count = 0
    for place in args.place:
        found = load(place)
        problems += found.problems
        warnings += _warnings(found.specs, args.clock().date())
        count += len(spec_files(place))
    for problem in problems:
        print(problem)  # noqa: T201
    for warning in warnings:
        print(f"{warning} (a warning)")  # noqa: T201
    if problems:
        files = len({problem.file for problem in problems})
        print(f"{_many(len(problems), 'problem')} in {files} of {_many(count, 'spec')}", file=sys.stderr)  # noqa: T201
        return BAD
    if not count:
        print(f"{args.place[0]}: no spec (*.yaml) found", file=sys.stderr)  # noqa: T201
        return USAGE
    noted = f", {_many(len(warnings), 'warning')}" if warnings else ""
    print(f"{_many(count, 'spec')}, {'all ' if count > 1 else ''}fine{noted}")  # noqa: T201
    return FINE


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _warnings(specs: Mapping[str, ChainSpec], today: date) -> Iterator[Problem]:
    """What fails nothing but wants a look: exceptions that have ended or end soon, patterns that look like globs."""
    from delivery_chain.core.gate.exceptions import exception_warnings
    from delivery_chain.core.spec.advice import glob_warnings
    from delivery_chain.core.spec.parse import locate
    from delivery_chain.spec_store.folder import read_text

    for file, spec in specs.items():
        if complaints := [*exception_warnings(spec, today), *glob_warnings(spec)]:
            yield from locate(read_text(Path(file)), file, complaints)


def _schema(args: argparse.Namespace) -> int:
    from delivery_chain.core.spec.schema import event_schema, spec_schema

    print(event_schema() if args.event else spec_schema(), end="")  # noqa: T201
    return FINE


def _git_hook(args: argparse.Namespace) -> int:
    from delivery_chain.tools.git.hook_file import git_hook

    del args
    print(git_hook())  # noqa: T201
    return FINE


def _dags_folder(args: argparse.Namespace) -> int:
    del args
    package = Path(delivery_chain.__file__).parent
    inside = package / "_dags"
    print(inside if inside.is_dir() else package.parents[1] / "dags")  # noqa: T201
    return FINE
