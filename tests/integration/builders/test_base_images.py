"""Base images that a build may read, and the logins for them, against a registry with a token server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from delivery_chain.builders.buildah import builder
from delivery_chain.builders.buildah.isolation import Isolation, Network
from delivery_chain.core.dockerfile.base_image_policy import BaseImagePolicy, ReadRule
from delivery_chain.core.names.platform import Platform
from delivery_chain.errors import BuildFailed, ConfigurationError
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import DOCKER_CONFIG, DOCKER_MANIFEST, OCI_INDEX, build_index
from support.builds import SCRATCH, Builder, own_namespace, run
from support.oci_registry import USER
from support.oci_tokens import TokenServer, token_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from delivery_chain.core.names.registry import Registry

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("buildah") is None, reason="needs root and buildah"),
]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, TokenServer]]:
    """A registry with a token server, and images in three namespaces."""
    folder = tmp_path_factory.mktemp("tokens")
    with token_registry(folder) as (registry, server):
        build = Builder(folder)
        for name in ("shop/base", "base/tools", "secretteam/app"):
            build(registry, f"{SCRATCH}LABEL from={name}\n", name=name, tag="1")
        yield registry, server


@pytest.fixture
def home(tokens: tuple[Registry, TokenServer]) -> Registry:
    return tokens[0]


@pytest.fixture
def build(tmp_path: Path) -> Builder:
    return Builder(tmp_path)


def default(home: Registry) -> BaseImagePolicy:
    return own_namespace(home, "shop")


DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
LINUX = {"os": "linux", "architecture": "amd64"}
MOUNTING = run("/bin/busybox true").replace("RUN", "RUN --mount=from={host}/shop/base:1,target=/m")
FOUND = [
    pytest.param("FROM {host}/shop/base:1\n", id="tag"),
    pytest.param("FROM {host}/shop/base@{digest}\n", id="digest"),
    pytest.param("FROM {host}/shop/base:1@{digest}\n", id="tag and digest"),
    pytest.param("ARG B={host}/shop/base\nARG V\nfrom ${B}:${V:-1}\n", id="arguments"),
    pytest.param("FROM {host}/shop/base:1 AS base\nFROM base\n", id="stage"),
    pytest.param("FROM {host}/shop/base:1 AS tools\nFROM scratch\nCOPY --from=tools /bin /bin\n", id="COPY of a stage"),
    pytest.param("FROM {host}/shop/base:1\nFROM scratch\nCOPY --from=0 /bin /bin\n", id="COPY by number"),
    pytest.param("FROM scratch\nCOPY --from={host}/shop/base:1 /bin /bin\n", id="COPY of an image"),
    pytest.param("FROM {host}/shop/base:1\n" + MOUNTING, id="mount"),
    pytest.param("FROM --platform=$BUILDPLATFORM {host}/shop/base:1\n", id="platform"),
    pytest.param("FROM {host}/nobody/none:1 AS unused\nFROM {host}/shop/base:1\n", id="a stage that nobody needs"),
]  # fmt: skip


@pytest.mark.parametrize("dockerfile", FOUND)
def test_images_are_found(build: Builder, home: Registry, dockerfile: str) -> None:
    """The build finds the images that were pulled before, however it names them."""
    with RegistryClient(home) as client:
        digest = client.head_digest("shop/base", "1") or ""
    text = dockerfile.replace("{host}", home.host).replace("{digest}", digest)
    assert build(home, text, reads=default(home)).digest
    assert sum(line.startswith("pulling") for line in build.lines) == 1


def test_tokens_are_for_what_is_needed(build: Builder, tokens: tuple[Registry, TokenServer]) -> None:
    """The login requests a token to pull exactly the base image, and to push exactly the target."""
    home, server = tokens
    server.asked_by.clear()
    build(home, f"FROM {home.host}/shop/base:1\n", reads=default(home))
    with_login = {scope for user, scopes in server.asked_by for scope in scopes if user == USER}
    assert with_login == {"repository:shop/base:pull", "repository:shop/api:pull,push"}


def test_another_namespace_is_refused_by_name(build: Builder, tokens: tuple[Registry, TokenServer]) -> None:
    """People who may push source can't read everything that the chain's login can; no request is sent."""
    home, server = tokens
    server.asked_by.clear()
    with pytest.raises(BuildFailed) as caught:
        build(
            home,
            f"FROM {home.host}/secretteam/app:1 AS x\nFROM scratch\nCOPY --from=x / /\n",
            reads=default(home),
        )
    assert server.asked_by == []
    message = str(caught.value)
    assert f"Dockerfile:1: FROM {home.host}/secretteam/app:1" in message
    assert ("allows shop of" in message, "build.from" in message) == (True, True)


@pytest.mark.parametrize("inside", [False, True], ids=["image", "index"])
@pytest.mark.parametrize("by_digest", [False, True], ids=["tag", "digest"])
def test_layers_are_fetched_from_the_registry_alone(
    build: Builder, home: Registry, *, inside: bool, by_digest: bool
) -> None:
    """Addresses in a manifest point at the worker's own services; none of them is requested during the pull."""
    with socket.create_server(("127.0.0.1", 0)) as listener, RegistryClient(home) as client:
        document = json.loads(client.get_manifest("shop/base", "1").raw)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        document |= {
            "mediaType": DOCKER_MANIFEST,
            "config": document["config"] | {"mediaType": DOCKER_CONFIG},
        }
        document["layers"][0] |= {"mediaType": DOCKER_LAYER, "urls": [address]}
        raw = json.dumps(document).encode()
        digest = client.put_manifest("shop/base", "elsewhere", raw, DOCKER_MANIFEST)
        if inside:
            child = replace(client.get_manifest("shop/base", digest).descriptor(), platform=LINUX)
            digest = client.put_manifest("shop/base", "elsewhere", build_index([child]), OCI_INDEX)
        name = f"@{digest}" if by_digest else ":elsewhere"
        with pytest.raises(
            BuildFailed, match=r"Dockerfile:1: FROM .* has layers that are stored outside its registry"
        ):
            build(home, f"FROM {home.host}/shop/base{name}\n", reads=default(home))
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


