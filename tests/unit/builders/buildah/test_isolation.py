"""The choice of isolation: a weaker kind is never chosen silently."""

from __future__ import annotations

import os
from collections.abc import Callable  # noqa: TC003 - used in annotations of fixtures
from pathlib import Path

import pytest

from delivery_chain.builders.buildah import isolation
from delivery_chain.builders.buildah.config import Settings, _policy, logins
from delivery_chain.builders.buildah.isolation import Isolation, Network, Sandbox, candidates, choose
from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import (
    ConfigurationError,
    DiskFull,
    ProbeFailed,
    ToolError,
    ToolMissing,
    ToolTimeout,
)
from delivery_chain.tools import process


@pytest.fixture(autouse=True)
def _buildah_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "require", lambda tool, env: f"/usr/bin/{tool}")


def working(*kinds: tuple[Isolation, Network, str]) -> Callable[[Sandbox], None]:
    """A machine on which only the given ways work."""

    def probe(sandbox: Sandbox) -> None:
        if (sandbox.isolation, sandbox.network, sandbox.driver) not in kinds:
            raise ToolError("x", tool="buildah", output=["Error: operation not permitted"])

    return probe


CONTAINER_PRIVATE = (Isolation.CONTAINER, Network.PRIVATE, "overlay")
CONTAINER_HOST = (Isolation.CONTAINER, Network.HOST, "vfs")
NAMESPACES_PRIVATE = (Isolation.NAMESPACES, Network.PRIVATE, "overlay")
NAMESPACES_HOST = (Isolation.NAMESPACES, Network.HOST, "overlay")
CHROOT_HOST = (Isolation.CHROOT, Network.HOST, "overlay")


@pytest.mark.parametrize(
    ("asked", "works", "expected"),
    [
        pytest.param(
            (Isolation.AUTO, Network.AUTO),
            [CHROOT_HOST, NAMESPACES_HOST, CONTAINER_HOST, CONTAINER_PRIVATE],
            CONTAINER_PRIVATE,
            id="the strongest",
        ),
        pytest.param(
            (Isolation.AUTO, Network.AUTO), [NAMESPACES_HOST, CONTAINER_HOST], CONTAINER_HOST, id="no network"
        ),
        pytest.param((Isolation.AUTO, Network.AUTO), [NAMESPACES_HOST], NAMESPACES_HOST, id="no runc"),
        pytest.param(
            (Isolation.AUTO, Network.AUTO),
            [NAMESPACES_HOST, NAMESPACES_PRIVATE],
            NAMESPACES_PRIVATE,
            id="no runc, but slirp4netns",
        ),
        pytest.param((Isolation.CHROOT, Network.AUTO), [CHROOT_HOST], CHROOT_HOST, id="chroot by name"),
        pytest.param(
            (Isolation.AUTO, Network.HOST),
            [CONTAINER_PRIVATE, CONTAINER_HOST],
            CONTAINER_HOST,
            id="network by name",
        ),
    ],
)
def test_choice(
    asked: tuple[Isolation, Network],
    works: list[tuple[Isolation, Network, str]],
    expected: tuple[Isolation, Network, str],
) -> None:
    """The first way that works is taken, strongest first."""
    assert choose(*asked, working(*works)) == Sandbox(*expected)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param((Isolation.AUTO, Network.AUTO), id="chroot is never automatic"),
        pytest.param((Isolation.CONTAINER, Network.AUTO), id="container by name"),
        pytest.param((Isolation.CONTAINER, Network.PRIVATE), id="private network by name"),
        pytest.param((Isolation.AUTO, Network.NONE), id="no network by name"),
        pytest.param((Isolation.CHROOT, Network.NONE), id="chroot has no network of its own"),
    ],
)
def test_refusal(asked: tuple[Isolation, Network]) -> None:
    """What was asked for by name is never replaced by something weaker."""
    with pytest.raises(ConfigurationError, match=r"docs/build-isolation\.md"):
        choose(*asked, working(CHROOT_HOST))


