"""Real buildah with a real registry: pushed images, leftovers, and the errors of failures."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.errors import (
    BuildFailed,
    DeliveryChainError,
    NotFound,
    RegistryUnreachable,
    ToolMissing,
)
from support.builds import SCRATCH, Builder, own_namespace, run

if TYPE_CHECKING:
    from pathlib import Path

    from delivery_chain.core.names.registry import Registry

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("buildah") is None, reason="needs root and buildah"),
]


@pytest.fixture
def build(tmp_path: Path) -> Builder:
    return Builder(tmp_path)


@pytest.mark.parametrize(
    ("mount", "file"),
    [
        pytest.param("type=bind,source=.,target=/m", "/m/note", id="context"),
        pytest.param("type=bind,from=first,source=/d,target=/m", "/m/note", id="stage"),
        pytest.param("type=cache,target=/c", "/d/note", id="cache"),
        pytest.param("type=tmpfs,target=/t", "/d/note", id="tmpfs"),
    ],
)
def test_mounts_of_run_steps(build: Builder, registry: Registry, mount: str, file: str) -> None:
    """The mounts that Dockerfiles use work inside the build's namespaces."""
    (build.context / "note").write_text("noted\n")
    copy = SCRATCH + "COPY note /d/note\n"
    step = run(f"/bin/busybox cat {file}").replace("RUN", f"RUN --mount={mount}")
    build(registry, copy.replace("scratch", "scratch AS first") + copy + step)
    assert "noted" in build.lines


FAILURES = [
    pytest.param(SCRATCH + run("echo why; exit 3"), BuildFailed, "the Dockerfile failed", id="RUN fails"),
    pytest.param("FROM scratch\nNONSENSE x\n", BuildFailed, "the Dockerfile failed", id="syntax"),
    pytest.param(
        "FROM scratch\nCOPY missing /\n", BuildFailed, "the Dockerfile failed", id="COPY of nothing"
    ),
    pytest.param("", BuildFailed, "the Dockerfile failed", id="empty"),
    pytest.param("FROM {host}/shop/none:1\n", NotFound, "FROM .*shop/none:1", id="base is not there"),
    pytest.param(
        "FROM down.invalid/shop/x:1\n",
        RegistryUnreachable,
        "Dockerfile:1: FROM",
        id="base's registry is down",
    ),
    pytest.param(
        "FROM docker-daemon:debian:12\n", BuildFailed, "Dockerfile:1: FROM", id="base from a daemon"
    ),
]


@pytest.mark.parametrize(("dockerfile", "kind", "message"), FAILURES)
def test_failures_of_the_build(
    build: Builder, registry: Registry, dockerfile: str, kind: type[DeliveryChainError], message: str
) -> None:
    """Each failure has its own error, which says what to correct."""
    with pytest.raises(kind, match=message) as caught:
        build(registry, dockerfile.replace("{host}", registry.host), reads=own_namespace(registry, "shop"))
    assert type(caught.value) is kind


def write_layout(folder: Path) -> None:
    """Write an image without layers as an OCI layout."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    (folder / "blobs" / "sha256").mkdir(parents=True)

    def blob(kind: str, value: dict[str, Any]) -> dict[str, Any]:
        content = json.dumps(value).encode()
        digest = sha256_digest(content)
        (folder / "blobs" / digest.replace(":", "/")).write_bytes(content)
        return {
            "mediaType": f"application/vnd.oci.image.{kind}.v1+json",
            "digest": digest,
            "size": len(content),
        }

    manifest = blob("manifest", {"schemaVersion": 2, "config": blob("config", config), "layers": []})
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def test_base_image_from_the_workers_files(build: Builder, registry: Registry) -> None:
    """FROM accepts only images of registries, even if the worker has an image in a folder."""
    write_layout(build.context / "layout")
    with pytest.raises(BuildFailed, match="expected an image of a registry"):
        build(registry, "FROM oci:/mnt/context/layout\nCOPY busybox /\n")


def test_missing_buildah(build: Builder, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without buildah the error says what to install."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("delivery_chain.builders.buildah.builder._sandboxes", {})
    with pytest.raises(ToolMissing, match="install the Debian package buildah"):
        build(registry, SCRATCH)
