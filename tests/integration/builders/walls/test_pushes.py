"""Leftovers of a build can't lead the subsequent push to its login, and don't outlive the build."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
from pathlib import Path

import pytest

from delivery_chain.builders.buildah import builder
from delivery_chain.builders.buildah.isolation import Isolation, Network
from delivery_chain.errors import DeliveryChainError
from support.attacks import BOTH, CLIMB, LOGIN, Attack
from support.builds import PASSWORD, run

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("buildah") is None, reason="needs root and buildah"),
]
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


def test_a_daemon_of_a_step_does_not_see_the_push(attack: Attack) -> None:
    """No process of the build is alive when the login for the push is present, in any isolation."""
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


def test_nothing_is_left_of_folders_however_deep(attack: Attack) -> None:
    """A step may nest folders more deeply than Python can remove: the build still ends, and the next one runs."""
    step = run("for i in $(/bin/busybox seq 1500); do /bin/busybox mkdir a; cd a; done")
    for _ in range(2):
        attack("FROM {base}\n" + step, Isolation.CONTAINER, Network.PRIVATE)
        assert attack.build.leftovers() == []
