"""Base images, triggers and ADD in a hostile source reach no more than a step does."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.builders.buildah.isolation import Isolation, Network
from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.errors import BuildFailed
from delivery_chain.oci.client import RegistryClient
from support.attacks import BOTH, CLIMB, STEP, Attack
from support.builds import copy_shell, own_address

if TYPE_CHECKING:
    from delivery_chain.core.names.registry import Registry

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("buildah") is None, reason="needs root and buildah"),
]


def rooted(context: Path, links: dict[str, str]) -> str:
    """Create a folder of links; return the instructions that lay them over an empty image with a shell."""
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
    """The step is refused, or runs and finds nothing; the worker's own files are unchanged."""
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
        f"RUN --mount=type=cache,id={CLIMB},target=/x true", "refused, because CVE-2024-9675", id="mount"
    ),
    pytest.param("COPY --from={host}/secretteam/app:prod /x /", "was not pulled", id="COPY"),
    pytest.param("RUN --mount=from={host}/secretteam/app:prod,target=/x true", "was not pulled", id="image"),
]


@pytest.mark.parametrize(("trigger", "message"), TRIGGERS)
def test_triggers_of_a_base_image_have_no_more_rights(
    attack: Attack, registry: Registry, trigger: str, message: str
) -> None:
    """ONBUILD of another user's image neither gets out nor pulls."""
    # buildah drops ONBUILD from images in OCI format, but registries keep it.
    push_with_trigger(registry, trigger.replace("{host}", registry.host))
    with pytest.raises(BuildFailed, match=message):
        attack(f"FROM {registry.host}/shop/trigger:1\n", Isolation.CONTAINER, Network.PRIVATE)


def test_triggers_run_wherever_else_the_image_is_named(attack: Attack, registry: Registry) -> None:
    """An image that COPY names before FROM does still counts as a base image."""
    push_with_trigger(registry, f"RUN --mount=type=cache,id={CLIMB},target=/x true")
    image = f"{registry.host}/shop/trigger:1"
    text = f"FROM scratch AS x\nCOPY --from={image} / /\nFROM {image}\nCOPY --from=x / /\n"
    with pytest.raises(BuildFailed, match=r"ONBUILD of .* refused, because CVE-2024-9675"):
        attack(text, Isolation.CONTAINER, Network.PRIVATE)


def test_caches_of_triggers_and_of_the_dockerfile_are_one_kind(attack: Attack, registry: Registry) -> None:
    """A trigger could put a link into its cache that a step of the Dockerfile follows."""
    push_with_trigger(registry, "RUN --mount=type=cache,id=a,target=/c ln -s / /c/l")
    text = f"FROM {registry.host}/shop/trigger:1\nRUN --mount=type=cache,id=a/l,target=/x ls /x\n"
    with pytest.raises(BuildFailed, match=r"ONBUILD of .* beside that of Dockerfile:2, not inside it"):
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


@pytest.mark.parametrize(("isolation", "network"), BOTH)
def test_add_does_not_reach_the_worker(
    attack: Attack, port: int, isolation: Isolation, network: Network
) -> None:
    """ADD uses the build's network, and reaches the worker no more than RUN does, however the address is written."""
    for host in ("2130706433", "10.0.2.2", own_address()):
        with pytest.raises(BuildFailed):
            attack(f"FROM {{base}}\nADD http://{host}:{port}/ /x\n", isolation, network)


def test_add_reaches_the_worker_over_its_network(attack: Attack, port: int) -> None:
    """So in the tests above, the network is what prevents it."""
    attack(f"FROM {{base}}\nADD http://127.0.0.1:{port}/ /x\n", Isolation.CONTAINER, Network.HOST)
