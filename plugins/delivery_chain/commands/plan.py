"""`delivery-chain plan`: prints what an event would do, without running or looking up anything."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.commands.exit_codes import DONE, USAGE
from delivery_chain.core.events.event import event_of_options
from delivery_chain.core.names.git_ref import BRANCHES, TAGS
from delivery_chain.core.plan import make_plan, select
from delivery_chain.core.spec.filters import Destination, NotCovered, destination, fires_for
from delivery_chain.core.spec.parse import parse_spec
from delivery_chain.errors import UsageError
from delivery_chain.spec_store.folder import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from delivery_chain.core.events.event import Event
    from delivery_chain.core.plan import Plan
    from delivery_chain.core.spec.model import ChainSpec

STAND_INS = ("0" * 40, "f" * 40)
"""Two placeholders for an unnamed commit: parts of the plan that differ between them depend on the commit."""
MADE_UP = "<commit>"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("spec", type=Path, metavar="SPEC")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--tag", help="a push of this git tag")
    what.add_argument("--branch", help="a push to this branch")
    what.add_argument("--image", metavar="REPOSITORY:TAG", help="an image pushed by others")
    parser.add_argument(
        "--commit",
        default="",
        help=f"full commit id that the ref points at; shown as {MADE_UP} if omitted",
    )
    parser.add_argument("--at", type=_time, help="time of the push, such as 2026-01-31T12:00; default: now")
    parser.set_defaults(func=run)


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(
            f"expected a time such as 2026-01-31 or 2026-01-31T12:00+01:00, found {text[:100]!r}"
        ) from error


def run(args: argparse.Namespace) -> int:
    """Print the plan.

    Returns:
        0; 2 for a wrong command line.

    Raises:
        SpecError, EventRefused: The spec is invalid, or the event starts no run.
    """
    spec = parse_spec(read_text(args.spec), str(args.spec))
    commits = (args.commit,) if args.commit or args.image is not None else STAND_INS
    try:
        plans = [_plan(spec, _event(args, commit), args.at or args.clock()) for commit in commits]
    except UsageError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command speaks to a terminal
        return USAGE
    print("\n".join(_describe(spec, plans)))  # noqa: T201
    return DONE


def _event(args: argparse.Namespace, commit: str) -> Event:
    if args.image is not None:
        repository, _, tag = args.image.rpartition(":")
        image = {"repository": repository or args.image, "tag": tag if repository else "latest"}
        return event_of_options(image, dict.fromkeys(image, "image"))
    ref = TAGS + args.tag if args.tag is not None else BRANCHES + args.branch
    named = "tag" if args.tag is not None else "branch"
    return event_of_options({"ref": ref, "commit": commit}, {"ref": named, "commit": "commit"})


def _plan(spec: ChainSpec, event: Event, now: datetime) -> Plan:
    # Nothing is looked up: assume that the ref points where the event says, and that the image has any digest.
    present = event.commit or "sha256:" + "0" * 64
    return make_plan(spec, select(spec, event), event, run_id="dry-run", now=now, present=present)


def _describe(spec: ChainSpec, plans: Sequence[Plan]) -> Iterator[str]:
    """Yield the plan's lines. If given two plans with different placeholder commits, show `MADE_UP` for the commit."""
    yield from (_common(lines) for lines in zip(*(_lines(spec, plan) for plan in plans), strict=True))
    if len(plans) > 1:
        yield f"{MADE_UP} stands for the commit that the ref points at: pass it with --commit"


def _common(lines: tuple[str, ...]) -> str:
    first, last = lines[0], lines[-1]
    if first == last:
        return first
    return " ".join(map(_word, first.split(" "), last.split(" ")))


def _word(first: str, last: str) -> str:
    begin = _alike(first, last)
    end = _alike(first[len(begin) :][::-1], last[len(begin) :][::-1])[::-1]
    return first if first == last else f"{begin}{MADE_UP}{end}"


def _alike(first: str, last: str) -> str:
    """Return the longest common prefix of two texts."""
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))


def _lines(spec: ChainSpec, plan: Plan) -> list[str]:
    lines = [f"chain       {plan.chain}"]
    if plan.build:
        lines.append(f"build       rule {plan.build.rule}: {plan.build.ref} at {plan.build.commit}")
        lines.append(
            f"            {plan.build.dockerfile} in {plan.build.context}, for {', '.join(plan.build.platforms)}"
        )
        lines += [f"            --build-arg {name}={value}" for name, value in plan.build.args.items()]
    else:
        lines.append("build       nothing: the image already exists")
    lines.append(f"image       {plan.name}: {', '.join(plan.tags)}")
    engines = ", ".join(spec.scan.engine)
    lines.append(
        f"scan        {engines if spec.scan.enabled else 'off'}{', blocking' if spec.scan.block else ', never blocks'}"
    )
    for rule in spec.replicate:
        goal = destination(spec, rule, plan.repository, plan.tags)
        lines.append(f"replicate   {rule.name}: {_sent(goal)}")
    for trigger in spec.distribute:
        tags = fires_for(trigger, plan.tags)
        lines.append(f"distribute  {trigger.name}: {', '.join(tags) or 'no, no tag matches'}")
    return lines


def _sent(goal: Destination | NotCovered) -> str:
    if isinstance(goal, NotCovered):
        return f"no, {goal.reason}"
    return f"{goal.connection} {goal.name}: {', '.join(goal.tags)}"
