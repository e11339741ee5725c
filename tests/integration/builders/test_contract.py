"""The contract of builders: every builder in the table passes it, with a real registry."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from delivery_chain.builders.interface import BuildWork
from delivery_chain.builders.table import BUILDERS
from delivery_chain.core.names.platform import Platform
from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import (
    BuildFailed,
    ConfigurationError,
    DiskFull,
    InvalidReference,
    RegistryUnreachable,
    ToolTimeout,
    Unauthorized,
)
from support.builds import SCRATCH, Builder, own_namespace, run

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("buildah") is None, reason="needs root and buildah"),
]


@pytest.fixture(params=sorted(BUILDERS))
def build(request: pytest.FixtureRequest, tmp_path: Path) -> Builder:
    """Builds with one builder of the table."""
    return Builder(tmp_path, request.param)


def get(registry: Registry, path: str) -> bytes:
    request = urllib.request.Request(f"{registry.base_url}/v2/{path}")  # noqa: S310 - our own registry
    request.add_header("Accept", "application/vnd.oci.image.manifest.v1+json")
    if registry.username:
        login = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {login}")
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own registry
        return bytes(answer.read())


def config_of(registry: Registry, name: str, digest: str) -> dict[str, Any]:
    manifest = json.loads(get(registry, f"{name}/manifests/{digest}"))
    config: dict[str, Any] = json.loads(get(registry, f"{name}/blobs/{manifest['config']['digest']}"))
    return config


def test_digest_is_the_registrys(build: Builder, registry: Registry) -> None:
    """The returned digest is that of the registry's manifest under the target's tag."""
    output = build(registry, SCRATCH)
    manifest = get(registry, "shop/api/manifests/a")
    assert (output.digest, json.loads(manifest)["mediaType"]) == (
        sha256_digest(manifest),
        "application/vnd.oci.image.manifest.v1+json",
    )


def test_arguments_labels_and_annotations(build: Builder, registry: Registry) -> None:
    """Each arrives where it belongs; an argument in LABEL has today's value, not that of an earlier build."""
    dockerfile = "FROM scratch\nARG REV\nLABEL rev=$REV\nCOPY busybox /\n"
    build(registry, dockerfile, args={"REV": "1"})
    output = build(registry, dockerfile, args={"REV": "2"}, labels={"a.b": "c d=e"}, annotations={"x": "y"})
    config = config_of(registry, "shop/api", output.digest)
    manifest = json.loads(get(registry, f"shop/api/manifests/{output.digest}"))
    labels = {name: value for name, value in config["config"]["Labels"].items() if "buildah" not in name}
    assert (labels, manifest["annotations"]["x"]) == ({"rev": "2", "a.b": "c d=e"}, "y")


def test_foreign_platform_without_run_steps(build: Builder, registry: Registry) -> None:
    """An image of another architecture that only copies needs no emulation."""
    output = build(registry, SCRATCH, platform=Platform.LINUX_ARM64)
    config = config_of(registry, "shop/api", output.digest)
    assert (config["os"], config["architecture"]) == ("linux", "arm64")


def test_owners_of_files_are_those_of_the_dockerfile(build: Builder, registry: Registry) -> None:
    """The build's own range of users does not show in the image."""
    script = "PATH=/bin; busybox mkdir /d && busybox touch /d/f && busybox chown 33:44 /d/f"
    output = build(registry, SCRATCH + run(script))
    manifest = json.loads(get(registry, f"shop/api/manifests/{output.digest}"))
    owners = {}
    for layer in manifest["layers"]:
        blob = get(registry, f"shop/api/blobs/{layer['digest']}")
        listing = subprocess.run(
            ["tar", "tzv", "--numeric-owner"], input=blob, capture_output=True, check=True
        )
        for line in listing.stdout.decode().splitlines():
            fields = line.split()
            owners[fields[-1]] = fields[1]
    assert {name: owners[name] for name in ("bin/busybox", "d/f")} == {"bin/busybox": "0/0", "d/f": "33/44"}


def test_base_image_from_a_registry_that_wants_a_login(build: Builder, locked_registry: Registry) -> None:
    """Pull and push use the registries' logins; no line of the log holds the password."""
    build(locked_registry, SCRATCH, tag="base")
    base = f"FROM {locked_registry.host}/shop/api:base\n"
    build(
        locked_registry,
        base + run("echo robot"),
        tag="app",
        reads=own_namespace(locked_registry, "shop"),
    )
    assert get(locked_registry, "shop/api/manifests/app")
    assert "s3cr3t" not in "\n".join(build.lines)


def test_context_with_a_dockerignore(build: Builder, registry: Registry) -> None:
    """Files that .dockerignore names are not in the image."""
    (build.context / ".dockerignore").write_text("secret\n")
    (build.context / "secret").touch()
    build(registry, "FROM scratch\nCOPY . /src\nCOPY busybox /bin/busybox\n" + run("/bin/busybox ls -1 /src"))
    assert ("busybox" in build.lines, "secret" in build.lines) == (True, False)


def test_nothing_is_left_after_success_and_failure(build: Builder, registry: Registry) -> None:
    """Storage, logins and temporary files are removed, whether or not the build worked."""
    build(registry, SCRATCH)
    after_success = build.leftovers()
    with pytest.raises(BuildFailed):
        build(registry, SCRATCH + run("exit 3"))
    assert (after_success, build.leftovers()) == ([], [])


