"""Builds the sample databases, which are artifacts that Trivy downloads, from reviewed facts.

The vulnerability database has a handful of entries. The Java database is empty: Trivy then identifies only archives
that identify themselves (`pom.properties`), which needs no internet.

The databases are only for a sandbox without internet. Each artifact declares itself a sample, the scan report and the
gate's verdict repeat that, and nothing here ever replaces Trivy's own database unasked.

Source: aquasecurity/trivy-db, schema 2 (buckets and values); Trivy, "Self-Hosting Trivy's Databases".
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import sqlite3
import tarfile
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.errors import ConfigurationError
from delivery_chain.sandbox.bbolt import Tree, dump_bbolt
from delivery_chain.scanners.trivy.database_kinds import JAVA, VULNERABILITIES
from delivery_chain.scanners.trivy.databases import SAMPLE_ANNOTATION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.scanners.trivy.database_kinds import DatabaseKind

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.aquasec.trivy.config.v1+json"
LAYER_TYPE = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"
JAVA_LAYER_TYPE = "application/vnd.aquasec.trivy.javadb.layer.v1.tar+gzip"
VALID_FOR = timedelta(days=1)
"""Stated validity, as in Trivy's own database. After it, Trivy fetches a newer database from the mirror."""
_SEVERITIES = ("unknown", "low", "medium", "high", "critical")
_AFFECTED = 2
_DESCRIPTION = (
    "Sample vulnerability database of airflow-delivery-chain: {count} vulnerabilities, for demonstrations "
    "without internet. A clean scan with it proves nothing."
)
_JAVA_DESCRIPTION = (
    "Sample Java database of airflow-delivery-chain: empty, for demonstrations without internet. It can't identify "
    "archives that do not identify themselves."
)
_JAVA_TABLES = (
    "CREATE TABLE artifacts(id INTEGER PRIMARY KEY, group_id TEXT, artifact_id TEXT)",
    (
        "CREATE TABLE indices(artifact_id INTEGER, version TEXT, sha1 BLOB, archive_type TEXT, "
        "FOREIGN KEY (artifact_id) REFERENCES artifacts(id))"
    ),
)
"""Schema of the Java database, as in aquasecurity/trivy-java-db, pkg/db."""


def publish_sample_database(
    client: RegistryClient,
    name: str = "aquasecurity/trivy-db",
    tag: str = "2",
    *,
    now: datetime,
) -> str:
    """Push the sample database to a registry, for use in `[delivery_chain] trivy_db_repository`.

    Args:
        client: The registry.
        name: Repository.
        tag: Tag. If the setting has no tag, Trivy requests its schema version, `2`.
        now: The build time stated in the database. Equal times give equal bytes and digests.

    Returns:
        The manifest's digest.

    Raises:
        RegistryError: The push failed; its subclass says whether to retry.
    """
    return _publish(client, name, tag, database_layer(now))


def publish_sample_java_database(
    client: RegistryClient,
    name: str = "aquasecurity/trivy-java-db",
    tag: str = "1",
    *,
    now: datetime,
) -> str:
    """Push the empty Java database, for `[delivery_chain] trivy_java_db_repository`; see `publish_sample_database`."""
    return _publish(client, name, tag, java_layer(now), java=True)


def _publish(client: RegistryClient, name: str, tag: str, layer: bytes, *, java: bool = False) -> str:
    config = b"{}"
    client.put_blob_bytes(name, config)
    client.put_blob_bytes(name, layer)
    return client.put_manifest(
        name, tag, sample_manifest(layer=layer, config=config, java=java), MANIFEST_TYPE
    )


def sample_manifest(*, layer: bytes, config: bytes, java: bool = False) -> bytes:
    """The artifact's manifest, marked as a sample."""
    title = "javadb.tar.gz" if java else "db.tar.gz"
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _descriptor(CONFIG_TYPE, config),
        "layers": [
            {
                **_descriptor(JAVA_LAYER_TYPE if java else LAYER_TYPE, layer),
                "annotations": {"org.opencontainers.image.title": title},
            }
        ],
        "annotations": {
            SAMPLE_ANNOTATION: "true",
            "org.opencontainers.image.description": _JAVA_DESCRIPTION
            if java
            else _DESCRIPTION.format(count=len(sample_ids())),
        },
    }
    return json.dumps(manifest, separators=(",", ":")).encode()


