"""Runs all tests in two concurrent processes: the end-to-end tests mostly wait for Airflow, while the others compute.

The output of the second process is printed after that of the first. Options are passed on to both.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = (("tests/unit", "tests/integration"), ("tests/e2e",))


def main(options: list[str]) -> int:
    """Run all tests; return the first exit code that is not 0."""
    with tempfile.TemporaryDirectory(prefix="delivery-chain-tests-") as folder:
        outputs = [Path(folder, f"{number}.txt") for number in range(1, len(PARTS))]
        # Ctrl-C reaches all processes, and each cleans up after itself.
        signal.signal(signal.SIGINT, lambda *_: None)
        others = [_start(part, options, output) for part, output in zip(PARTS[1:], outputs, strict=True)]
        codes = [_start(PARTS[0], options, None).wait(), *(other.wait() for other in others)]
        for output in outputs:
            sys.stdout.write(output.read_text("utf-8", "replace"))
            sys.stdout.flush()
    return next((code for code in codes if code), 0)


def _start(part: tuple[str, ...], options: list[str], output: Path | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pytest", "-q", *options, *part]
    if output is None:
        return subprocess.Popen(command, cwd=ROOT)
    with output.open("wb") as file:
        return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