def test_failed_step_shows_its_output(build: Builder, registry: Registry) -> None:
    """The error has the step's last lines, and its message does not repeat what is in the log."""
    with pytest.raises(BuildFailed) as caught:
        build(registry, SCRATCH + run("echo the reason is $((41 + 1)); exit 3"))
    assert "the reason is 42" in caught.value.output
    assert ("the reason is 42" in str(caught.value), caught.value.__cause__) == (False, None)


def test_link_out_of_the_context_copies_nothing(build: Builder, registry: Registry) -> None:
    """COPY of a link that leads out of the context does not reach the worker's file."""
    (build.context / "link").symlink_to("/etc/passwd")
    with pytest.raises(BuildFailed):
        build(registry, "FROM scratch\nCOPY link /\n")


def test_push_with_a_wrong_password(build: Builder, locked_registry: Registry) -> None:
    """A refused login is permanent and does not show the password."""
    wrong = Registry(locked_registry.host, username="robot", password="wr0ng", plain_http=True)
    with pytest.raises(Unauthorized) as caught:
        build(wrong, SCRATCH)
    assert ("wr0ng" in str(caught.value), build.leftovers()) == (False, [])


def test_push_to_a_registry_that_is_down(build: Builder) -> None:
    """A registry that does not answer is retryable."""
    with pytest.raises(RegistryUnreachable):
        build(Registry("127.0.0.1:1", plain_http=True), SCRATCH)


def test_push_to_a_registry_without_tls(build: Builder, registry: Registry) -> None:
    """The builder never falls back to plain http."""
    with pytest.raises(RegistryUnreachable, match="no trusted TLS connection"):
        build(Registry(registry.host), SCRATCH)


@pytest.mark.parametrize("target", ["other.example.com/a:1", "{host}/a", "{host}/a:1@sha256:" + "0" * 64])
def test_target_must_be_a_tag_of_the_registry(
    build: Builder, tmp_path: Path, registry: Registry, target: str
) -> None:
    """A target elsewhere, or without a tag, is rejected before anything runs."""
    target = target.replace("{host}", registry.host)
    work = BuildWork(tmp_path, tmp_path / "Dockerfile", Platform.LINUX_AMD64, target, registry, tmp_path)
    with pytest.raises(InvalidReference):
        build.builder.build(work, seconds=10, log=print)


def test_timeout_stops_the_step(build: Builder, registry: Registry) -> None:
    """A step that hangs is stopped at the deadline and leaves nothing."""
    build(registry, SCRATCH)
    with pytest.raises(ToolTimeout):
        build(registry, SCRATCH + run("/bin/busybox sleep 4711"), seconds=3)
    assert (build.leftovers(), processes_with("4711")) == ([], [])


def test_disk_full(build: Builder, tmp_path: Path, registry: Registry) -> None:
    """A disk that fills up during the build is a retryable error, and everything written is removed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)], check=True)
    try:
        build.workdir = disk
        with pytest.raises(DiskFull):
            build(registry, SCRATCH + run("/bin/busybox dd if=/dev/zero of=/big bs=1M count=64"))
        assert build.leftovers() == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def processes_with(text: str) -> list[int]:
    """Processes that have an argument, except for this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text.encode() in path.read_bytes().split(b"\0") and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found


def mounts_below(folder: Path) -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line]


def test_killed_worker_and_retry(build: Builder, registry: Registry, tmp_path: Path) -> None:
    """After kill -9 of the worker in a RUN step, nothing runs or is mounted; a retry works and removes everything."""
    (build.context / "Dockerfile").write_text(SCRATCH + run("echo started; exec /bin/busybox sleep 4712"))
    code = f"""
from pathlib import Path
from delivery_chain.core.names.platform import Platform
from delivery_chain.core.names.registry import Registry
from delivery_chain.builders.interface import BuildWork
from delivery_chain.builders.table import BUILDERS
context = Path({str(build.context)!r})
work = BuildWork(
    context, context / "Dockerfile", Platform.LINUX_AMD64, "{registry.host}/shop/api:killed",
    Registry("{registry.host}", plain_http=True), Path({str(build.workdir)!r}),
)
BUILDERS.load({build.name!r})().build(work, seconds=100, log=lambda line: print(line, flush=True))
"""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        for line in worker.stdout:
            if line.strip() == "started":
                break
        # The shell prints this just before it becomes the program.
        until = time.monotonic() + 20
        while not processes_with("4712") and time.monotonic() < until:
            time.sleep(0.02)
        assert processes_with("4712")
        worker.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10
    while processes_with("4712") and time.monotonic() < until:
        time.sleep(0.02)
    left = build.leftovers()
    assert (processes_with("4712"), mounts_below(build.workdir), len(left)) == ([], [], 1)
    build(registry, SCRATCH, tag="killed")
    assert build.leftovers() == []


def test_a_probe_names_the_isolation_of_builds(build: Builder, registry: Registry) -> None:
    """The trial build reports the isolation that builds get."""
    said = build.builder.probe({}, build.workdir)
    assert (build(registry, SCRATCH).isolation, build.leftovers()) == (said, [])


def test_an_option_of_no_builder(build: Builder, registry: Registry) -> None:
    """The error names it, before anything runs."""
    with pytest.raises(ConfigurationError, match="'colour'"):
        build(registry, SCRATCH, options={"colour": "red"})


def test_a_name_of_no_builder() -> None:
    """The error lists the existing ones."""
    with pytest.raises(ConfigurationError, match=f"'kaniko': expected one of {', '.join(sorted(BUILDERS))}"):
        BUILDERS.load("kaniko")()
