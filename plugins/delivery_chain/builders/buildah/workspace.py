"""Creates one build's temporary folders, and runs buildah's commands in them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from delivery_chain.builders.buildah import errors as buildah_errors
from delivery_chain.builders.buildah import isolation
from delivery_chain.builders.buildah.config import Settings, logins
from delivery_chain.builders.buildah.foreign_layers import pinned
from delivery_chain.builders.buildah.isolation import WRITTEN, Isolation, Network, Room, Sandbox
from delivery_chain.core.names.reference import check_digest
from delivery_chain.errors import RegistryError, ToolError
from delivery_chain.tools import process
from delivery_chain.tools.removal import remove
from delivery_chain.tools.secret_files import passed_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from delivery_chain.core.dockerfile.base_image_policy import ImageName, ReadRule
    from delivery_chain.core.dockerfile.base_images import Need
    from delivery_chain.core.names.registry import Registry

_IMAGE = "localhost/build"
_UMASK = 0o022
_RESULT_BYTES = 200


@dataclass(frozen=True, slots=True)
class Caller:
    """The deadline and the log of one build, which all its commands share."""

    deadline: float
    """Seconds on the clock of `time.monotonic()`."""
    on_line: Callable[[str], None] | None = None
    secrets: Sequence[str] = ()


class BuildRoom:
    """The folders of one build; created on entry, removed on exit."""

    def __init__(self, name: str, context: Path, workdir: Path, sandbox: Sandbox, caller: Caller) -> None:
        """Create the object, but no folders yet.

        Args:
            name: Name of the build, the same for every try, so that a retry finds the leftovers of the previous one.
            context: The folder that COPY and ADD see.
            workdir: Folder on a disk with free space.
            sandbox: The sandbox to build in.
            caller: Deadline and log.
        """
        key = hashlib.sha256(name.encode()).hexdigest()[:16]
        self._sandbox = sandbox
        self._folder = workdir.resolve() / f"build-{key}"
        self._caller = caller
        self._first = None if sandbox.isolation is Isolation.CHROOT else isolation.first_id(key)
        self._room = Room(
            self._folder / "work", self._folder / "settings", context, result=self._folder / "result"
        )
        self._seen = isolation.seen(sandbox, self._room)
        self._settings = Settings(self._room.settings, self._seen.settings)

    def __enter__(self) -> Self:
        # Remove leftovers of a killed build of the same target.
        remove(self._folder)
        try:
            self._folder.mkdir(mode=0o700)
            for folder in (self._room.work, *(self._room.work / name for name in WRITTEN), self._room.result):
                folder.mkdir()
                folder.chmod(0o755)
        except BaseException:
            remove(self._folder)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        remove(self._folder)

    def write_dockerfile(self, content: bytes) -> None:
        """Write the files that the build reads."""
        self._settings.write(content)

    def pull(self, image: ImageName, rule: ReadRule, platform: str, need: Need) -> None:
        """Pull one base image into this build's storage, with only the login of its rule.

        Raises:
            BuildFailed: One of its layers is outside its registry. Not retryable.
            RegistryError: The pull failed; its class says whether to retry.
        """
        what = f"{need} ({image}, read by {rule.rule})"
        # Without a login, the Dockerfile may name any host, so the worker's own services must be unreachable.
        private = self._sandbox.network is Network.PRIVATE and not rule.named
        wanted = image if private else self._pinned(image, rule, platform, what)
        try:
            self._registry_command(
                ["pull", "--quiet", "--policy=always", f"--platform={platform}"],
                [f"docker://{wanted}"],
                rule.registry,
                image.host,
                network=Network.PRIVATE if private else Network.HOST,
            )
        except ToolError as error:
            raise buildah_errors.of_pull(error, what) from error
        if wanted != image:
            entry = isolation.entry(self._sandbox, self._room, self._first, network=Network.HOST)
            self._buildah(entry, ["tag", "--", str(wanted), str(image)], self._env())

    @staticmethod
    def _pinned(image: ImageName, rule: ReadRule, platform: str, what: str) -> ImageName:
        try:
            return pinned(image, rule.registry, platform, what)
        except RegistryError as error:
            raise type(error)(f"{what}: {error}", retry_after=error.retry_after) from error

    def triggers(self, image: ImageName) -> bytes:
        """Return the ONBUILD instructions of a pulled image, one per line.

        Raises:
            ToolError: As `process.run`.
        """
        entry = isolation.entry(self._sandbox, self._room, self._first, network=Network.HOST)
        form = "{{range .Docker.Config.OnBuild}}{{println .}}{{end}}"
        arguments = ["inspect", "--type=image", f"--format={form}", "--", str(image)]
        return self._buildah(entry, arguments, self._env(), merge=False)

    def build(self, options: Sequence[str]) -> None:
        """Build the image into this build's storage, without logins or pulls.

        Raises:
            ToolError: As `process.run`.
        """
        settings = self._seen.settings
        entry = isolation.entry(self._sandbox, self._room, self._first)
        common = ["bud", "--format=oci", f"--file={settings}/Dockerfile", f"--tag={_IMAGE}", "--pull=never"]
        common += [f"--authfile={settings}/anonymous.json", *self._proxy_options()]
        run = isolation.run_options(self._sandbox)
        env = {name: value for name, value in self._env().items() if not _is_login(name, value)}
        self._buildah(entry, [*common, *run, *options, "--", str(self._seen.context)], env)

    def push(self, registry: Registry, target: str) -> str:
        """Push the image and return its digest.

        Raises:
            RegistryError: The push failed; its class says whether to retry.
        """
        options = ["push", "--format=oci", f"--digestfile={self._seen.result}/digest"]
        host = target.partition("/")[0]
        try:
            self._registry_command(options, [_IMAGE, f"docker://{target}"], registry, host)
        except ToolError as error:
            raise buildah_errors.of_push(error, target) from error
        return check_digest(_read(self._room.result / "digest"))

    def _registry_command(
        self,
        options: Sequence[str],
        images: Sequence[str],
        registry: Registry,
        host: str,
        *,
        network: Network = Network.HOST,
    ) -> None:
        """Run a command that accesses one registry, and runs none of the build's own programs."""
        self._settings.write_registry(registry, host)
        entry = isolation.entry(self._sandbox, self._room, self._first, network=network, registries=True)
        with passed_file(logins(registry)) as descriptor:
            access = [
                "--retry=1",
                f"--authfile=/proc/self/fd/{descriptor}",
                f"--cert-dir={self._seen.settings}/certificates",
            ]
            self._buildah(entry, [*options, *access, "--", *images], self._env(), [descriptor])

    def _buildah(
        self,
        entry: Sequence[str],
        arguments: Sequence[str],
        env: Mapping[str, str],
        descriptors: Sequence[int] = (),
        *,
        merge: bool = True,
    ) -> bytes:
        work = self._seen.work
        storage = ["--root", f"{work}/storage", "--runroot", f"{work}/run/storage"]
        return process.run(
            [*entry, "buildah", *storage, "--storage-driver", self._sandbox.driver, *arguments],
            tool="buildah",
            env=env,
            deadline=self._caller.deadline,
            on_line=self._caller.on_line,
            secrets=self._caller.secrets,
            merge=merge,
            descriptors=descriptors,
            umask=_UMASK,
        ).stdout

    def _env(self) -> dict[str, str]:
        settings, work = self._seen.settings, self._seen.work
        env = isolation.with_sbin() | {
            "HOME": f"{settings}/home",
            "TMPDIR": str(work / "tmp"),
            "XDG_RUNTIME_DIR": f"{work}/run",
            "CONTAINERS_CONF": f"{settings}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{settings}/storage.conf",
            "CONTAINERS_REGISTRIES_CONF": f"{settings}/registries.conf",
        }
        if self._sandbox.isolation is not Isolation.CHROOT:
            # The user namespace already exists; buildah must not create another.
            env |= {"_CONTAINERS_USERNS_CONFIGURED": "done", "_CONTAINERS_ROOTLESS_UID": str(os.geteuid())}
        return env

    @staticmethod
    def _proxy_options() -> list[str]:
        """Options that pass proxies on to RUN steps, except those with a password in their URL."""
        env = process.base_env()
        return ["--http-proxy=false"] if any(_is_login(name, env[name]) for name in env) else []


def _is_login(name: str, value: str) -> bool:
    return name.lower().endswith("_proxy") and "@" in value


def _read(path: Path) -> str:
    """Read a small file that a command wrote. Symlinks are not followed: only a hostile build would put one there."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with contextlib.closing(os.fdopen(descriptor, "rb")) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ToolError("buildah push: expected a file with the digest, found something else")
        return file.read(_RESULT_BYTES).decode(errors="replace").strip()