def rules(home: Registry, *namespaces: str) -> BaseImagePolicy:
    return BaseImagePolicy((ReadRule("build.from[0]", home.host, namespaces, home),), strangers=False)


def test_a_rule_opens_a_namespace(build: Builder, home: Registry) -> None:
    """And no other."""
    text = f"FROM {home.host}/base/tools:1\n"
    assert build(home, text, reads=rules(home, "base")).digest


@pytest.mark.parametrize("name", ["docker.io/base/tools:1", "base/tools:1", "quay.example.com/base/tools:1"])
def test_a_mirror_is_read_instead(build: Builder, tokens: tuple[Registry, TokenServer], name: str) -> None:
    """With its own login, under the name in the Dockerfile."""
    home, server = tokens
    server.asked_by.clear()
    host = "quay.example.com" if name.startswith("quay") else "docker.io"
    policy = BaseImagePolicy((ReadRule("build.from[0]", host, (), home),), strangers=False)
    assert build(home, f"FROM {name}\n", reads=policy).digest
    assert (USER, ("repository:base/tools:pull",)) in server.asked_by


REFUSED = [
    pytest.param("FROM {host}/secretteam/app:1\n", {}, "allows base, shop of", id="FROM"),
    pytest.param("FROM scratch\nCOPY --from={host}/secretteam/app:1 / /\n", {}, "allows base, shop of", id="COPY"),
    pytest.param(
        "FROM {host}/shop/base:1\nRUN --mount=from={host}/secretteam/app:1,target=/m true\n", {},
        "allows base, shop of", id="mount",
    ),
    pytest.param("ARG B\nFROM $B\n", {"B": "{host}/secretteam/app:1"}, "allows base, shop of", id="argument"),
    pytest.param("ARG T=secretteam\nFROM {host}/${T}/app:1\n", {}, "allows base, shop of", id="default"),
    pytest.param("FROM {host}/shopping/app:1\n", {}, "allows base, shop of", id="longer name"),
    pytest.param("FROM {host}/shop/../secretteam/app:1\n", {}, "repository name", id="climbing"),
    pytest.param("FROM debian\n", {}, "no entry of `build.from` is for docker.io", id="short name"),
    pytest.param("FROM scratch AS Build\nFROM scratch\nCOPY --from=build / /\n", {}, "looks like the stage", id="case"),
    pytest.param("FROM localhost/build\n", {}, "no entry of `build.from` is for localhost", id="own storage"),
    pytest.param("FROM containers-storage:x\n", {}, "found a transport", id="transport"),
]  # fmt: skip


@pytest.mark.parametrize(("dockerfile", "args", "message"), REFUSED)
def test_refused_by_name(
    build: Builder,
    tokens: tuple[Registry, TokenServer],
    dockerfile: str,
    args: dict[str, str],
    message: str,
) -> None:
    """Before anything is sent."""
    home, server = tokens
    server.asked_by.clear()
    given = {name: value.replace("{host}", home.host) for name, value in args.items()}
    with pytest.raises(BuildFailed, match=message):
        build(home, dockerfile.replace("{host}", home.host), reads=rules(home, "base", "shop"), args=given)
    assert server.asked_by == []


