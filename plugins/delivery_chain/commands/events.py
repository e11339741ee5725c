"""`delivery-chain events`: lists every ref change seen, the runs it started, and the changes that were missed."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import TYPE_CHECKING

from delivery_chain.commands.exit_codes import DONE, FAILED, USAGE
from delivery_chain.core.events.gaps import Wanted, span
from delivery_chain.core.events.ledger import parse_since
from delivery_chain.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from delivery_chain.airflow_db.push_events import Ledger
    from delivery_chain.core.events.ledger import LedgerLine, StartResult

HEADS = ("TIME (UTC)", "REF", "COMMIT", "SEEN BY", "RUNS, OR WHY NONE")
LEAST = 45
"""Minimum width for the runs as a column; in a narrower terminal they are printed below the rest."""
REF_WIDTH = 32
NO_TERMINAL = (200, 0)


def register(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "--since", default="1d", metavar="TIME", help="30m, 12h, 1d, or an ISO time (%(default)s)"
    )
    parser.add_argument("--source", default="", help="part of a source's or registry's connection or path")
    parser.add_argument("--chain", default="", help="only changes that this chain takes")
    parser.add_argument("--ref", default="", help="branch, tag or image; may contain `*`")
    parser.add_argument("--gaps", action="store_true", help="only missed changes; exit code 1 if any")
    parser.add_argument("--own", action="store_true", help="include the chains' own writes to registries")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the ledger: all changes seen, with their runs.

    Returns:
        0; 1 with `--gaps` if any are found; 2 for a wrong command line.
    """
    now = datetime.now(UTC)
    try:
        since = parse_since(args.since, now)
    except UsageError as error:
        print(f"--{error}", file=sys.stderr)  # noqa: T201 - a command speaks to a terminal
        return USAGE
    ledger = _read(since, now)
    wanted = Wanted(source=args.source, chain=args.chain, ref=args.ref, gaps=args.gaps, own=args.own)
    shown = [change for change in ledger.changes if wanted.takes(change, ledger.watches.get(change.place))]
    if args.json:
        for change in shown:
            print(json.dumps(change.to_xcom(), ensure_ascii=True))  # noqa: T201
    elif shown:
        width = shutil.get_terminal_size(NO_TERMINAL).columns
        print("\n".join(table(shown, width)))  # noqa: T201
    print("\n".join(summary(ledger, shown)), file=sys.stderr)  # noqa: T201
    return FAILED if args.gaps and shown else DONE


def _read(since: datetime, now: datetime) -> Ledger:
    # The records are in Airflow's database, which server commands may read, but tasks may not.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    # Airflow logs to standard output, which is reserved for the results.
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    from delivery_chain.airflow_db.push_events import read  # noqa: PLC0415 - Airflow, seconds
    from delivery_chain.airflow_db.session import transaction  # noqa: PLC0415

    try:
        with transaction() as session:
            return read(session, since, now)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0][:300]
        raise ConfigurationError(
            f"Airflow's database can't be read: {reason}. This command needs the configuration of Airflow's "
            "servers: AIRFLOW_HOME, or the same AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
        ) from error


def table(shown: Sequence[LedgerLine], width: int) -> list[str]:
    """Format the changes as lines for a terminal of `width` columns."""
    rows = [_cells(change) for change in shown]
    sizes = [
        max(len(HEADS[at]), *(len(text) for row in rows for text in row[at])) for at in range(len(HEADS) - 1)
    ]
    used = sum(sizes) + 2 * len(sizes)
    beside = width - used >= LEAST
    lines = [_line([*HEADS[:-1], HEADS[-1] if beside else ""], sizes)]
    for *cells, runs in rows:
        if beside:
            wrapped = _wrapped(runs, width - used, "  ")
            lines += [_line(texts, sizes) for texts in zip_longest(*cells, wrapped, fillvalue="")]
        else:
            lines += [_line(texts, sizes) for texts in zip_longest(*cells, [], fillvalue="")]
            lines += ["    " + line for line in _wrapped(runs, max(20, width - 4), "  ")]
    return lines


def summary(ledger: Ledger, shown: Sequence[LedgerLine]) -> list[str]:
    """Return the summary lines below the table."""
    gaps = sum(bool(change.gaps) for change in shown)
    missed = f", {gaps} with gaps" if gaps else ""
    count = f"{len(shown)} change{'s' if len(shown) != 1 else ''}"
    lines = [f"{count} since {ledger.since:%Y-%m-%d %H:%M} UTC{missed}"]
    if ledger.cut:
        lines.append("more exist: only the newest were read, and the list is complete since the time above")
    if ledger.skipped:
        lines.append(
            f"{ledger.skipped} records were written by another version of this package, and were skipped"
        )
    lines += [f"not polling: {plain(one.title)}: {one.idle}" for one in ledger.watches.values() if one.idle]
    return lines


def plain(text: str) -> str:
    """Strip terminal control characters from untrusted text."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def _cells(change: LedgerLine) -> tuple[list[str], ...]:
    by = [_times(change.by, change.times)]
    by += [
        f"{_times(sight.by, sight.times)} +{span(timedelta(seconds=sight.after))}" for sight in change.also
    ]
    runs = [_result_line(change, result) for result in change.outcomes]
    runs += [change.why] if change.why else []
    runs = runs or ["no run"]
    runs += [f"GAP {gap}" for gap in change.gaps]
    name = plain(change.name)
    short = name if len(name) <= REF_WIDTH else f"{name[: REF_WIDTH - 1]}…"
    time = f"{change.at.astimezone(UTC):%m-%d %H:%M:%S}"
    return (
        [time],
        [short],
        [plain(change.short)],
        [plain(text) for text in by],
        [plain(text) for text in runs],
    )


def _result_line(change: LedgerLine, result: StartResult) -> str:
    run = change.standing(result)
    return f"{result.sentence}, {run.word}" if run else result.sentence


def _times(by: str, times: int) -> str:
    return f"{by} x{times}" if times > 1 else by


def _wrapped(texts: Iterable[str], width: int, indent: str) -> list[str]:
    return [line for text in texts for line in _folded(text, width, indent)]


def _folded(text: str, width: int, indent: str) -> list[str]:
    # Users copy commands from these lines, so do not break them within a word.
    return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)


def _line(texts: Sequence[str], sizes: Sequence[int]) -> str:
    cells = [text.ljust(size) for text, size in zip(texts, sizes, strict=False)]
    return "  ".join([*cells, *texts[len(sizes) :]]).rstrip()
