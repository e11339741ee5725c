"""Mirrors of Trivy's databases, made with `delivery-chain copy` as docs/trivy.md describes, and used by Trivy."""

from __future__ import annotations

import gzip
import io
import json
import re
import shlex
import subprocess
import tarfile
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.commands.main import main
from delivery_chain.oci.manifest import OCI_MANIFEST
from delivery_chain.sandbox.vulndb import publish_sample_database
from delivery_chain.scanners.trivy.command import run_trivy
from delivery_chain.scanners.trivy.databases import ensure_database
from delivery_chain.scanners.trivy.options import TrivyOptions

if TYPE_CHECKING:
    from delivery_chain.oci.client import RegistryClient

pytestmark = pytest.mark.integration
PAGE = (Path(__file__).parents[3] / "docs" / "trivy.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (delivery-chain copy .*)$", PAGE, re.MULTILINE)
BUILT = datetime(2026, 11, 20, 12, tzinfo=UTC)
DATABASE, JAVA = "aquasecurity/trivy-db", "aquasecurity/trivy-java-db"


def publish_java_database(client: RegistryClient) -> str:
    """Push a Java database in the official format; its content is not a database."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as stream,
        tarfile.open(fileobj=stream, mode="w") as archive,
    ):
        stated = f"{BUILT:%Y-%m-%dT%H:%M:%SZ}"
        metadata = {"Version": 1, "NextUpdate": stated, "UpdatedAt": stated, "DownloadedAt": stated}
        for name, content in (("trivy-java.db", b"java"), ("metadata.json", json.dumps(metadata).encode())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    layer, config = packed.getvalue(), b"{}"
    blobs = [client.put_blob_bytes(JAVA, config), client.put_blob_bytes(JAVA, layer)]
    types = (
        "application/vnd.aquasec.trivy.config.v1+json",
        "application/vnd.aquasec.trivy.javadb.layer.v1.tar+gzip",
    )
    descriptors: list[dict[str, Any]] = [
        {"mediaType": kind, "digest": blob.digest, "size": blob.size}
        for kind, blob in zip(types, blobs, strict=True)
    ]
    descriptors[1]["annotations"] = {"org.opencontainers.image.title": "javadb.tar.gz"}
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptors[0],
        "layers": [descriptors[1]],
    }
    return client.put_manifest(JAVA, "1", json.dumps(manifest).encode(), OCI_MANIFEST)


def mirror(source: RegistryClient, target: RegistryClient) -> None:
    """Run the page's commands, with these registries in place of those named there."""
    options = [f"--plain-http={client.registry.host}" for client in (source, target)]
    for command in COMMANDS:
        words = shlex.split(command.replace("ghcr.io", source.registry.host))[2:]
        words = [word.replace("registry.example.com", target.registry.host) for word in words]
        assert main(["copy", *options, *words]) == 0


def test_a_mirror_serves_both_databases(
    oci_client: RegistryClient, oci_target: RegistryClient, tmp_path: Path
) -> None:
    """The copies have the original digests, and Trivy accepts both databases from the mirror."""
    digests = [publish_sample_database(oci_client, DATABASE, now=BUILT), publish_java_database(oci_client)]
    assert len(COMMANDS) == 2

    mirror(oci_client, oci_target)

    names = ("mirror/trivy-db:2", "mirror/trivy-java-db:1")
    copies = [oci_target.head_manifest(*name.split(":")) for name in names]
    assert [one.digest for one in copies if one] == digests
    vulnerabilities, java = (f"{oci_target.registry.host}/{name}" for name in names)
    deadline = time.monotonic() + 60
    options = TrivyOptions(db_repository=vulnerabilities, wheel=True)
    found = ensure_database(options, tmp_path / "cache", now=BUILT + timedelta(hours=1), deadline=deadline)
    facts = found.facts
    assert (facts.repository, facts.updated_at, facts.sample, facts.stale) == (
        vulnerabilities,
        BUILT,
        True,
        False,
    )
    run_trivy(
        ["image", "--download-java-db-only", "--no-progress", "--java-db-repository", java],
        cache_dir=tmp_path / "java",
        work_dir=tmp_path,
        deadline=deadline,
        wheel=True,
        registry=oci_target.registry,
    )
    assert (tmp_path / "java" / "java-db" / "trivy-java.db").read_bytes() == b"java"


def test_a_newer_database_replaces_the_copy(oci_client: RegistryClient, oci_target: RegistryClient) -> None:
    """The same commands, run again by a timer, move the mirror's tags."""
    publish_java_database(oci_client)
    for hours in (1, 2):
        digest = publish_sample_database(oci_client, DATABASE, now=BUILT + timedelta(hours=hours))
        mirror(oci_client, oci_target)
        copy = oci_target.head_manifest("mirror/trivy-db", "2")
        assert copy is not None
        assert copy.digest == digest


def test_a_mirror_is_carried_over_as_files(
    oci_client: RegistryClient, oci_target: RegistryClient, tmp_path: Path
) -> None:
    """skopeo exports a database to a folder and imports it again, byte for byte, as the page says."""
    digest = publish_sample_database(oci_client, DATABASE, now=BUILT)
    places = [
        f"docker://{oci_client.registry.host}/{DATABASE}:2",
        f"dir:{tmp_path / 'folder'}",
        f"docker://{oci_target.registry.host}/carried/trivy-db:2",
    ]
    for source, target in pairwise(places):
        options = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        subprocess.run(["skopeo", "copy", "-q", *options, source, target], check=True, timeout=60)

    copy = oci_target.head_manifest("carried/trivy-db", "2")
    assert copy is not None
    assert copy.digest == digest
