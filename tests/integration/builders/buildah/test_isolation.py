"""A hostile Dockerfile under each isolation sees and does exactly what `docs/build-isolation.md` says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.builders.buildah import builder
from delivery_chain.builders.buildah.isolation import Isolation, Network
from delivery_chain.builders.interface import BuildWork
from delivery_chain.builders.table import BUILDERS
from delivery_chain.core.names.platform import Platform
from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import BuildFailed, ConfigurationError, DeliveryChainError
from support.builds import copy_shell, listening_api, own_address, running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("buildah") is None, reason="needs root and buildah"),
]
MARK = "hostile-test-secret"
HOSTILE = r"""
PATH=/bin
say() { echo "FACT $1=$2"; }
try() { name=$1; shift; if "$@" >/dev/null 2>&1; then say "$name" yes; else say "$name" no; fi; }
rewrite() { local v; v=$(busybox cat "$1") && echo "$v" > "$1"; }
connect() { (exec 3<>"/dev/tcp/$1/$2") }
sees() { busybox cat /proc/[0-9]*/"$1" 2>/dev/null | busybox tr '\0' '\n' | busybox grep -qFf /mark; }
disk() { for d in $(busybox find /dev -type b); do busybox dd if="$d" bs=512 count=1 && return; done; false; }
try worker_process_listed sees cmdline
try worker_environment_read sees environ
try private_file_read busybox cat "/proc/1/root$PRIVATE"
try world_readable_file_read busybox cat "/proc/1/root$READABLE"
try kernel_setting_written rewrite /proc/sys/vm/swappiness
try mount_made busybox mount -t tmpfs none /mnt
try block_device_made busybox mknod /device b 8 0
try block_device_read disk
try host_devices_listed busybox test -e /dev/kmsg
try loopback_reached connect 127.0.0.1 "$PORT"
try gateway_to_loopback_reached connect 10.0.2.2 "$PORT"
try own_address_reached connect "$ADDRESS" "$PORT"
try airflow_environment_passed busybox sh -c "busybox env | busybox grep -qiE 'AIRFLOW|PASSWORD'"
try same_ids_as_worker busybox grep -qE '^ +0 +0 ' /proc/self/uid_map
try chroot_allowed busybox chroot / /bin/busybox true
say capabilities "$(busybox sed -n 's/^CapEff:.//p' /proc/self/status)"
say seccomp "$(busybox sed -n 's/^Seccomp:.//p' /proc/self/status)"
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as host:
        yield Registry(host, plain_http=True)


@pytest.fixture(scope="module")
def api_port() -> Iterator[int]:
    with listening_api() as port:
        yield port


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[None]:
    """A process of the worker with a secret among its arguments and in its environment."""
    env = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": MARK}
    argv = [sys.executable, "-S", "-c", "import sys; sys.stdin.read()", MARK]
    with subprocess.Popen(argv, env=env, stdin=subprocess.PIPE) as process:
        yield
        process.kill()


def facts_of(
    tmp_path: Path, registry: Registry, port: int, isolation: Isolation, network: Network
) -> dict[str, str]:
    context = tmp_path / "context"
    context.mkdir()
    copy_shell(context)
    private, readable = tmp_path / "private" / "file", Path("/var/tmp") / f"readable-{os.getpid()}"  # noqa: S108
    private.parent.mkdir(mode=0o700)
    private.write_text("x")
    readable.write_text("x")
    settings = {
        "PRIVATE": str(private), "READABLE": str(readable), "PORT": str(port),
        "ADDRESS": own_address(),
    }  # fmt: skip
    lines = [f"{name}={value}" for name, value in settings.items()]
    (context / "hostile").write_text("\n".join(lines) + HOSTILE)
    (context / "mark").write_text(MARK)
    with (context / "Dockerfile").open("a") as file:
        file.write('COPY hostile mark /\nRUN ["/bin/bash", "/hostile"]\n')
    seen: list[str] = []
    try:
        work = BuildWork(
            context, context / "Dockerfile", Platform.LINUX_AMD64, f"{registry.host}/hostile:{isolation}", registry,
            tmp_path / "work", options={"isolation": isolation, "network": network},
        )  # fmt: skip
        BUILDERS.load("buildah")().build(work, seconds=99, log=seen.append)
    except DeliveryChainError:
        print("\n".join(seen))  # noqa: T201 - for the failed test
        raise
    finally:
        readable.unlink()
    return dict(line.removeprefix("FACT ").split("=", 1) for line in seen if line.startswith("FACT "))


