"""Builds an image with buildah and pushes it; the worker keeps nothing of it.

Every build has a storage of its own in one folder that is named after the target: builds don't share layers,
locks or leftovers, and a build that is repeated after a kill begins by removing what the killed one left.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from delivery_chain.core.platform import Platform
from delivery_chain.core.reference import Reference, check_digest
from delivery_chain.errors import InvalidReference, ToolError
from delivery_chain.tools import buildah_errors, isolation, process
from delivery_chain.tools.buildah_config import write_auth, write_config
from delivery_chain.tools.isolation import Isolation, Network, Sandbox
from delivery_chain.tools.probe import exit_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from delivery_chain.core.registry import Registry

__all__ = ["BuildOutput", "BuildRequest", "Isolation", "Network", "Sandbox", "build_and_push"]

PROBE_SECONDS = 60.0
_IMAGE = "localhost/build"
_PLATFORM = Platform.LINUX_ARM64 if os.uname().machine == "aarch64" else Platform.LINUX_AMD64
_sandboxes: dict[tuple[Isolation, Network], Sandbox] = {}


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What is built and where it goes."""

    context: Path
    """Folder that COPY and ADD see, from `resolve_context`. It is only read."""
    dockerfile: Path
    platform: Platform
    target: str
    """`host[:port]/name:tag`; also names the build, so that a retry finds its leftovers."""
    args: Mapping[str, str] = field(default_factory=dict)
    """Build arguments. Not for secrets: they are in the image's history."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuildOutput:
    """What a build made."""

    digest: str
    """Of the manifest that the registry has now."""
    build_seconds: float
    push_seconds: float
    sandbox: Sandbox
    """The isolation that was used."""


def build_and_push(
    request: BuildRequest,
    *,
    registry: Registry,
    pull_registries: Sequence[Registry] = (),
    workdir: Path,
    deadline: float,
    on_line: Callable[[str], None] | None = None,
    isolation: Isolation = Isolation.AUTO,
    network: Network = Network.AUTO,
) -> BuildOutput:
    """Build one platform's image and push it.

    Args:
        request: What to build.
        registry: Where `request.target` is.
        pull_registries: Registries of base images that need a login, plain http or a CA of their own.
        workdir: Folder on a disk with room for the image three times; files go below it and are removed.
        deadline: Point on the clock of `time.monotonic()`, seconds.
        on_line: Called with each line of the build, credentials masked.
        isolation: What stands between RUN steps and this machine.
        network: Where RUN steps may connect to.

    Returns:
        The pushed manifest's digest, and how long it took.

    Raises:
        BuildFailed: The Dockerfile or its context is at fault. Not retryable.
        RegistryError: A base image could not be pulled, or the image not pushed; its kind says whether a
            retry helps.
        DiskFull: No room. Retryable.
        ToolMissing: buildah, or a program for the isolation, is missing. Not retryable.
        ConfigurationError: The isolation that was asked for can't be had here. Not retryable.
        ToolTimeout: The deadline passed. Not retryable.
    """
    reference = Reference.parse(request.target)
    if reference.host != registry.host or reference.tag is None or reference.digest is not None:
        raise InvalidReference(f"build target {request.target!r}: expected {registry.host}/name:tag")
    workdir.mkdir(parents=True, exist_ok=True)
    sandbox = _sandbox(isolation, network, workdir)
    if on_line is not None:
        on_line(f"build of {request.target} for {request.platform}: {sandbox}")
    secrets = [one.password for one in (registry, *pull_registries) if one.password]
    with _Room(request, sandbox, workdir, deadline=deadline, on_line=on_line, secrets=secrets) as room:
        began = time.monotonic()
        room.build(pull_registries)
        built = time.monotonic()
        digest = room.push(registry)
        return BuildOutput(digest, built - began, time.monotonic() - built, sandbox)


def _sandbox(kind: Isolation, network: Network, workdir: Path) -> Sandbox:
    """What works here, found out once per process."""
    if (kind, network) not in _sandboxes:

        def probe(sandbox: Sandbox) -> None:
            with tempfile.TemporaryDirectory(dir=workdir, prefix="probe-") as folder:
                context = Path(folder) / "context"
                context.mkdir()
                _write_probe(context)
                target = f"localhost/probe:{os.getpid()}"
                request = BuildRequest(context, context / "Dockerfile", _PLATFORM, target)
                deadline = time.monotonic() + PROBE_SECONDS
                with _Room(request, sandbox, Path(folder), deadline=deadline) as room:
                    room.probe()

        _sandboxes[kind, network] = isolation.choose(kind, network, probe)
    return _sandboxes[kind, network]


def _write_probe(context: Path) -> None:
    lines = ["FROM scratch", "COPY Dockerfile /"]
    program = exit_program(os.uname().machine)
    if program is not None:
        (context / "program").write_bytes(program)
        (context / "program").chmod(0o755)
        lines += ["COPY program /program", 'RUN ["/program"]']
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")


class _Room:
    """One build's folder for the time of the build, and buildah as it runs in it."""

    def __init__(
        self,
        request: BuildRequest,
        sandbox: Sandbox,
        workdir: Path,
        *,
        deadline: float,
        on_line: Callable[[str], None] | None = None,
        secrets: Sequence[str] = (),
    ) -> None:
        key = hashlib.sha256(request.target.encode()).hexdigest()[:16]
        self._request = request
        self._sandbox = sandbox
        self._folder = workdir.resolve() / f"build-{key}"
        self._deadline = deadline
        self._on_line = on_line
        self._secrets = secrets
        self._first = None if sandbox.isolation is Isolation.CHROOT else isolation.first_id(key)
        self._entry = isolation.entry(sandbox, self._folder, request.context, self._first)
        self._seen, self._context = isolation.folders(sandbox, self._folder, request.context)

    def __enter__(self) -> Self:
        # What a killed build of the same target left.
        isolation.remove(self._folder)
        try:
            self._lay_out()
        except BaseException:
            isolation.remove(self._folder)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        isolation.remove(self._folder)

    def _lay_out(self) -> None:
        folder = self._folder
        folder.mkdir(mode=0o700)
        for name in ("home", "run", "tmp", "storage", "certificates"):
            (folder / name).mkdir(mode=0o700)
        (folder / "Dockerfile").write_bytes(self._request.dockerfile.read_bytes())
        isolation.write_network(self._sandbox, folder, self._seen)

    def build(self, registries: Sequence[Registry]) -> None:
        """Build the image into this build's storage."""
        request = self._request
        options = [f"--platform={request.platform}", f"--tag={_IMAGE}", "--pull", *self._proxy()]
        options += [f"--build-arg={name}={value}" for name, value in request.args.items()]
        # Not by arguments in LABEL: with cached layers those keep their first value.
        options += [f"--label={name}={value}" for name, value in request.labels.items()]
        options += [f"--annotation={name}={value}" for name, value in request.annotations.items()]
        try:
            with self._access(registries) as access:
                self._bud([*options, *access])
        except ToolError as error:
            raise buildah_errors.of_build(error, request.target) from error

    def probe(self) -> None:
        """Build only; nothing is pushed."""
        with self._access(()) as access:
            self._bud([f"--platform={self._request.platform}", *access])

    def _bud(self, options: Sequence[str]) -> None:
        common = ["bud", "--format=oci", "--retry=1", f"--file={self._seen}/Dockerfile"]
        run = isolation.run_options(self._sandbox, self._seen)
        self._buildah(*common, *run, *options, "--", str(self._context))

    def push(self, registry: Registry) -> str:
        """Push the image and return its digest."""
        target = self._request.target
        digest = self._folder / "run" / "digest"
        try:
            with self._access([registry]) as access:
                self._buildah(
                    "push", "--format=oci", "--retry=1", f"--digestfile={self._seen}/run/digest", *access,
                    "--", _IMAGE, f"docker://{target}",
                )  # fmt: skip
        except ToolError as error:
            raise buildah_errors.of_push(error, target) from error
        return check_digest(digest.read_text().strip())

    def _buildah(self, *arguments: str) -> None:
        storage = ["--root", f"{self._seen}/storage", "--runroot", f"{self._seen}/run/storage"]
        process.run(
            [*self._entry, "buildah", *storage, "--storage-driver", self._sandbox.driver, *arguments],
            tool="buildah",
            env=self._env(),
            deadline=self._deadline,
            on_line=self._on_line,
            secrets=self._secrets,
            merge=True,
        )

    def _env(self) -> dict[str, str]:
        env = process.base_env()
        env |= {
            # Hooks look for slirp4netns and ip, which Debian has among the system's programs.
            "PATH": f"{env['PATH']}:/usr/local/sbin:/usr/sbin:/sbin",
            "HOME": f"{self._seen}/home",
            "TMPDIR": str(self._seen / "tmp"),
            "XDG_RUNTIME_DIR": f"{self._seen}/run",
            "CONTAINERS_CONF": f"{self._seen}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{self._seen}/storage.conf",
            "CONTAINERS_REGISTRIES_CONF": f"{self._seen}/registries.conf",
        }
        if self._sandbox.isolation is not Isolation.CHROOT:
            # The user namespace is there already; buildah need not make one.
            env |= {"_CONTAINERS_USERNS_CONFIGURED": "done", "_CONTAINERS_ROOTLESS_UID": str(os.geteuid())}
        return env

    @staticmethod
    def _proxy() -> list[str]:
        """Proxies are for RUN steps too, except with a password in their URL."""
        urls = [value for name, value in process.base_env().items() if name.lower().endswith("_proxy")]
        return ["--http-proxy=false"] if any("@" in url for url in urls) else []

    @contextlib.contextmanager
    def _access(self, registries: Sequence[Registry]) -> Iterator[list[str]]:
        """Options for registries; the logins are on disk for the time of one command only."""
        write_config(self._folder, self._seen, registries)
        auth = self._folder / "auth.json"
        write_auth(auth, registries)
        self._hand_over()
        try:
            yield [f"--authfile={self._seen}/auth.json", f"--cert-dir={self._seen}/certificates"]
        finally:
            auth.unlink(missing_ok=True)

    def _hand_over(self) -> None:
        """Give what this process wrote to the root of the build's user namespace."""
        if self._first is None:
            return
        for parent, folders, files in os.walk(self._folder):
            for name in (".", *folders, *files):
                path = Path(parent, name)
                if path.lstat().st_uid == 0:
                    os.lchown(path, self._first, self._first)
            if Path(parent) != self._folder:
                continue
            # What buildah wrote is its own already.
            folders[:] = [name for name in folders if name not in {"storage", "run", "tmp"}]