def database_layer(now: datetime) -> bytes:
    """The artifact's only layer: a gzipped tar of `trivy.db` and `metadata.json`."""
    return _layer(VULNERABILITIES, dump_bbolt(sample_tree()), now)


def java_layer(now: datetime, database: bytes | None = None) -> bytes:
    """The layer of the Java database, with `trivy-java.db`; an empty one by default."""
    return _layer(JAVA, empty_java_database() if database is None else database, now)


def empty_java_database() -> bytes:
    """A SQLite file with the two tables that Trivy queries, both empty."""
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        for table in _JAVA_TABLES:
            database.execute(table)
        database.commit()
        return database.serialize()


def _layer(kind: DatabaseKind, database: bytes, now: datetime) -> bytes:
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, content in ((kind.file, database), ("metadata.json", metadata(now, kind))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def metadata(now: datetime, kind: DatabaseKind = VULNERABILITIES) -> bytes:
    """`metadata.json`: `{"Version", "NextUpdate", "UpdatedAt", "DownloadedAt"}`, times in UTC."""
    stated = now.astimezone(UTC)
    times = {
        "NextUpdate": _rfc3339(stated + VALID_FOR),
        "UpdatedAt": _rfc3339(stated),
        "DownloadedAt": "0001-01-01T00:00:00Z",
    }
    return json.dumps({"Version": kind.schema, **times}, separators=(",", ":")).encode()


def sample_ids() -> tuple[str, ...]:
    """Ids of all vulnerabilities in the sample, sorted."""
    return tuple(sorted(fact["id"] for source in _facts() for fact in source["vulnerabilities"]))


def sample_tree() -> Tree:
    """Arrange the facts in Trivy's buckets: `data-source`, `vulnerability` and one bucket for each source."""
    tree: dict[bytes, dict[bytes, Any]] = {b"data-source": {}, b"vulnerability": {}}
    for source in _facts():
        bucket = source["bucket"].encode()
        tree[b"data-source"][bucket] = _json(source["data_source"])
        packages = tree.setdefault(bucket, {})
        for fact in source["vulnerabilities"]:
            name, id_ = fact["package"].encode(), fact["id"].encode()
            packages.setdefault(name, {})[id_] = _json(_advisory(fact))
            tree[b"vulnerability"][id_] = _json(_detail(fact, source["data_source"]["ID"]))
    return tree


def _facts() -> list[dict[str, Any]]:
    text = files("delivery_chain.sandbox").joinpath("vulndb_facts.yaml").read_text(encoding="utf-8")
    sources: list[dict[str, Any]] = yaml.safe_load(text)["sources"]
    return sources


def _advisory(fact: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of one vulnerability in its package's bucket."""
    ids = {"VendorIDs": [fact["advisory"]]} if "advisory" in fact else {}
    if "fixed" in fact:
        return {"FixedVersion": str(fact["fixed"]), **ids}
    if "vulnerable" in fact:
        return {"PatchedVersions": fact["patched"], "VulnerableVersions": fact["vulnerable"], **ids}
    if fact.get("status") == "affected":
        return {"Severity": _severity(fact["debian_severity"]), "Status": _AFFECTED}
    raise ConfigurationError(
        f"vulndb_facts.yaml: {fact['id']}: expected fixed, vulnerable or status: affected"
    )


def _detail(fact: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The entry of one vulnerability in the `vulnerability` bucket, independent of the package.

    Only GitHub rates its own advisories. For Debian, the rating of the CVE record is given, without a vendor.
    """
    published = datetime.combine(fact["published"], datetime.min.time(), UTC)
    rated = {"VendorSeverity": {source: _severity(fact["severity"])}} if source == "ghsa" else {}
    return {
        "Title": fact["title"],
        "Description": fact["title"],
        "Severity": fact["severity"].upper(),
        **({"CweIDs": fact["cwe"]} if fact["cwe"] else {}),
        **rated,
        "References": [f"https://www.cve.org/CVERecord?id={fact['id']}"],
        "PublishedDate": _rfc3339(published),
    }


def _severity(name: str) -> int:
    return _SEVERITIES.index(name)


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256_digest(content), "size": len(content)}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _rfc3339(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
