"""The sample vulnerability database: reviewed facts, Trivy's format, and the mark that it is a sample."""

from __future__ import annotations

import gzip
import io
import json
import re
import sqlite3
import tarfile
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.sandbox import vulndb

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
FACTS: list[dict[str, Any]] = yaml.safe_load(
    Path(vulndb.__file__).with_name("vulndb_facts.yaml").read_text(encoding="utf-8")
)["sources"]
ENTRIES = [(source["bucket"], fact) for source in FACTS for fact in source["vulnerabilities"]]


@pytest.mark.parametrize(("bucket", "fact"), ENTRIES, ids=[fact["id"] for _, fact in ENTRIES])
def test_every_fact_is_complete_and_says_what_was_read(bucket: str, fact: dict[str, Any]) -> None:
    """An entry has an id, a rating, a date, a package, a fix or a status, and its source."""
    assert re.fullmatch(r"CVE-\d{4}-\d{4,6}", fact["id"])
    assert fact["severity"] in {"low", "medium", "high", "critical"}
    assert datetime(2011, 1, 1, tzinfo=UTC).date() < fact["published"] < NOW.date()
    assert len(fact["checked"]) > 20
    assert fact["title"].startswith(
        ("Jinja2", "PyYAML", fact["package"].rpartition(":")[2].rstrip("0123456789-")[:2])
    )
    kinds = {"fixed", "vulnerable", "status"} & fact.keys()
    assert kinds in ({"fixed"}, {"status"}) if bucket.startswith("debian") else kinds == {"vulnerable"}
    assert len(fact.get("vulnerable", [])) == len(fact.get("patched", []))
    advisory = fact.get("advisory", "DSA-1-1" if bucket.startswith("debian") else "")
    assert re.fullmatch(r"DSA-\d+-\d+|GHSA(-[23456789cfghjmpqrvwx]{4}){3}", advisory)


def test_every_vulnerability_has_its_details_and_its_source() -> None:
    """The three kinds of bucket that Trivy reads fit together."""
    tree = vulndb.sample_tree()
    sources = {key for key in tree if key not in {b"data-source", b"vulnerability"}}
    details, described = tree[b"vulnerability"], tree[b"data-source"]
    assert not isinstance(details, bytes)
    assert not isinstance(described, bytes)

    used = {
        id_
        for source in sources
        for package in tree[source].values()  # type: ignore[union-attr]
        for id_ in package
    }

    assert set(described) == sources
    assert used == set(details) == {id_.encode() for id_ in vulndb.sample_ids()}
    assert len(used) == len(ENTRIES)


def test_a_debian_fact_becomes_trivys_entry() -> None:
    """Fixed version, advisory and details stand where Trivy looks."""
    tree: Any = vulndb.sample_tree()

    assert json.loads(tree[b"debian 12"][b"glibc"][b"CVE-2023-4911"]) == {
        "FixedVersion": "2.36-9+deb12u3",
        "VendorIDs": ["DSA-5514-1"],
    }
    assert json.loads(tree[b"vulnerability"][b"CVE-2023-4911"]) == {
        "Title": "glibc: buffer overflow in ld.so's GLIBC_TUNABLES gives local root (Looney Tunables)",
        "Description": "glibc: buffer overflow in ld.so's GLIBC_TUNABLES gives local root (Looney Tunables)",
        "Severity": "HIGH",
        "CweIDs": ["CWE-122"],
        "References": ["https://www.cve.org/CVERecord?id=CVE-2023-4911"],
        "PublishedDate": "2023-10-03T00:00:00Z",
    }


def test_an_unfixed_debian_fact_states_debians_rating() -> None:
    """A vulnerability without a fix has a status, and the tracker's own severity."""
    tree: Any = vulndb.sample_tree()

    assert json.loads(tree[b"debian 12"][b"apt"][b"CVE-2011-3374"]) == {"Severity": 1, "Status": 2}


def test_metadata_is_in_utc_and_asks_for_an_update_a_day_later() -> None:
    """Whatever zone the clock has, `metadata.json` is in UTC."""
    local = NOW.astimezone(timezone(timedelta(hours=8)))

    assert json.loads(vulndb.metadata(local)) == {
        "Version": 2,
        "NextUpdate": "2026-11-21T12:00:00Z",
        "UpdatedAt": "2026-11-20T12:00:00Z",
        "DownloadedAt": "0001-01-01T00:00:00Z",
    }


def test_equal_times_give_equal_layers() -> None:
    """The artifact is the same byte for byte, so publishing it again changes nothing."""
    assert vulndb.database_layer(NOW) == vulndb.database_layer(NOW)


def test_the_java_database_is_empty_and_has_what_trivy_asks_for() -> None:
    """Two tables without rows, and metadata of its own schema; equal times give equal bytes."""
    layer = vulndb.java_layer(NOW)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer))) as archive:
        content = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]

    database = sqlite3.connect(":memory:")
    database.deserialize(content["trivy-java.db"])
    rows = [
        database.execute(query).fetchone()
        for query in ("SELECT count(*) FROM artifacts", "SELECT count(*) FROM indices")
    ]
    database.close()

    assert (rows, json.loads(content["metadata.json"])["Version"]) == ([(0,), (0,)], 1)
    assert layer == vulndb.java_layer(NOW)


def test_the_layer_is_a_tar_of_the_two_files() -> None:
    """Trivy unpacks `trivy.db` and `metadata.json` from the root of the archive."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(vulndb.database_layer(NOW)))) as archive:
        assert archive.getnames() == ["trivy.db", "metadata.json"]


def test_the_manifest_says_that_it_is_a_sample() -> None:
    """One layer of Trivy's type, and an annotation that the scan repeats."""
    document = json.loads(vulndb.sample_manifest(layer=b"layer", config=b"{}"))

    assert document == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.aquasec.trivy.config.v1+json",
            "digest": sha256_digest(b"{}"),
            "size": 2,
        },
        "layers": [
            {
                "mediaType": "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip",
                "digest": sha256_digest(b"layer"),
                "size": 5,
                "annotations": {"org.opencontainers.image.title": "db.tar.gz"},
            }
        ],
        "annotations": {
            "dev.delivery-chain.sample": "true",
            "org.opencontainers.image.description": (
                "Sample vulnerability database of airflow-delivery-chain: 23 vulnerabilities, for "
                "demonstrations without internet. A clean scan with it proves nothing."
            ),
        },
    }
