"""`delivery-chain sandbox`: parses the arguments of each command, runs it, and returns its exit code."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.commands.exit_codes import DONE, FAILED, USAGE
from delivery_chain.errors import DeliveryChainError, UsageError
from delivery_chain.sandbox import demo, following, interrupts, shop, source, stack, status
from delivery_chain.sandbox.console import Console
from delivery_chain.sandbox.database import KINDS
from delivery_chain.sandbox.layout import Layout
from delivery_chain.sandbox.progress import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_SECONDS = 1e6
SIGNALLED = 128
"""Offset that shells add to a signal's number to form an exit code."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = _command(
        commands, "up", _up, "start all services that are not running, and wait until they are ready"
    )
    _add_up_options(up)
    run = _command(
        commands, "demo", _demo, "start everything, push a clean and a vulnerable release, show the outcome"
    )
    _add_up_options(run)
    down = _command(commands, "down", _down, "stop every process; data stays")
    down.add_argument("--purge", action="store_true", help="also delete the data")
    push = _command(commands, "push", _push, "commit a release of a sample application and push it")
    _add_push_options(push)
    _command(
        commands,
        "status",
        _status,
        "show each service's state and address, and the login; exit code 1 unless all run",
    )


def _add_push_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repository", choices=shop.APPLICATIONS, default="api", help="default: %(default)s")
    ref = parser.add_mutually_exclusive_group()
    ref.add_argument("--tag", default="", help="push the commit as this tag")
    ref.add_argument("--branch", default="main", help="push the commit to this branch (default: %(default)s)")
    parser.add_argument(
        "--vulnerable",
        action="store_true",
        help="use packages that the sample database lists as vulnerable",
    )
    _add_timeout(parser, following.TIMEOUT_SECONDS)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    func: Callable[[argparse.Namespace, Layout, Console], int],
    text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument(
        "--state", type=Path, default=Path(".sandbox"), help="the sandbox's folder (default: %(default)s)"
    )
    parser.set_defaults(func=lambda given: _guarded(func, given))
    return parser


def _add_up_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--database",
        choices=KINDS,
        default="auto",
        help="auto: PostgreSQL if installed, otherwise SQLite",
    )
    parser.add_argument(
        "--port-base", type=int, help="use consecutive ports from this one on, instead of any free ports"
    )
    parser.add_argument(
        "--registry",
        action="append",
        default=[],
        metavar="REGION=HOST[,USER,PASSWORD_VARIABLE]",
        help="use an existing registry for a region, with the password in an environment variable",
    )
    parser.add_argument(
        "--real-vulnerability-database",
        action="store_true",
        help="let Trivy fetch its own database, instead of the sample with a handful of vulnerabilities",
    )
    parser.add_argument(
        "--specs", default="", help="folder of chain specs (default: ./chain_specs, otherwise the examples)"
    )
    parser.add_argument("--dags", default="", help="Dags folder (default: the package's own)")
    _add_timeout(parser, stack.TIMEOUT_SECONDS)


def _add_timeout(parser: argparse.ArgumentParser, seconds: float) -> None:
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=seconds,
        metavar="SECONDS",
        help="give up after this many seconds; running services keep running (default: %(default).0f)",
    )


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds above 0, such as 1800")
    return found


def _guarded(func: Callable[[argparse.Namespace, Layout, Console], int], given: argparse.Namespace) -> int:
    """Run one command; turn expected failures into a message and an exit code."""
    try:
        with interrupts.raised():
            return func(given, Layout(given.state.absolute()), Console())
    except DeliveryChainError as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        sys.stderr.write(f"delivery-chain sandbox: {error}{notes}\n")
        return USAGE if isinstance(error, UsageError) else FAILED
    except interrupts.Interrupted as error:
        sys.stderr.write(f"delivery-chain sandbox: interrupted by {error.number.name}\n")
        return SIGNALLED + error.number


def _options(given: argparse.Namespace) -> stack.Options:
    return stack.Options(
        database=given.database,
        port_base=given.port_base,
        registries=tuple(given.registry),
        real_vulnerability_database=given.real_vulnerability_database,
        specs=given.specs and str(Path(given.specs).absolute()),
        dags=given.dags and str(Path(given.dags).absolute()),
        timeout=given.timeout,
    )


def _up(given: argparse.Namespace, layout: Layout, console: Console) -> int:
    found = stack.up(layout, _options(given), console)
    console.line()
    status.login(found)
    return DONE


def _demo(given: argparse.Namespace, layout: Layout, console: Console) -> int:
    return DONE if demo.run_demo(layout, _options(given), console) else FAILED


def _down(given: argparse.Namespace, layout: Layout, console: Console) -> int:
    stack.down(layout, console, purge=given.purge)
    return DONE


def _push(given: argparse.Namespace, layout: Layout, console: Console) -> int:
    tag, branch, vulnerable = given.tag, given.branch, given.vulnerable
    with Waiting(console, "git and its hook"):
        made = source.push(layout, given.repository, tag=tag, branch=branch, vulnerable=vulnerable)
    console.line(
        f"pushed {made.kind} {made.name} of {source.NAMESPACE}/{made.repository}, commit {made.commit}"
    )
    following.follow(stack.open_stack(layout, console), made, given.timeout)
    return DONE


def _status(_given: argparse.Namespace, layout: Layout, console: Console) -> int:
    return DONE if status.status(layout, console) else FAILED