def test_missing_buildah_is_told_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without buildah no isolation is tried."""

    def missing(tool: str, env: dict[str, str]) -> str:
        raise ToolMissing("x", tool=tool)

    monkeypatch.setattr(process, "require", missing)
    with pytest.raises(ToolMissing):
        choose(Isolation.AUTO, Network.AUTO, working(CHROOT_HOST))


def test_automatic_network_is_never_none() -> None:
    """Dockerfiles need a network: a build without one has to be asked for."""
    assert all(way.network is not Network.NONE for way in candidates(Isolation.AUTO, Network.AUTO))


def test_ids_of_builds_are_outside_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every build's range is whole, and above what systems hand out."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    firsts = [isolation.first_id(key) for key in ("00000000", "00000f9f", "ffffffff")]
    assert [
        first and ((first - 1_879_048_192) % 65_537, first + 65_537 <= 2_147_352_576) for first in firsts
    ] == [(0, True)] * 3


@pytest.mark.parametrize(
    ("given", "docker"),
    [
        pytest.param(None, {"": [{"type": "insecureAcceptAnything"}]}, id="no policy"),
        pytest.param('{"default": [{"type": "reject"}]}', {"": [{"type": "reject"}]}, id="default"),
        pytest.param(
            '{"default": [{"type": "reject"}], "transports": {"docker": {"h": [{"type": "x"}]}}}',
            {"": [{"type": "reject"}], "h": [{"type": "x"}]},
            id="by registry",
        ),
    ],
)
def test_policy_keeps_the_administrators_rules(tmp_path: Path, given: str | None, docker: object) -> None:
    """Rules for registries stay; everything that is no registry is rejected."""
    file = tmp_path / "policy.json"
    if given is not None:
        file.write_text(given)
    policy = _policy(file)
    assert (policy["default"], policy["transports"]["docker"]) == ([{"type": "reject"}], docker)


def settings(folder: Path) -> Settings:
    made = Settings(folder / "settings", Path("/seen"))
    made.write(b"FROM scratch\n")
    return made


def test_configuration_names_one_registry_only(tmp_path: Path) -> None:
    """TLS is given up, and a CA trusted, for exactly the registry that the next command talks to."""
    made = settings(tmp_path)
    made.write_registry(Registry("a:1", plain_http=True, ca_certificate="PEM"), "a:1")
    first = (made.folder / "registries.conf").read_text()
    made.write_registry(Registry("b"), "docker.io")
    second = (made.folder / "registries.conf").read_text()
    assert ("insecure" in first, '"a:1"' in first) == (True, True)
    assert ("insecure" in second, "a:1" in second, 'location = "b"' in second) == (False, False, True)
    assert list((made.folder / "certificates").iterdir()) == []


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_settings_can_be_read_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """The build's users are others than the worker's, and have to read them."""
    before = os.umask(umask)
    try:
        made = settings(tmp_path)
        made.write_registry(Registry("a", ca_certificate="PEM"), "a")
    finally:
        os.umask(before)
    modes = {path.is_dir(): path.stat().st_mode & 0o777 for path in sorted(made.folder.rglob("*"))}
    assert modes == {True: 0o755, False: 0o644}


def test_settings_hold_no_login(tmp_path: Path) -> None:
    """A login is passed beside them."""
    made = settings(tmp_path)
    made.write_registry(Registry("a", "robot", "s3cr3t"), "a")
    assert not any(b"s3cr3t" in path.read_bytes() for path in made.folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        pytest.param(Registry("a", "u", "p"), '{"auths": {"a": {"auth": "dTpw"}}}', id="login"),
        pytest.param(Registry("b"), '{"auths": {}}', id="none"),
        pytest.param(
            Registry("registry-1.docker.io", "u", "p"),
            '{"auths": {"docker.io": {"auth": "dTpw"}}}',
            id="Docker Hub",
        ),
    ],
)
def test_logins(registry: Registry, expected: str) -> None:
    """One registry's, under the name that buildah looks for."""
    assert logins(registry) == expected


