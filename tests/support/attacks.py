"""Builds by an attacker who may push source, and what these builds find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.builders.buildah.isolation import Isolation, Network
from support.builds import PASSWORD, Builder, own_namespace, run

if TYPE_CHECKING:
    from pathlib import Path

    from delivery_chain.core.names.registry import Registry

LOGIN = "cm9ib3Q6czNjcjN0"
"""base64 of the registry's login, as stored by buildah."""
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


class Attack:
    """Builds Dockerfiles of an attacker who may push source, and returns what they find."""

    def __init__(self, registry: Registry, folder: Path, base: str, script: str) -> None:
        self.registry, self.base = registry, base
        self.build = Builder(folder)
        (self.build.context / "look").write_text(script)

    def __call__(self, dockerfile: str, isolation: Isolation, network: Network, **rest: Any) -> list[str]:
        """Build, and return the findings; raise what the build raises."""
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


STEP = 'RUN{flags} ["/bin/bash", "/look"]\n'
CLIMB = "../../../../../../../../../.."
STAGE = "FROM {base} AS evil\n" + run(
    "/bin/busybox ln -s / /root-link; /bin/busybox ln -s /mnt/build /build-link"
)
