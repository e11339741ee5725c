"""Checks what many builds leave behind on a worker, of which some are killed and some cancelled, at random moments.

    .venv/bin/python benchmarks/worker.py [--builds 200] [--kills 20] [--cancels 20] [--seed 1]

Each build is the step `build` in Airflow's own task runner, in a forked process, with a git source and a registry on
this machine. Files, mounts, processes and cgroups are counted before and after; the exit code is 1 if they differ.
Everything is in a temporary folder.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

for folder in (Path(__file__).parents[1] / "tests", Path(__file__).parents[1] / "plugins"):
    sys.path.insert(0, str(folder))

from support.build_soak import Left, left, soak  # noqa: E402
from support.build_worker import build_worker  # noqa: E402
from support.builds import running_registry  # noqa: E402


def main() -> int:
    """Print a table of what existed before and after; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, number in (("builds", 200), ("kills", 20), ("cancels", 20), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=number)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "registry").mkdir()
        with running_registry(folder / "registry") as host, build_worker(folder, host) as worker:
            worker.end(worker.start("warm-up"))
            before, began = left(folder), time.monotonic()
            found = soak(
                worker, folder, random.Random(options.seed),  # noqa: S311 - no secret comes of it
                builds=options.builds, kills=options.kills, cancels=options.cancels,
            )  # fmt: skip
            after, seconds = left(folder), time.monotonic() - began
    for state, count in sorted(found.states.items()):
        print(f"{count:5}  {state}")
    print(f"{found.killed_after_all:5}  cancelled builds that needed SIGKILL after 5 s")
    print(f"\n{seconds:.0f} s; most files left by a killed build: {found.most_files}\n")
    print("| | before | after |\n|---|---:|---:|")
    for kind in Left.__dataclass_fields__:
        print(f"| {kind} | {len(getattr(before, kind))} | {len(getattr(after, kind))} |")
    return int(before != after)


if __name__ == "__main__":
    sys.exit(main())
