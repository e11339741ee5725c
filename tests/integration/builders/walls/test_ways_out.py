"""Hostile Dockerfiles, one per known escape: none finds a login, the worker's network, or a file to replace.

Builds that could use buildah's own flaws to get out are refused. Behind that refusal is a second barrier: tests that
disable the refusal show that a step which gets out finds nothing of value.
"""

from __future__ import annotations

import os
import shutil

import pytest

from delivery_chain.builders.buildah import builder
from delivery_chain.builders.buildah.isolation import Isolation, Network
from delivery_chain.errors import BuildFailed
from support.attacks import BOTH, CLIMB, STAGE, STEP, Attack

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("buildah") is None, reason="needs root and buildah"),
]


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
    """Before anything is pulled or run, and the error names the flaw."""
    with pytest.raises(BuildFailed, match=rf"Dockerfile:\d+: RUN .*refused, because {flaw}"):
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
    """Everything that buildah takes for a mount is checked, whatever bytes surround it."""
    step = start + f'type=cache,id={CLIMB},target=/x ["/bin/busybox","ls","/x"]\n'.encode()
    with pytest.raises(BuildFailed, match=r"refused, because CVE-2024-9675"):
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
    """Neither the base image's login, nor the worker's network, nor a file that is run or read by anything."""
    monkeypatch.setattr(builder, "may_leave", lambda _: False)
    monkeypatch.setattr(builder, "check_mounts", lambda *_: None)
    try:
        found = attack(dockerfile, isolation, network)
    except BuildFailed:
        # The kernel or the runtime refused the mount.
        assert "nothing more" not in "\n".join(attack.build.lines[-3:])
        return
    assert [line for line in found if not line.startswith("seen ")] == ["nothing more"], flaw
