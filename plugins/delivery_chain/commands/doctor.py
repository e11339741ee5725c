"""`delivery-chain doctor`: checks everything that chains need, and prints a remedy for each problem."""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.commands.exit_codes import DONE, FAILED, USAGE
from delivery_chain.core.diagnosis import Check, Level, Line, problem, summary, text, warning
from delivery_chain.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from delivery_chain.settings import Settings
    from delivery_chain.spec_store.folder import Catalogue

DATABASE_SECONDS = 20.0
_ABOUT = """\
Check everything that chains need: settings, connections with their logins and rights, sources, targets, programs,
folders, vulnerability databases, clocks, and Airflow's processes and Dags. Each line is ok, a warning or a problem with
its remedy. Nothing is changed: no image, tag or request is sent. Results for programs, folders and reachability hold
for this machine only, so run it where tasks run. Exit code: 0; 1 with problems; 2 for a wrong command line."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.description = _ABOUT
    parser.add_argument(
        "specs",
        nargs="*",
        metavar="SPEC",
        help="spec file, folder, or chain name; default: all of specs_folder",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object per line, the first one for the machine"
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the results.

    Returns:
        0; 1 if a check found a problem; 2 for a wrong command line.
    """
    # The records are in Airflow's database, which server commands may read, but tasks may not.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    # Airflow logs to standard output, which is reserved for the results.
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
    try:
        lines = examine(args.specs)
    except UsageError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command speaks to a terminal
        return USAGE
    if args.json:
        print(json.dumps(here()))  # noqa: T201
        for line in lines:
            print(json.dumps(line.to_xcom()))  # noqa: T201
    else:
        print("on       " + ", ".join(f"{name} {value}" for name, value in here().items()))  # noqa: T201
        print("\n".join(text(lines)))  # noqa: T201
    print(summary(lines), file=sys.stderr)  # noqa: T201
    return FAILED if any(line.level is Level.PROBLEM for line in lines) else DONE


def here() -> dict[str, str]:
    """Describe the machine for which the results hold."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "?"
    return {
        "machine": socket.gethostname(),
        "user": f"{user} ({os.geteuid()})",
        "airflow_home": os.environ.get("AIRFLOW_HOME") or str(Path.home() / "airflow"),
    }


def examine(wanted: Sequence[str]) -> list[Line]:
    """Run all checks; return their lines in the order to print.

    Raises:
        UsageError: A requested spec does not exist.
    """
    from airflow.configuration import conf  # noqa: PLC0415 - seconds

    from delivery_chain.core.section import SECTION  # noqa: PLC0415
    from delivery_chain.doctor import machine, places  # noqa: PLC0415
    from delivery_chain.doctor.running import run_all  # noqa: PLC0415
    from delivery_chain.doctor.scene import Scene  # noqa: PLC0415

    settings, section, lines = machine.settings_lines(conf.getsection(SECTION) or {})
    found, more = _specs(wanted, settings)
    known, answers = _database()
    scene = Scene(specs=found.specs, settings=settings, section=section, known=known)
    checks = [*places.checks(scene), *machine.checks(scene)]
    if known is not None:
        from delivery_chain.doctor import airflow_side  # noqa: PLC0415

        checks = [*airflow_side.checks(scene), *checks]
    return [*lines, *more, *answers, *run_all(checks)]


def _specs(wanted: Sequence[str], settings: Settings) -> tuple[Catalogue, list[Line]]:
    from delivery_chain.spec_store.folder import Catalogue, load  # noqa: PLC0415

    folder = settings.specs_folder
    catalogues = [_catalogue(word, folder) for word in wanted] if wanted else [load(folder)]
    found = Catalogue(
        specs={file: spec for one in catalogues for file, spec in one.specs.items()},
        problems=tuple(problem for one in catalogues for problem in one.problems),
    )
    lines = [
        problem(
            "spec",
            f"{one.file}:{one.line}",
            f"{one.key}: {one.message}".removeprefix(": "),
            "correct the file",
        )
        for one in found.problems
    ]
    if not found.specs and not lines:
        lines = [
            warning(
                "spec", str(folder), "holds no chain spec", "add one, or set [delivery_chain] specs_folder"
            )
        ]
    return found, lines


def _catalogue(word: str, folder: Path) -> Catalogue:
    from delivery_chain.spec_store.folder import Catalogue, load  # noqa: PLC0415

    path = Path(word)
    if path.is_file():
        return load(path)
    # A folder may share a chain's name, such as the checkout of its source: the chain takes precedence.
    named = {file: spec for file, spec in load(folder).specs.items() if spec.name == word}
    if named:
        return Catalogue(specs=named)
    if not path.exists():
        raise UsageError(f"{word}: no such file or folder, and no chain with this name in {folder}")
    found = load(path)
    if not found.specs and not found.problems:
        raise UsageError(f"{word}: no chain spec inside, and no chain with this name in {folder}")
    return found


def _database() -> tuple[dict[str, str] | None, list[Line]]:
    """Return Airflow's connections (None if its database can't be reached from here), and lines about that."""
    from delivery_chain.doctor.running import run_all  # noqa: PLC0415

    known: list[dict[str, str]] = []

    def ask() -> list[Line]:
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

        from delivery_chain.airflow_db.health import connections  # noqa: PLC0415
        from delivery_chain.doctor.airflow_side import database_line  # noqa: PLC0415

        try:
            line = database_line()
            known.append(connections())
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0][:300]
            return [unread(reason)]
        return [line]

    lines = run_all([Check("database", "Airflow's", ask, DATABASE_SECONDS)])
    if not known:
        # Look up connections as workers do, in environment variables and secrets backends.
        os.environ.pop("_AIRFLOW_PROCESS_CONTEXT", None)
        return None, [line if line.level is Level.WARNING else unread(line.said) for line in lines]
    return known[0], lines


def unread(reason: str) -> Line:
    """Build the line for a database that can't be reached from here, which is normal on a worker."""
    return warning(
        "database",
        "Airflow's",
        f"can't be read from here ({reason}): Dags, processes, senders, and connections stored in it were not "
        "checked",
        "on a worker this is expected; run this command also where Airflow's servers run",
    )
