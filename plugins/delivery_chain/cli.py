"""The command `delivery-chain`: check specs, plan and start runs, list pushes, copy images, run a sandbox."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain import __version__
from delivery_chain.errors import DeliveryChainError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date

    from delivery_chain.core.plan import Plan
    from delivery_chain.core.spec import ChainSpec

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
        return int(args.func(args))
    except DeliveryChainError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command speaks to a terminal
        return BAD


def _parser(command: list[str]) -> argparse.ArgumentParser:
    """The command line. A copy starts in a tenth of a second: nothing that is for specs is imported for it."""
    parser = argparse.ArgumentParser(prog="delivery-chain", description=__doc__)
    parser.add_argument("--version", action="version", version=f"delivery-chain {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    from delivery_chain.copying import register

    register(commands)
    if command == ["copy"]:
        return parser
    check = commands.add_parser("check", help="check chain specs and print every problem as file:line")
    check.add_argument("place", type=Path, nargs="+", metavar="SPEC", help="spec file, or folder of them")
    check.set_defaults(func=_check)
    plan = commands.add_parser("plan", help="print what an event would do; nothing is run or looked up")
    plan.add_argument("spec", type=Path, metavar="SPEC")
    what = plan.add_mutually_exclusive_group(required=True)
    what.add_argument("--tag", help="a push of this git tag")
    what.add_argument("--branch", help="a push to this branch")
    what.add_argument("--image", metavar="REPOSITORY:TAG", help="an image that others pushed")
    plan.add_argument("--commit", default="0" * 40, help="full commit id that the ref points at")
    plan.add_argument("--at", type=datetime.fromisoformat, help="time of the push, ISO 8601; now if left out")
    plan.set_defaults(func=_plan)
    schema = commands.add_parser("schema", help="print the JSON Schema of a chain spec, for editors")
    schema.add_argument("--event", action="store_true", help="of a run's conf instead, for who starts runs")
    schema.set_defaults(func=_schema)
    folder = commands.add_parser("dags-folder", help="print the folder to point Airflow's dags_folder at")
    folder.set_defaults(func=_dags_folder)
    hook = commands.add_parser(
        "git-hook", help="print the file to install as hooks/post-receive of a bare repository"
    )
    hook.set_defaults(func=_git_hook)
    from delivery_chain import connecting, replicating, triggering, webhook_setup
    from delivery_chain.doctor import command as doctor
    from delivery_chain.ledger import command as events
    from delivery_chain.sandbox.cli import add_parser

    replicating.register(commands)
    triggering.register(commands)
    events.register(commands)
    webhook_setup.register(commands)
    connecting.register(commands)
    doctor.register(commands)
    add_parser(commands)
    return parser


def _check(args: argparse.Namespace) -> int:
    from delivery_chain.catalogue import load, spec_files

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
    """What fails nothing but wants a look: exceptions that have ended or end soon."""
    from delivery_chain.catalogue import read_text
    from delivery_chain.core.exceptions import exception_warnings
    from delivery_chain.core.parse import locate

    for file, spec in specs.items():
        if complaints := list(exception_warnings(spec, today)):
            yield from locate(read_text(Path(file)), file, complaints)


def _plan(args: argparse.Namespace) -> int:
    from delivery_chain.catalogue import read_text
    from delivery_chain.core.event import Event
    from delivery_chain.core.parse import parse_spec
    from delivery_chain.core.plan import make_plan, select

    spec = parse_spec(read_text(args.spec), str(args.spec))
    event = Event.from_conf(_conf(args))
    now = args.at or args.clock()
    now = now if now.tzinfo else now.replace(tzinfo=UTC)
    # Nothing is looked up: the ref is taken to be where the event says, the image to be any.
    present = args.commit if args.image is None else "sha256:" + "0" * 64
    plan = make_plan(spec, select(spec, event), event, run_id="dry-run", now=now, present=present)
    print("\n".join(_describe(spec, plan)))  # noqa: T201
    return FINE


def _conf(args: argparse.Namespace) -> dict[str, str]:
    from delivery_chain.core.git_ref import BRANCHES, TAGS

    if args.image is not None:
        repository, _, tag = args.image.rpartition(":")
        return {"repository": repository or args.image, "tag": tag if repository else "latest"}
    ref = TAGS + args.tag if args.tag is not None else BRANCHES + args.branch
    return {"ref": ref, "commit": args.commit}


def _describe(spec: ChainSpec, plan: Plan) -> list[str]:
    from delivery_chain.core.filters import destination, fires_for

    lines = [f"chain       {plan.chain}"]
    if plan.build:
        lines.append(f"build       rule {plan.build.rule}: {plan.build.ref} at {plan.build.commit}")
        lines.append(
            f"            {plan.build.dockerfile} in {plan.build.context}, for {', '.join(plan.build.platforms)}"
        )
        lines += [f"            --build-arg {name}={value}" for name, value in plan.build.args.items()]
    else:
        lines.append("build       nothing: the image is there already")
    lines.append(f"image       {plan.name}: {', '.join(plan.tags)}")
    engines = ", ".join(spec.scan.engine)
    lines.append(
        f"scan        {engines if spec.scan.enabled else 'off'}{', blocking' if spec.scan.block else ', never blocks'}"
    )
    for rule in spec.replicate:
        goal = destination(spec, rule, plan.repository, plan.tags)
        sent = goal if isinstance(goal, str) else f"{goal.connection} {goal.name}: {', '.join(goal.tags)}"
        lines.append(f"replicate   {rule.name}: {'no, ' if isinstance(goal, str) else ''}{sent}")
    for trigger in spec.distribute:
        tags = fires_for(trigger, plan.tags)
        lines.append(f"distribute  {trigger.name}: {', '.join(tags) or 'no, no tag matches'}")
    return lines


def _schema(args: argparse.Namespace) -> int:
    from delivery_chain.core.schema import event_schema, spec_schema

    print(event_schema() if args.event else spec_schema(), end="")  # noqa: T201
    return FINE


def _git_hook(args: argparse.Namespace) -> int:
    from delivery_chain.git_hook import git_hook

    del args
    print(git_hook())  # noqa: T201
    return FINE


def _dags_folder(args: argparse.Namespace) -> int:
    del args
    inside = Path(__file__).parent / "_dags"
    print(inside if inside.is_dir() else Path(__file__).parents[2] / "dags")  # noqa: T201
    return FINE