def test_a_name_that_the_base_image_makes_is_not_pulled(build: Builder, home: Registry) -> None:
    """ENV of a base image is not known in advance: the build fails, and says what to write."""
    build(home, SCRATCH + f"ENV OTHER={home.host}/secretteam/app:1\n", name="shop/env", tag="1")
    text = f"FROM {home.host}/shop/env:1\nCOPY --from=$OTHER / /x\n"
    with pytest.raises(BuildFailed, match="was not pulled"):
        build(home, text, reads=default(home))


def test_a_name_for_two_platforms(build: Builder, home: Registry) -> None:
    """The name can refer to only one image in the build's storage."""
    base = f"{home.host}/shop/base:1"
    text = f"FROM --platform=linux/arm64 {base} AS a\nFROM {base}\nCOPY --from=a / /\n"
    with pytest.raises(BuildFailed, match=r"for linux/amd64 here and for linux/arm64 in line 1"):
        build(home, text, reads=default(home), platform=Platform.LINUX_AMD64)


def test_builds_see_nothing_of_each_other(build: Builder, home: Registry) -> None:
    """An image from another build is not found by its local name."""
    build(home, SCRATCH)
    with pytest.raises(BuildFailed, match="the worker itself"):
        build(home, "FROM localhost/build\n", reads=BaseImagePolicy())


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("value", [0o027, 0o077])
@pytest.mark.parametrize("isolation", [Isolation.CONTAINER, Isolation.NAMESPACES, Isolation.CHROOT])
def test_modes_do_not_depend_on_the_umask(
    tmp_path: Path, home: Registry, monkeypatch: pytest.MonkeyPatch, isolation: Isolation, value: int
) -> None:
    """Builds work under Airflow's own umask, and files in images have the checkout's modes."""
    monkeypatch.setattr(builder, "_sandboxes", {})
    tmp_path.chmod(0o700)
    build = Builder(tmp_path)
    # The modes that git writes.
    for name, mode in (("plain", 0o644), ("script", 0o755)):
        (build.context / name).write_text("x")
        (build.context / name).chmod(mode)
    with umask(value):
        output = build(
            home,
            f"{SCRATCH}COPY plain script /d/\n" + run("/bin/busybox mkdir /e && /bin/busybox touch /e/f"),
            isolation=isolation,
        )
    assert modes_of(home, output.digest, "d", "d/plain", "d/script", "e", "e/f") == {
        "d": "drwxr-xr-x", "d/plain": "-rw-r--r--", "d/script": "-rwxr-xr-x", "e": "drwxr-xr-x", "e/f": "-rw-r--r--",
    }  # fmt: skip


def modes_of(registry: Registry, digest: str, *names: str) -> dict[str, str]:
    """Modes of an image's files, as shown by `ls`."""
    found = {}
    with RegistryClient(registry) as client:
        for layer in json.loads(client.get_manifest("shop/api", digest).raw)["layers"]:
            blob = client.get_blob("shop/api", layer["digest"])
            listing = subprocess.run(["tar", "tzv"], input=blob, capture_output=True, check=True, text=False)
            for line in listing.stdout.decode().splitlines():
                fields = line.split()
                found[fields[-1].rstrip("/")] = fields[0]
    return {name: found[name] for name in names}


@pytest.mark.parametrize("tool", ["runc", "slirp4netns", "buildah"])
def test_a_program_outside_of_usr_is_said(
    build: Builder, home: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    """The sandbox does not show it; the build does not fall back to a weaker isolation."""
    folder = tmp_path / "opt" / "bin"
    folder.mkdir(parents=True)
    shutil.copy(shutil.which(tool, path="/usr/bin:/usr/sbin") or "", folder / tool)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(builder, "_sandboxes", {})
    with pytest.raises(ConfigurationError, match=f"{tool} at .*: expected it below /usr"):
        build(home, SCRATCH)


def test_flaws_are_said_once_in_the_log(build: Builder, home: Registry) -> None:
    """One line each, with the version and the fix."""
    build(home, SCRATCH, isolation=Isolation.CONTAINER, network=Network.NONE)
    said = [line.split(" (")[0] for line in build.lines if " has CVE-" in line]
    assert len(said) == len(set(said))
    version = subprocess.run(
        ["buildah", "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[2]
    if version == "1.28.2":
        assert f"buildah {version} has CVE-2024-9675, going by its version" in said
