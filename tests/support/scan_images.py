"""Images for scans: files packed into one layer and pushed, with the package records that scanners read."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import zstandard

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.oci.manifest import OCI_CONFIG, OCI_MANIFEST
from support.image_trees import archive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from delivery_chain.oci.client import RegistryClient

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
PACKINGS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "gzip": (lambda layer: gzip.compress(layer, mtime=0), LAYER),
    "zstd": (zstandard.ZstdCompressor().compress, "application/vnd.oci.image.layer.v1.tar+zstd"),
    "none": (bytes, "application/vnd.oci.image.layer.v1.tar"),
}
DEBIAN = {"etc/debian_version": "12.0\n", "etc/os-release": 'ID=debian\nVERSION_ID="12"\n'}
NO_PACKAGES = {"hello.txt": "hello\n"}


def dpkg_status(*packages: tuple[str, str, str]) -> dict[str, str]:
    """dpkg's record of installed packages, each `(package, source package, version)`."""
    entries = [
        f"Package: {package}\nStatus: install ok installed\nArchitecture: amd64\nSource: {source}\n"
        f"Version: {version}\nMaintainer: nobody\nDescription: none\n"
        for package, source, version in packages
    ]
    return {"var/lib/dpkg/status": "\n".join(entries) + "\n"}


def python_package(name: str, version: str) -> dict[str, str]:
    """An installed Python package, with the files that scanners read."""
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return {f"app/{name}-{version}.dist-info/METADATA": text}


OLD = {
    **DEBIAN,
    **dpkg_status(("libc6", "glibc", "2.36-9"), ("apt", "apt", "2.6.1")),
    **python_package("Jinja2", "2.10"),
}
CLEAN = {
    **DEBIAN,
    **dpkg_status(("libc6", "glibc", "2.36-9+deb12u14")),
    **python_package("Jinja2", "3.1.6"),
}
UNKNOWN_SYSTEM = dpkg_status(("libc6", "glibc", "2.36-9"))


def push_files(
    client: RegistryClient,
    name: str,
    files: Mapping[str, str | bytes],
    *,
    platform: str = "linux/amd64",
    layer_type: str = LAYER,
    media_type: str = OCI_MANIFEST,
    config_type: str = OCI_CONFIG,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """Push an image with one layer that holds `files`.

    Args:
        client: The registry.
        name: Repository.
        files: Content by path.
        platform: For the config.
        layer_type: Media type that the manifest gives the layer.
        media_type: Media type of the manifest.
        config_type: Media type that the manifest gives the config.
        extra: More fields of the config, such as `os.version`.

    Returns:
        The manifest's digest; equal files give equal digests.
    """
    layer = archive(files)
    packed = gzip.compress(layer, mtime=0)
    config = {
        **dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False)),
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [sha256_digest(layer)]},
        **(extra or {}),
    }
    config_entry = replace(client.put_blob_bytes(name, json.dumps(config).encode()), media_type=config_type)
    layer_entry = replace(client.put_blob_bytes(name, packed), media_type=layer_type)
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config_entry.to_json(),
        "layers": [layer_entry.to_json()],
    }
    return client.put_manifest(name, "1", json.dumps(manifest).encode(), media_type)


def push_layers(
    client: RegistryClient,
    name: str,
    layers: Sequence[Mapping[str, str | bytes]],
    *,
    packing: str = "gzip",
) -> str:
    """Push an image for linux/amd64 with these layers, the base first.

    Args:
        client: The registry.
        name: Repository.
        layers: Files by path; `.wh.` names are whiteouts.
        packing: gzip, zstd or none.

    Returns:
        The manifest's digest.
    """
    pack, media_type = PACKINGS[packing]
    tars = [archive(files) for files in layers]
    ids = [sha256_digest(layer) for layer in tars]
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ids}}
    entries = [replace(client.put_blob_bytes(name, pack(layer)), media_type=media_type) for layer in tars]
    return put_image(client, name, config, [entry.to_json() for entry in entries])


def push_hidden_layer(
    client: RegistryClient,
    name: str,
    shown: Mapping[str, str | bytes],
    hidden: Mapping[str, str | bytes],
    *,
    how: str,
) -> str:
    """Push an image of two layers, the second of which is hidden from a scanner that believes the config.

    Args:
        client: The registry.
        name: Repository.
        shown: Files of the first layer.
        hidden: Files of the second.
        how: `not in the config`, `twice the same in the config` or `kept elsewhere`.
    """
    layers = [archive(shown), archive(hidden)]
    ids = [sha256_digest(layer) for layer in layers]
    told = {"not in the config": ids[:1], "twice the same in the config": [ids[0], ids[0]]}.get(how, ids)
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": told}}
    entries = []
    for layer in layers:
        packed = gzip.compress(layer, mtime=0)
        if how == "kept elsewhere" and entries:
            urls = ["https://example.com/layer"]
            entries.append(
                {"mediaType": FOREIGN, "digest": sha256_digest(packed), "size": len(packed), "urls": urls}
            )
        else:
            entries.append(replace(client.put_blob_bytes(name, packed), media_type=LAYER).to_json())
    return put_image(client, name, config, entries)


def put_image(
    client: RegistryClient, name: str, config: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]
) -> str:
    """Push a config and a manifest of it and of layers that are there, as tag `1`; return the manifest's digest."""
    kept = replace(client.put_blob_bytes(name, json.dumps(config).encode()), media_type=OCI_CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": kept.to_json(),
        "layers": layers,
    }
    return client.put_manifest(name, "1", json.dumps(manifest).encode(), OCI_MANIFEST)
