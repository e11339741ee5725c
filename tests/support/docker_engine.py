"""A Docker engine for tests, from Debian's packages, and an image that replaces apache/airflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = ("docker.io", "containerd", "tini")
INCLUDED = "python3,python3-venv,python3-pip,ca-certificates"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
PASSED_ON = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)
"""Settings with which this machine reaches package registries; recorded nowhere else."""
BASE = """FROM {root}
{settings}
RUN useradd --uid 50000 --gid 0 --create-home airflow \\
    && install -d -o airflow -g 0 -m 0775 /opt/airflow && ln -s python3 /usr/bin/python
COPY entrypoint /entrypoint
RUN chmod 755 /entrypoint
ENTRYPOINT ["/entrypoint"]
USER airflow
"""
TRIVY = """FROM {root}
COPY trivy /usr/local/bin/trivy
"""


class Unavailable(Exception):
    """This machine has no engine or base image; the message says why."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A running dockerd."""

    socket: Path
    env: dict[str, str]

    def docker(self, *arguments: str, stdin: str = "", seconds: float = 60) -> str:
        """Run one command of the client; return its standard output."""
        command = ["docker", "--host", f"unix://{self.socket}", *arguments]
        done = subprocess.run(
            command, env=self.env, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )
        if done.returncode != 0:
            raise AssertionError(
                f"docker {arguments[0]}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done.stdout

    def build(self, tag: str, context: Path, *options: str, seconds: float = 60) -> None:
        """Build an image, whose steps use this machine's network."""
        self.docker(
            "build", "--quiet", "--network=host", f"--tag={tag}", *options, str(context), seconds=seconds
        )


@contextmanager
def engine(folder: Path) -> Iterator[Engine]:
    """Run an engine whose files and socket are in a folder; it creates no network of its own.

    Raises:
        Unavailable: This machine has no engine.
    """
    if os.geteuid() != 0:
        raise Unavailable("a Docker engine needs root")
    if shutil.which("apt-get") is None:
        raise Unavailable(
            "the Docker engine of these tests comes from Debian's packages, and there is no apt-get"
        )
    programs = folder / "programs"
    programs.mkdir()
    _ask(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *PACKAGES], cwd=programs)
    for package in sorted(programs.glob("*.deb")):
        _ask(["dpkg", "-x", str(package), str(programs)])
    path = os.pathsep.join([str(programs / "usr/bin"), str(programs / "usr/sbin"), os.environ["PATH"]])
    # Debian's client has no BuildKit.
    env = {"PATH": path, "HOME": str(folder), "DOCKER_BUILDKIT": "0"}
    made = Engine(folder / "docker.sock", env)
    options = [
        "--iptables=false",
        "--ip6tables=false",
        "--bridge=none",
        "--ip-masq=false",
        "--ip-forward=false",
    ]
    places = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
    command = ["dockerd", "--host", f"unix://{made.socket}", *options]
    command += [word for option, name in places.items() for word in (f"--{option}", str(folder / name))]
    log = folder / "log"
    with log.open("w") as file, subprocess.Popen(command, env=env, stdout=file, stderr=file) as process:
        try:
            _await(made, process, log)
            yield made
        finally:
            process.terminate()
            process.wait(120)
            # The engine leaves a mount of the machine's network namespace there.
            for line in Path("/proc/self/mountinfo").read_text().splitlines():
                if (place := line.split()[4]).startswith(f"{folder}/"):
                    subprocess.run(["umount", "--lazy", place], check=False)


def _await(made: Engine, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            made.docker("version", "--format={{.Server.Version}}")
        except AssertionError:
            if process.poll() is not None or time.monotonic() > until:
                raise Unavailable(f"dockerd does not run on this machine: {log.read_text()[-500:]}") from None
            time.sleep(0.1)
        else:
            return


def base_image(made: Engine, folder: Path) -> str:
    """Create an image with Debian, Python and the user `airflow`, like apache/airflow; return its tag.

    Raises:
        Unavailable: debootstrap is not installed, or can't reach a Debian mirror.
    """
    if shutil.which("debootstrap") is None:
        raise Unavailable("debootstrap, which makes the base image, is not installed")
    root = folder / "root"
    _ask(["debootstrap", "--variant=minbase", f"--include={INCLUDED}", "bookworm", str(root)], seconds=400)
    if (own := Path("/", CERTIFICATES)).is_file():
        shutil.copy(own, root / CERTIFICATES)
    for name in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / name)
    archive = folder / "root.tar"
    _ask(["tar", "-C", str(root), "-cf", str(archive), "."])
    shutil.rmtree(root)
    made.docker("import", str(archive), "stand-in:root", seconds=120)
    archive.unlink()
    context = folder / "base"
    context.mkdir()
    (context / "entrypoint").write_text('#!/bin/sh\nexec airflow "$@"\n')
    settings = "\n".join(f'ENV {name}="{os.environ[name]}"' for name in PASSED_ON if name in os.environ)
    (context / "Dockerfile").write_text(BASE.format(root="stand-in:root", settings=settings))
    made.build("stand-in:base", context, seconds=120)
    return "stand-in:base"


def trivy_image(made: Engine, folder: Path, program: Path) -> str:
    """Create an image with Trivy at the path of the official image, after `base_image`; return its tag."""
    context = folder / "trivy"
    context.mkdir()
    shutil.copy(program, context / "trivy")
    (context / "Dockerfile").write_text(TRIVY.format(root="stand-in:root"))
    made.build("stand-in:trivy", context, seconds=120)
    return "stand-in:trivy"


def _ask(command: list[str], *, cwd: Path | None = None, seconds: float = 120) -> None:
    """Run a command that needs something that this machine may not have."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{command[0]}: {(done.stderr or done.stdout).strip()[-500:]}")
