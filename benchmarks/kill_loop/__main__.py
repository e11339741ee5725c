"""Pushes releases into a sandbox of its own while its processes are killed at random, then checks the outcomes.

`python -m benchmarks.kill_loop --minutes 20 --seed 1` exits with 0 if nothing was lost, doubled, let through, recorded
falsely or left behind. The seed repeats the random choices, but not the exact moments of the kills.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.kill_loop.loop import Loop, Options
from benchmarks.kill_loop.watching import dumped

from delivery_chain.sandbox.console import Console
from delivery_chain.sandbox.layout import Layout

if TYPE_CHECKING:
    from benchmarks.kill_loop.loop import Result


def show(result: Result, console: Console) -> None:
    """Print the figures, and each violation with its evidence."""
    kills = sum(result.kills.values())
    console.line()
    console.line(
        f"{result.pushes} pushes ({result.vulnerable} vulnerable), {kills} kills, {sum(result.restarts.values())} "
        f"restarts in {result.loop_seconds:.0f} s, quiet after {result.quiet_seconds:.0f} s; {result.database}, "
        f"seed {result.options.seed}"
    )
    for name in ("ways", "kills", "killed_steps", "restarts", "runs"):
        figures = sorted(getattr(result, name).items(), key=lambda one: -one[1])
        console.line(f"{name.replace('_', ' ')}: {', '.join(f'{what} {count}' for what, count in figures)}")
    console.line(
        f"{result.deliveries} deliveries, {result.repeated_deliveries} of them repeated; {result.looks} polls"
    )
    if not result.settled:
        console.line("not all runs had ended when this was judged; --quiet-minutes waits longer")
    console.line(", ".join(f"{count} {kind}" for kind, count in result.counts.items()))
    for one in result.violations:
        console.line(f"{one.kind.upper()}: {one.what}")
        if one.evidence:
            console.line(f"    {one.evidence}")


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill_loop", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--minutes", type=float, default=3.0, help="duration of pushes and kills (%(default)s)"
    )
    parser.add_argument("--database", choices=("auto", "sqlite", "postgresql"), default="auto")
    parser.add_argument("--pushes", type=float, default=3.3, help="per minute (%(default)s)")
    parser.add_argument("--kills", type=float, default=5.5, help="per minute (%(default)s)")
    parser.add_argument("--quiet-minutes", type=float, default=10.0, help="maximum wait for the last runs")
    parser.add_argument("--state", type=Path, help="new folder for the sandbox; kept with --keep")
    parser.add_argument("--keep", action="store_true", help="keep the folder, with all logs, at the end")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    given = parser.parse_args()
    options = Options(
        seed=given.seed,
        minutes=given.minutes,
        database=given.database,
        pushes=round(given.pushes * given.minutes),
        kills=round(given.kills * given.minutes),
        quiet_minutes=given.quiet_minutes,
    )
    root = given.state or Path(tempfile.mkdtemp(prefix="kill-loop-"))
    root.mkdir(parents=True, exist_ok=True, mode=0o755)
    root.chmod(0o755)
    console = Console()
    # Handle SIGTERM like Ctrl-C, which stops everything that was started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = Loop(Layout(root.absolute()), options, console).run(keep=given.keep)
    finally:
        if not given.keep:
            shutil.rmtree(root, ignore_errors=True)
    show(result, console)
    if given.json:
        given.json.write_text(dumped(result.to_json()) + "\n", "utf-8")
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