PASSING = [
    pytest.param(ToolTimeout("x", tool="buildah", output=["Error: operation not permitted"]), id="time-out"),
    pytest.param(DiskFull("x", tool="buildah", output=["no space left on device"]), id="disk full"),
    pytest.param(ToolError("x", tool="buildah", exit_code=-9, output=["Killed"]), id="killed"),
    pytest.param(ToolError("x", tool="buildah"), id="silent"),
]


@pytest.mark.parametrize("error", PASSING)
def test_what_may_pass_is_no_reason_for_a_weaker_way(error: ToolError) -> None:
    """A probe that fails for another reason than the machine's refusal is tried again, then is an error."""
    tried: list[Sandbox] = []

    def probe(sandbox: Sandbox) -> None:
        tried.append(sandbox)
        raise error

    with pytest.raises(ProbeFailed) as caught:
        choose(Isolation.AUTO, Network.AUTO, probe)
    assert (tried, caught.value.retryable) == ([Sandbox(*CONTAINER_PRIVATE)] * 3, True)


@pytest.mark.parametrize("error", PASSING)
def test_a_way_that_works_at_the_second_try_is_taken(error: ToolError) -> None:
    """What may pass, passes."""
    tried: list[Sandbox] = []

    def probe(sandbox: Sandbox) -> None:
        tried.append(sandbox)
        if len(tried) == 1:
            raise error

    assert choose(Isolation.AUTO, Network.AUTO, probe) == Sandbox(*CONTAINER_PRIVATE)


@pytest.mark.parametrize(
    "said",
    [
        "unshare: unshare failed: Operation not permitted",
        "unshare: unshare failed: No space left on device",
        "enter: mount /mnt: Permission denied",
        "kernel does not support overlay fs: 'overlay' is not supported over overlayfs",
        "newuidmap: uid range [1-65536) -> [300000-365536) not allowed; no subuid ranges found",
        "runc run failed: mountpoint for cgroup not found",
        'enter: slirp4netns did not start: open("/dev/net/tun"): Permission denied; child failed(1)',
        'enter: slirp4netns did not start: open("/dev/net/tun"): No such file or directory; child failed(1)',
    ],
)
def test_what_the_machine_refuses_leads_to_the_next_way(said: str) -> None:
    """These are reasons of the machine: they stay."""

    def probe(sandbox: Sandbox) -> None:
        if sandbox.isolation is Isolation.CONTAINER:
            kind = DiskFull if "space" in said else ToolError
            raise kind("x", tool="buildah", output=[said])

    assert choose(Isolation.AUTO, Network.AUTO, probe).isolation is Isolation.NAMESPACES


def test_a_missing_program_leads_to_the_next_way() -> None:
    """What is not installed can't be had."""

    def probe(sandbox: Sandbox) -> None:
        if sandbox.network is Network.PRIVATE:
            raise ToolMissing("slirp4netns: not there", tool="slirp4netns")

    assert choose(Isolation.AUTO, Network.AUTO, probe) == Sandbox(
        Isolation.CONTAINER, Network.HOST, "overlay"
    )


@pytest.mark.parametrize("tool", ["buildah", "runc", "slirp4netns"])
def test_a_program_outside_of_the_sandbox_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    """It would not be found inside: that is said, and no weaker isolation taken."""

    def require(name: str, env: object) -> str:
        return f"{tmp_path}/bin/{name}" if name == tool else f"/usr/bin/{name}"

    monkeypatch.setattr(process, "require", require)
    with pytest.raises(ConfigurationError, match=f"{tool} at {tmp_path}/bin/{tool}: expected it below /usr"):
        choose(Isolation.AUTO, Network.AUTO, isolation.check_programs)
