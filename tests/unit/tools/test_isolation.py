"""Which isolation is chosen, and that a weaker one is never chosen silently."""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003 - used in annotations of fixtures
from pathlib import Path

import pytest

from delivery_chain.core.registry import Registry
from delivery_chain.errors import ConfigurationError, ToolError, ToolMissing
from delivery_chain.tools import isolation, process
from delivery_chain.tools.buildah_config import _policy, write_auth, write_config
from delivery_chain.tools.isolation import Isolation, Network, Sandbox, candidates, choose


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
        pytest.param((Isolation.NAMESPACES, Network.PRIVATE), id="namespaces neither"),
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
        first and (first % 65_536, 1_879_048_192 <= first <= 2_147_352_576 - 65_536) for first in firsts
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


def test_configuration_names_plain_http_registries_only(tmp_path: Path) -> None:
    """TLS is given up for exactly the registries that are said to have none."""
    for name in ("home", "certificates"):
        (tmp_path / name).mkdir()
    registries = [Registry("a:1", plain_http=True), Registry("b", ca_certificate="PEM")]
    write_config(tmp_path, Path("/seen"), registries)
    text = (tmp_path / "registries.conf").read_text()
    assert (text.count("insecure"), '"a:1"' in text, '"b"' in text) == (1, True, False)
    assert (tmp_path / "certificates" / "1.crt").read_text() == "PEM"


def test_logins_are_private(tmp_path: Path) -> None:
    """The file is its owner's only, and holds nothing for anonymous registries."""
    path = tmp_path / "auth.json"
    write_auth(path, [Registry("a", "u", "p"), Registry("b")])
    assert (path.stat().st_mode & 0o777, path.read_text()) == (0o600, '{"auths": {"a": {"auth": "dTpw"}}}')
