"""Copies images over connections that break at random, for a given time, and checks every outcome.

Run as `python benchmarks/copy/soak.py --minutes 5`; `--seed` repeats a run's choices. The exit code is 1 if a tag ever
pointed at an incomplete image, or a copy that reported success was incomplete.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from parts import ROOT, fresh

from delivery_chain.errors import RegistryError
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.api import copy_image, put_tag
from delivery_chain.oci.copy.limits import Limits
from support.oci_images import push_image
from support.oci_proxy import Break, Line, line_to

if TYPE_CHECKING:
    from delivery_chain.core.names.registry import Registry

HOWS = ("close", "reset", "stall")
ANY_SIZE = (10, 4000, 70_000, 600_000, 1_500_000, 5_000_000, 12_000_000)


@dataclass(slots=True)
class Tally:
    """Counts of what happened."""

    outcomes: Counter[str] = field(default_factory=Counter)
    breaks: int = 0
    size: int = 0
    """Total bytes of the images that arrived."""
    sent: int = 0
    resent: int = 0
    kills: int = 0
    wrong: list[str] = field(default_factory=list)


class Soak:
    """One run."""

    def __init__(self, source: Registry, target: Registry, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311
        self.source, self.target = source, target
        self.tally = Tally()
        self.number = 0

    def turn(self) -> None:
        """Copy one image, with broken connections or with kills, until it arrives or a few tries have failed."""
        self.number += 1
        name = f"soak/image{self.number % 50}"
        with RegistryClient(self.source) as here:
            sizes = tuple(self.chance.choice(ANY_SIZE) for _ in range(self.chance.randint(1, 5)))
            image = push_image(here, name, seed=self.number, sizes=sizes)
            put_tag(here, name, f"v{self.number}", image.digest)
        way = self.killed if self.chance.random() < 0.25 else self.broken  # noqa: PLR2004 - a quarter
        way(name, image.digest)

    def broken(self, name: str, digest: str) -> None:
        """Copy in this process, over two connections that break."""
        with line_to(self.source) as one, line_to(self.target) as other:
            for line in (one, other):
                self.plan_breaks(line)
            with (
                RegistryClient(one.registry, timeout=1) as here,
                RegistryClient(other.registry, timeout=1) as there,
            ):
                try:
                    result = copy_image(here, name, digest, there, name, limits=Limits(first_wait=0.01))
                except RegistryError as error:
                    self.tally.outcomes[type(error).__name__] += 1
                    self.expect(name, digest, whole=False)
                else:
                    self.tally.outcomes["arrived"] += 1
                    self.tally.sent += result.bytes
                    self.tally.resent += result.resent
                    self.expect(name, digest, whole=True)
            self.tally.breaks += one.broken + other.broken

    def plan_breaks(self, line: Line) -> None:
        for _ in range(self.chance.choice((0, 1, 1, 2, 5))):
            after = self.chance.choice(
                (1, 300, self.chance.randrange(20_000), self.chance.randrange(6_000_000))
            )
            line.breaks.append(Break(self.chance.random() < 0.5, after, self.chance.choice(HOWS)))  # noqa: PLR2004

    def killed(self, name: str, digest: str) -> None:
        """Run the command: kill it at random moments a few times, then let it finish."""
        tag = f"v{self.number}"
        places = [f"{registry.host}/{name}" for registry in (self.source, self.target)]
        plain = [f"--plain-http={registry.host}" for registry in (self.source, self.target)]
        program = [
            sys.executable,
            "-c",
            "from delivery_chain.commands.main import main; raise SystemExit(main())",
            "copy",
        ]
        command = [*program, *plain, "--limit-rate=40M", f"{places[0]}:{tag}", places[1]]
        for attempt in range(3):
            environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
            quiet = subprocess.DEVNULL
            process = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60 if attempt == 2 else self.chance.uniform(0.1, 0.8))  # noqa: PLR2004 - the last one
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                self.tally.kills += 1
            with RegistryClient(self.target) as there:
                if there.head_manifest(name, tag) is not None:
                    self.expect(name, digest, whole=True)
        self.tally.outcomes["arrived after kills" if process.returncode == 0 else "command failed"] += 1
        if process.returncode != 0:
            self.tally.wrong.append(f"{name}: the undisturbed command ended with {process.returncode}")

    def expect(self, name: str, digest: str, *, whole: bool) -> None:
        """Check the target with a client whose connection does not break."""
        with RegistryClient(self.target, timeout=30) as there:
            if not whole and there.head_manifest(name, digest) is None:
                return
            try:
                # A manifest at the target must have all its parts, whatever the copy reported.
                manifest = there.get_manifest(name, digest)
                self.tally.size += sum(len(there.get_blob(name, blob.digest)) for blob in manifest.blobs)
            except RegistryError as error:
                self.tally.wrong.append(f"{name}@{digest}: {error}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", default="/dev/shm", help="where the registries keep their data")  # noqa: S108
    args = parser.parse_args()
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(dir=args.folder))
        source, target = (stack.enter_context(fresh(Path(name) / side)) for side in ("from", "to"))
        soak = Soak(source, target, args.seed)
        end = time.monotonic() + args.minutes * 60
        while time.monotonic() < end:
            soak.turn()
    tally = soak.tally
    print(f"{soak.number} images, {tally.breaks} broken connections, {tally.kills} kills, seed {args.seed}")
    print("outcomes: " + ", ".join(f"{what} {count}" for what, count in sorted(tally.outcomes.items())))
    again = 100 * tally.resent / max(1, tally.sent)
    print(
        f"{tally.sent / 1e6:.0f} MB sent in this process, {tally.resent / 1e6:.0f} MB of them again ({again:.1f} %)"
    )
    print(f"{tally.size / 1e6:.0f} MB read back and checked, {len(tally.wrong)} of them wrong")
    print("\n".join(tally.wrong))
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
