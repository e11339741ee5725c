from __future__ import annotations

from delivery_chain.sandbox import record
from delivery_chain.sandbox.runs import Instance

DIGEST = "sha256:" + "a" * 64
REGION = {
    "rule": "to-frankfurt", "region": "eu-central-1", "host": "eu.example", "name": "shop/api", "digest": DIGEST,
    "tags": [{"tag": "v1", "state": "moved", "digest": DIGEST}], "copied": 2, "skipped": 1, "bytes": 9, "seconds": 0.1,
}  # fmt: skip
VERDICT = {
    "digest": DIGEST,
    "passed": False,
    "judged_at": "2026-11-01T00:00:00Z",
    "hits": [{"clause": "findings at or above high (limit 1)", "count": 1}],
    "deciding": [
        {
            "id": "CVE-2022-37434",
            "severity": "critical",
            "package": "zlib",
            "installed": "1.2.11-r3",
            "fixed": "1.2.12-r2",
        }
    ],
}


def test_the_record_has_a_row_for_each_instance_that_ran() -> None:
    """Mapped instances by their labels, with what they left; those that were skipped before stand together."""
    instances = [
        Instance("gate", -1, "", "success", 0.2),
        Instance("replicate", 0, "to-frankfurt", "success", 1.2),
        Instance("replicate", 1, "to-singapore", "skipped", 0.1),
        Instance("distribute", 0, "", "skipped", None),
        Instance("distribute", 1, "", "skipped", None),
        Instance("other", -1, "", "success", 0.0),
    ]
    assert record.rows(instances, {("gate", -1): VERDICT, ("replicate", 0): REGION}) == [
        ("step", "state", "time", "result"),
        ("gate", "success", "0.2 s", "blocked: 1 finding at or above high (limit 1)"),
        (
            "replicate to-frankfurt",
            "success",
            "1.2 s",
            "sha256:aaaaaaaaaaaa in eu-central-1: v1 moved; 2 blobs sent",
        ),
        ("replicate to-singapore", "skipped", "", ""),
        ("distribute", "skipped", "", ""),
    ]


def test_a_blocked_run_names_its_findings() -> None:
    """The findings that met a clause are a line each; a run without a verdict has none."""
    assert (record.deciding({("gate", -1): VERDICT}), record.deciding({})) == (
        ["CVE-2022-37434 critical: zlib 1.2.11-r3 (fixed in 1.2.12-r2)"],
        [],
    )
