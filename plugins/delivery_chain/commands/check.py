"""`delivery-chain check`: reports every problem of chain specs as file:line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.commands.exit_codes import DONE, FAILED, USAGE
from delivery_chain.core.gate.exceptions import exception_warnings
from delivery_chain.core.spec.advice import glob_warnings
from delivery_chain.core.spec.parse import locate
from delivery_chain.spec_store.folder import load, read_text, spec_files

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping
    from datetime import date

    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.errors import Problem


def register(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("place", type=Path, nargs="+", metavar="SPEC", help="spec file or folder of specs")
    parser.set_defaults(func=_check)


def _check(args: argparse.Namespace) -> int:
    missing = [place for place in args.place if not place.exists()]
    if missing:
        print(f"{missing[0]}: no such file or folder", file=sys.stderr)  # noqa: T201
        return USAGE
    problems: list[Problem] = []
    warnings: list[Problem] = []
    count = 0
    for place in args.place:
        try:
            found = load(place)
        except OSError as error:
            print(f"{error.filename or place}: can't be listed: {error.strerror}", file=sys.stderr)  # noqa: T201
            return USAGE
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
        return FAILED
    if not count:
        print(f"{args.place[0]}: no spec (*.yaml) found", file=sys.stderr)  # noqa: T201
        return USAGE
    noted = f", {_many(len(warnings), 'warning')}" if warnings else ""
    print(f"{_many(count, 'spec')}, {'all ' if count > 1 else ''}fine{noted}")  # noqa: T201
    return DONE


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _warnings(specs: Mapping[str, ChainSpec], today: date) -> Iterator[Problem]:
    """Yield warnings, which do not fail the check: exceptions that (soon) expire, patterns that look like globs."""
    for file, spec in specs.items():
        if complaints := [*exception_warnings(spec, today), *glob_warnings(spec)]:
            yield from locate(read_text(Path(file)), file, complaints)
