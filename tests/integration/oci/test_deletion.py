"""Deletes a single tag at a registry that deletes only by digest, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.placeholder import DELETED_TAG, deleted_tag_digest, stand_in
from delivery_chain.errors import DeletesDisabled, RegistryError
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.api import put_tag
from delivery_chain.oci.deletion import is_stand_in
from delivery_chain.oci.manifest import EMPTY_BLOB, EMPTY_CONFIG, OCI_MANIFEST, build_artifact_manifest
from support.oci_images import push_image
from support.oci_memory import memory_registry
from support.oci_registry import docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.oci_memory import MemoryRegistry

NAME = "shop/api"


def files(folder: Path) -> dict[Path, bytes]:
    """All files of a registry."""
    return {path: path.read_bytes() for path in (folder / "data").rglob("*") if path.is_file()}


@pytest.mark.parametrize("how", ["tag", "digest", "leftover"])
def test_deletes_that_are_off_change_nothing(tmp_path: Path, how: str) -> None:
    """With docker-registry's default, not one byte changes, and the error says how to enable deletes."""
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "data")}}
    with docker_registry(tmp_path, storage=storage) as registry, RegistryClient(registry) as client:
        image = push_image(client, NAME)
        put_tag(client, NAME, "v1", image.digest)
        if how == "leftover":
            client.put_blob_bytes(NAME, EMPTY_BLOB)
            client.put_manifest(NAME, "v1", stand_in("v1"), OCI_MANIFEST)
        before = files(tmp_path)
        with pytest.raises(DeletesDisabled) as caught:
            client.delete_manifest(NAME, image.digest) if how == "digest" else client.delete_tag(NAME, "v1")
        assert files(tmp_path) == before
    text = str(caught.value)
    wanted = [
        NAME,
        registry.host,
        "405 UNSUPPORTED",
        "REGISTRY_STORAGE_DELETE_ENABLED=true",
        "nothing was changed",
    ]
    assert [part for part in wanted if part not in text] == []
    assert not caught.value.retryable


def test_deletes_can_be_enabled_as_the_error_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The advice works: with that variable, the same registry deletes."""
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "data")}}
    with docker_registry(tmp_path, storage=storage) as registry, RegistryClient(registry) as client:
        put_tag(client, NAME, "v1", push_image(client, NAME).digest)
        with pytest.raises(DeletesDisabled):
            client.delete_tag(NAME, "v1")
    monkeypatch.setenv("REGISTRY_STORAGE_DELETE_ENABLED", "true")
    with docker_registry(tmp_path, storage=storage) as registry, RegistryClient(registry) as client:
        assert client.delete_tag(NAME, "v1")
        assert client.head_digest(NAME, "v1") is None


@pytest.fixture
def home() -> Iterator[MemoryRegistry]:
    """A registry that deletes only by digest."""
    with memory_registry() as held:
        yield held


@pytest.fixture
def client(home: MemoryRegistry) -> Iterator[RegistryClient]:
    with RegistryClient(home.registry) as made:
        yield made


def test_nothing_touches_the_tag_before_deletes_are_proved(
    home: MemoryRegistry, client: RegistryClient
) -> None:
    """The registry first has to delete something of ours, once per repository."""
    first, second = (push_image(client, NAME, seed=at).digest for at in (1, 2))
    put_tag(client, NAME, "v1", first)
    put_tag(client, NAME, "v2", second)
    home.requests.clear()
    client.delete_tag(NAME, "v1")
    mark = deleted_tag_digest("v1")
    deletion, tag = f"DELETE /v2/{NAME}/manifests/{mark}", f"PUT /v2/{NAME}/manifests/v1"
    assert [one for one in home.writes() if mark in one or one == tag] == [
        deletion,
        f"PUT /v2/{NAME}/manifests/{mark}",
        deletion,
        tag,
        deletion,
    ]
    home.requests.clear()
    client.delete_tag(NAME, "v2")
    assert len(home.writes()) == 3
    assert (home.tags, set(home.manifests)) == ({}, {f"{NAME}@{first}", f"{NAME}@{second}"})


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 500, 503])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_deletion_that_fails_leaves_the_tag(
    home: MemoryRegistry, client: RegistryClient, at: int, status: int
) -> None:
    """Whichever deletion is refused: the tag is unchanged, or points at the stand-in, and the next call continues."""
    digest = push_image(client, NAME).digest
    put_tag(client, NAME, "v1", digest)
    mark, seen = deleted_tag_digest("v1"), []

    def refuse() -> int | None:
        seen.append(1)
        return status if len(seen) == at else None

    home.on("DELETE", f"/v2/{NAME}/manifests/{mark}", refuse, times=3)
    if status == 404:  # A 404 means that it did not exist.
        client.delete_tag(NAME, "v1")
    else:
        with pytest.raises(RegistryError) as caught:
            client.delete_tag(NAME, "v1")
        kept = mark if at == 3 and caught.value.retryable else digest
        assert home.tags == {f"{NAME}:v1": kept}
    assert client.delete_tag(NAME, "v1")
    assert home.tags == {}
    assert f"{NAME}@{digest}" in home.manifests


@pytest.mark.parametrize("by_tag", [False, True])
def test_a_tag_that_moved_is_left_alone(
    home: MemoryRegistry, client: RegistryClient, *, by_tag: bool
) -> None:
    """Before the call, or while the registry was asked whether it deletes at all."""
    home.deletes_tags = by_tag
    old, new = (push_image(client, NAME, seed=at).digest for at in (1, 2))
    put_tag(client, NAME, "v1", new)
    assert not client.delete_tag(NAME, "v1", old)
    if not by_tag:
        put_tag(client, NAME, "v1", old)

        def move() -> None:
            home.tags[f"{NAME}:v1"] = new

        home.on("PUT", f"/v2/{NAME}/manifests/{deleted_tag_digest('v1')}", move)
        assert not client.delete_tag(NAME, "v1", old)
    assert home.tags == {f"{NAME}:v1": new}


def test_a_push_onto_the_mark_survives(home: MemoryRegistry, client: RegistryClient) -> None:
    """If the tag is pushed while it points at the stand-in, the pushed image stays."""
    old, new = (push_image(client, NAME, seed=at).digest for at in (1, 2))
    put_tag(client, NAME, "v1", old)

    def push() -> None:
        home.tags[f"{NAME}:v1"] = new

    home.on("PUT", f"/v2/{NAME}/manifests/v1", push, after=True)
    client.delete_tag(NAME, "v1")
    assert home.tags == {f"{NAME}:v1": new}


def test_the_mark_is_an_artifact(client: RegistryClient) -> None:
    """The bytes are an artifact as in the image specification, recognized by its type."""
    note = {"org.opencontainers.image.ref.name": "v1"}
    assert stand_in("v1") == build_artifact_manifest(DELETED_TAG, None, (EMPTY_CONFIG,), note)
    image = push_image(client, NAME)
    client.put_blob_bytes(NAME, EMPTY_BLOB)
    client.put_manifest(NAME, "v1", stand_in("another"), OCI_MANIFEST)
    assert [is_stand_in(client, NAME, ref) for ref in ("v1", image.digest, "v9")] == [True, False, False]
