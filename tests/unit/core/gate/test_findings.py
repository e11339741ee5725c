from __future__ import annotations

import json
from typing import Any

from delivery_chain.core.gate.findings import Database, ScanReport
from support.findings import NOW, report

OLD: dict[str, Any] = {"repository": "example.org/db:2", "updated_at": NOW.isoformat()}


def test_reports_of_older_versions_are_read() -> None:
    """They are in registries for years: one database, and maybe one of Java archives."""
    written = json.loads(report().model_dump_json())
    del written["databases"]
    older = written | {"database": OLD | {"stale": True}, "java_database": OLD | {"sample": True}}
    assert ScanReport.model_validate_json(json.dumps(older)).databases == (
        Database(kind="vulnerability database", repository="example.org/db:2", updated_at=NOW, stale=True),
        Database(kind="Java database", repository="example.org/db:2", updated_at=NOW, sample=True),
    )
    one = ScanReport.model_validate_json(json.dumps(written | {"database": OLD, "java_database": None}))
    assert [database.kind for database in one.databases] == ["vulnerability database"]


def test_what_an_older_version_left_keeps_its_fingerprint() -> None:
    """A run that is under way while the package is updated is judged by what its scans left before."""
    assert (
        Database.from_xcom(OLD).to_xcom() == Database(repository="example.org/db:2", updated_at=NOW).to_xcom()
    )
    assert set(Database.from_xcom(OLD).to_xcom()) == {"repository", "updated_at", "sample", "stale"}


def test_advice_of_a_strangers_report_is_dropped() -> None:
    """Its facts stay."""
    made = report(stale=True)
    assert made.without_advice().databases == (
        Database(repository="example.org/db:2", updated_at=made.database.updated_at, stale=True),
    )
