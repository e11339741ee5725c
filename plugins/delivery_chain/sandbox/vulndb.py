"""The sample vulnerability database: reviewed facts in, the artifact that Trivy downloads out.

For a sandbox without internet only. The artifact says of itself that it is a sample, the scan report and
the gate's verdict repeat it, and nothing here ever stands in for Trivy's own database unasked.

Source: aquasecurity/trivy-db, schema 2 (buckets and values); Trivy, "Self-Hosting Trivy's Databases".
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from delivery_chain.core.reference import sha256_digest
from delivery_chain.errors import ConfigurationError
from delivery_chain.sandbox.bbolt import Tree, dump_bbolt
from delivery_chain.tools.trivy_db import SAMPLE_ANNOTATION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from delivery_chain.oci.client import RegistryClient

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.aquasec.trivy.config.v1+json"
LAYER_TYPE = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"
SCHEMA_VERSION = 2
VALID_FOR = timedelta(days=1)
"""How long it names itself current, as Trivy's own does: a newer one in the mirror is then picked up."""
_SEVERITIES = ("unknown", "low", "medium", "high", "critical")
_AFFECTED = 2
_DESCRIPTION = (
    "Sample vulnerability database of airflow-delivery-chain: {count} vulnerabilities, for demonstrations "
    "without internet. A scan that finds nothing with it proves nothing."
)


def publish_sample_database(
    client: RegistryClient,
    name: str = "aquasecurity/trivy-db",
    tag: str = "2",
    *,
    now: datetime,
) -> str:
    """Push the sample database to a registry, for `[delivery_chain] trivy_db_repository` to name.

    Args:
        client: The registry.
        name: Repository.
        tag: Trivy asks for its schema version, `2`, where nobody names a tag.
        now: The build time that the database states. Equal times give equal bytes and digests.

    Returns:
        The manifest's digest.

    Raises:
        RegistryError: The push failed; see its subclasses for what may be retried.
    """
    layer = database_layer(now)
    config = b"{}"
    client.put_blob_bytes(name, config)
    client.put_blob_bytes(name, layer)
    manifest = sample_manifest(layer=layer, config=config)
    return client.put_manifest(name, tag, manifest, MANIFEST_TYPE)


def sample_manifest(*, layer: bytes, config: bytes) -> bytes:
    """The artifact's manifest, marked as a sample."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _descriptor(CONFIG_TYPE, config),
        "layers": [
            {
                **_descriptor(LAYER_TYPE, layer),
                "annotations": {"org.opencontainers.image.title": "db.tar.gz"},
            }
        ],
        "annotations": {
            SAMPLE_ANNOTATION: "true",
            "org.opencontainers.image.description": _DESCRIPTION.format(count=len(sample_ids())),
        },
    }
    return json.dumps(manifest, separators=(",", ":")).encode()


def database_layer(now: datetime) -> bytes:
    """The artifact's one layer: a gzipped tar of `trivy.db` and `metadata.json`."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, content in (("trivy.db", dump_bbolt(sample_tree())), ("metadata.json", metadata(now))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def metadata(now: datetime) -> bytes:
    """`metadata.json`: `{"Version", "NextUpdate", "UpdatedAt", "DownloadedAt"}`, times in UTC."""
    stated = now.astimezone(UTC)
    times = {
        "NextUpdate": _rfc3339(stated + VALID_FOR),
        "UpdatedAt": _rfc3339(stated),
        "DownloadedAt": "0001-01-01T00:00:00Z",
    }
    return json.dumps({"Version": SCHEMA_VERSION, **times}, separators=(",", ":")).encode()


def sample_ids() -> tuple[str, ...]:
    """Ids of all vulnerabilities that the sample knows, sorted."""
    return tuple(sorted(fact["id"] for source in _facts() for fact in source["vulnerabilities"]))


def sample_tree() -> Tree:
    """The facts as Trivy's buckets: `data-source`, `vulnerability` and one bucket for each source."""
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
    """What one package's bucket says of one vulnerability."""
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
    """What the `vulnerability` bucket says of it, whatever the package.

    Only GitHub rates what it publishes; for Debian the rating in the CVE record is stated without a vendor.
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
