"""Check the locked packages for known vulnerabilities: `make audit`, or `python scripts/audit.py [OPTION…]`.

Exit codes: 0 every package was looked up, and none is known to be vulnerable; 1 some are; 3 not all could be looked
up, so the result is unknown. Options are passed on to pip-audit (`--ignore-vuln ID`, `--vulnerability-service osv`).

pip-audit itself succeeds even if its service knows none of the packages: it treats "not found" like a package without
vulnerabilities. So its output is compared with the lock, and it is also asked about a probe, a release with
vulnerabilities that have been public since 2021. A service that does not report those can't be trusted for the rest.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCKS = (ROOT / "requirements.lock", ROOT / "scripts" / "audit.lock")
"""Lock files to check: that of the project, and that of pip-audit itself."""
ENVIRONMENT = ROOT / ".venv" / "audit"
"""Environment for pip-audit alone, so that its packages do not extend the project's lock."""
PROBE = ("django", "3.2")
"""The probe: a release with many advisories, the first being CVE-2021-31542. It is in none of the locks."""
FOUND, NO_RESULT = 1, 3
SECONDS = 900
Package = tuple[str, str]
"""Name and version."""


@dataclass(frozen=True)
class Judgement:
    """Result of the check."""

    lines: tuple[str, ...]
    exit_code: int


def locked(*texts: str) -> set[Package]:
    """Parse every package of some lock files, including those for other systems and Python versions."""
    return {
        match for text in texts for match in re.findall(r"^([a-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    }


def judge(wanted: set[Package], dependencies: list[dict[str, Any]]) -> Judgement:
    """Compare pip-audit's output with the packages that it was asked about.

    Args:
        wanted: The locked packages.
        dependencies: `dependencies` of pip-audit's JSON: name with version and vulns, or with a skip_reason.
    """
    answers = {
        (entry["name"], entry["version"]): entry["vulns"] for entry in dependencies if "version" in entry
    }
    if not answers.get(PROBE):
        probe = " ".join(PROBE)
        text = f"no result: the service does not report {probe}, which is vulnerable, so it can't be trusted"
        return Judgement((text, "It can't be reached, or a mirror answers in its place."), NO_RESULT)
    vulnerable = sorted(wanted & {package for package, found in answers.items() if found})
    lines = [_line(package, answers[package]) for package in vulnerable]
    missing = [f"{name} {version}" for name, version in sorted(wanted - answers.keys())]
    if missing:
        lines.append(f"no result for {len(missing)} of {len(wanted)} packages: {', '.join(missing)}")
    if not lines:
        lines.append(f"{len(wanted)} packages were looked up, none has a known vulnerability")
    return Judgement(tuple(lines), FOUND if vulnerable else NO_RESULT if missing else 0)


def _line(package: Package, found: list[dict[str, Any]]) -> str:
    ids = [
        "/".join([entry["id"], *sorted(entry["aliases"])])
        + f" (fixed in {', '.join(entry['fix_versions']) or 'no release'})"
        for entry in found
    ]
    return f"{package[0]} {package[1]}: {'; '.join(ids)}"


def look_up(program: Path, packages: set[Package], options: list[str]) -> list[dict[str, Any]]:
    """Run pip-audit, repeatedly if the locks have several versions of a package, which it refuses at once.

    Raises:
        RuntimeError: pip-audit failed; the message says why.
    """
    rounds: list[dict[str, str]] = []
    for name, version in sorted(packages):
        free = next((one for one in rounds if name not in one), None)
        if free is None:
            rounds.append(free := {})
        free[name] = version
    return [entry for one in rounds for entry in _ask(program, one, options)]


def _ask(program: Path, versions: dict[str, str], options: list[str]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        file = Path(folder, "packages.txt")
        file.write_text(
            "".join(f"{name}=={version}\n" for name, version in versions.items()), encoding="utf-8"
        )
        command = [
            str(program),
            "--no-deps",
            "--disable-pip",
            "--format",
            "json",
            "--progress-spinner",
            "off",
        ]
        done = _run([*command, "--requirement", str(file), *options])
    try:
        dependencies: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, LookupError, TypeError):
        raise RuntimeError(f"pip-audit gave no answer (exit code {done.returncode}); {_last(done)}") from None
    return dependencies


def prepare() -> Path:
    """Return the path of pip-audit in its own environment, which is created from scripts/audit.lock if absent.

    Raises:
        RuntimeError: pip-audit can't be installed; the message says why.
    """
    lock = LOCKS[1].read_text(encoding="utf-8")
    stamp = ENVIRONMENT / "made-from"
    program = ENVIRONMENT / "bin" / "pip-audit"
    if program.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == lock:
        return program
    venv.create(ENVIRONMENT, with_pip=True, clear=True)
    pip = [
        str(ENVIRONMENT / "bin" / "python"),
        "-m",
        "pip",
        "-qq",
        "--disable-pip-version-check",
        "--no-input",
    ]
    done = _run([*pip, "install", "--require-hashes", "-r", str(LOCKS[1])])
    if done.returncode:
        raise RuntimeError(f"pip-audit can't be installed; {_last(done)}")
    stamp.write_text(lock, encoding="utf-8")
    return program


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def _last(done: subprocess.CompletedProcess[str]) -> str:
    return f"its last line: {([line for line in done.stderr.splitlines() if line.strip()] or ['none'])[-1][:500]}"


def main(options: list[str]) -> int:
    """Check everything, print the result, and return the exit code."""
    packages = locked(*(lock.read_text(encoding="utf-8") for lock in LOCKS))
    try:
        judgement = judge(packages, look_up(prepare(), packages | {PROBE}, options))
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        judgement = Judgement((f"no result: {error}",), NO_RESULT)
    print("\n".join(f"audit: {line}" for line in judgement.lines))
    return judgement.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