def or_skip(isolation: Isolation, network: Network, workdir: Path) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        builder._sandbox(isolation, network, workdir)
    except ConfigurationError as error:
        pytest.skip(str(error))


CLOSED = {
    "worker_process_listed": "no",
    "worker_environment_read": "no",
    "private_file_read": "no",
    "world_readable_file_read": "no",
    "kernel_setting_written": "no",
    "mount_made": "no",
    "block_device_made": "no",
    "block_device_read": "no",
    "host_devices_listed": "no",
    "loopback_reached": "no",
    "gateway_to_loopback_reached": "no",
    "own_address_reached": "no",
    "airflow_environment_passed": "no",
    "same_ids_as_worker": "no",
}
HOST_NETWORK = {"loopback_reached": "yes", "own_address_reached": "yes"}


@pytest.mark.usefixtures("victim")
@pytest.mark.parametrize(
    ("isolation", "network", "expected"),
    [
        pytest.param(Isolation.CONTAINER, Network.PRIVATE, CLOSED, id="container, private network"),
        pytest.param(Isolation.CONTAINER, Network.NONE, CLOSED, id="container, no network"),
        pytest.param(
            Isolation.CONTAINER,
            Network.HOST,
            CLOSED | HOST_NETWORK,
            id="container, the worker's network",
        ),
        pytest.param(Isolation.NAMESPACES, Network.PRIVATE, CLOSED, id="namespaces, private network"),
        pytest.param(Isolation.NAMESPACES, Network.NONE, CLOSED, id="namespaces, no network"),
        pytest.param(
            Isolation.NAMESPACES,
            Network.HOST,
            CLOSED | HOST_NETWORK,
            id="namespaces, the worker's network",
        ),
        pytest.param(
            Isolation.CHROOT,
            Network.HOST,
            CLOSED
            | HOST_NETWORK
            | {
                "host_devices_listed": "yes",
                "block_device_made": "yes",
                "block_device_read": "yes",
                "same_ids_as_worker": "yes",
            },
            id="chroot",
        ),
    ],
)
def test_hostile_dockerfile(
    tmp_path: Path,
    registry: Registry,
    api_port: int,
    monkeypatch: pytest.MonkeyPatch,
    isolation: Isolation,
    network: Network,
    expected: dict[str, str],
) -> None:
    """A RUN step that searches everything finds exactly what the isolation leaves open."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", MARK)
    monkeypatch.setenv("DB_PASSWORD", MARK)
    or_skip(isolation, network, tmp_path / "work")
    found = facts_of(tmp_path, registry, api_port, isolation, network)
    print(found)  # noqa: T201 - for the failed test
    assert {name: value for name, value in found.items() if name in CLOSED} == expected
    assert found["seccomp"] == "2"


ESCAPE = """FROM scratch AS evil
COPY busybox /bin/busybox
RUN ["/bin/busybox", "ln", "-s", "/", "/link"]
FROM scratch
COPY busybox /bin/busybox
RUN --mount=type=bind,from=evil,source=/link,target=/worker ["/bin/busybox", "ls", "-1", "/worker"]
RUN --mount=type=bind,from=evil,source=/link,target=/worker ["/bin/busybox", "cat", "/worker{file}"]
"""


@pytest.mark.parametrize("isolation", [Isolation.CONTAINER, Isolation.NAMESPACES])
def test_escape_of_older_buildah_leads_nowhere(
    tmp_path: Path, registry: Registry, isolation: Isolation
) -> None:
    """A step that reaches buildah's own root folder (CVE-2024-1753) finds programs there, not the worker."""
    network = Network.HOST if isolation is Isolation.NAMESPACES else Network.NONE
    or_skip(isolation, network, tmp_path / "work")
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy("/bin/busybox", context / "busybox")
    readable = Path("/var/tmp") / f"readable-{os.getpid()}"  # noqa: S108
    readable.write_text(MARK)
    (context / "Dockerfile").write_text(ESCAPE.replace("{file}", str(readable)))
    seen: list[str] = []
    try:
        work = BuildWork(
            context, context / "Dockerfile", Platform.LINUX_AMD64, f"{registry.host}/x:1", registry,
            tmp_path / "work", options={"isolation": isolation, "network": network},
        )  # fmt: skip
        with pytest.raises(BuildFailed):
            BUILDERS.load("buildah")().build(work, seconds=99, log=seen.append)
    finally:
        readable.unlink()
    assert set(seen) & {"home", "opt", "srv", "boot", "media"} == set()
    assert not any(MARK in line for line in seen)
