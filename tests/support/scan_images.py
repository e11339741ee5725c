"""Images for scans: files packed into one layer and pushed, with the package records that scanners read."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import zstandard

from delivery_chain.core.reference import sha256_digest
from delivery_chain.oci.manifest import OCI_CONFIG, OCI_MANIFEST, Descriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from delivery_chain.oci.client import RegistryClient

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
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
    """An installed Python package, as far as scanners look."""
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
    client: RegistryClient, name: str, files: Mapping[str, str | bytes], *, platform: str = "linux/amd64"
) -> str:
    """Push an image with one layer that holds `files`.

    Returns:
        The manifest's digest; equal files give equal digests.
    """
    return push_layers(client, name, [files], platform=platform)


def push_layers(
    client: RegistryClient,
    name: str,
    layers: Sequence[Mapping[str, str | bytes]],
    *,
    platform: str = "linux/amd64",
    packing: str = "gzip",
    urls: Sequence[str] = (),
) -> str:
    """Push an image with these layers, the base first.

    Args:
        client: The registry.
        name: Repository.
        layers: Files by path; `.wh.` names are whiteouts.
        platform: With or without a variant.
        packing: gzip, zstd or none.
        urls: Where the first layer is to be had; it is not pushed then.

    Returns:
        The manifest's digest.
    """
    tars = [_tar(files) for files in layers]
    os_name, architecture, *variant = platform.split("/")
    config = {
        "os": os_name,
        "architecture": architecture,
        **({"variant": variant[0]} if variant else {}),
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [sha256_digest(layer) for layer in tars]},
    }
    config_entry = replace(client.put_blob_bytes(name, json.dumps(config).encode()), media_type=OCI_CONFIG)
    pack, media_type = PACKINGS[packing]
    entries = []
    for number, layer in enumerate(tars):
        packed = pack(layer)
        if urls and number == 0:
            entry = Descriptor(FOREIGN, sha256_digest(packed), len(packed), urls=tuple(urls))
        else:
            entry = replace(client.put_blob_bytes(name, packed), media_type=media_type)
        entries.append(entry.to_json())
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config_entry.to_json(),
        "layers": entries,
    }
    return client.put_manifest(name, "1", json.dumps(manifest).encode(), OCI_MANIFEST)


def _tar(files: Mapping[str, str | bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in sorted(files):
            content = files[path]
            content = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()
