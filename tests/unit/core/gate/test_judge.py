from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.gate.findings import Finding, ScanReport, Severity
from delivery_chain.core.gate.judge import MOST_DECIDING, Hit, Verdict, describe, judge
from delivery_chain.core.results import Image
from delivery_chain.core.spec.scan import Clause, Scan
from delivery_chain.errors import ScanFailed
from support.findings import (
    AMD,
    ARM,
    CRITICAL,
    DATABASE,
    HIGH,
    IMAGE,
    INDEX,
    LOW,
    NOW,
    STALE,
    blocks,
    finding,
    judged,
    report,
    verdict,
)

UNSEEN = "the scan missed parts of the image, so it does not pass:\n"


@pytest.mark.parametrize(
    ("block", "findings", "blocked"),
    [
        ({"severity": "high"}, [], False),
        ({"severity": "high"}, [LOW], False),
        ({"severity": "high"}, [HIGH], True),
        ({"severity": "high"}, [CRITICAL], True),
        ({"severity": "critical"}, [HIGH], False),
        ({"severity": "unknown"}, [finding(severity="unknown")], True),
        ({"severity": "low"}, [finding(severity="unknown")], False),
        ({"severity": "high", "count": 2}, [HIGH, LOW], False),
        ({"severity": "high", "count": 2}, [HIGH, CRITICAL], True),
        ({"severity": "high", "count": 2, "logic": "or"}, [HIGH], True),
        ({"severity": "high", "count": 2, "logic": "or"}, [LOW], False),
        ({"severity": "high", "count": 2, "logic": "or"}, [LOW, finding("L-2", "low")], True),
        ({"findings": ["L-1"]}, [LOW], True),
        ({"findings": ["L-1"]}, [HIGH], False),
        ({"findings": ["l-1"]}, [LOW], True),
        ({"findings": ["ghsa-AAAA-bbbb-cccc"]}, [HIGH], True),
        ({"findings": ["L-1"], "severity": "critical"}, [LOW], True),
        ({"findings": ["L-1"], "severity": "high"}, [HIGH], True),
        ({"severity": "high", "fixable": True}, [HIGH], False),
        ({"severity": "high", "fixable": True}, [finding(fixed="1.1")], True),
        ({"severity": "high", "grace_days": 7}, [finding(published=NOW - timedelta(days=6))], False),
        ({"severity": "high", "grace_days": 7}, [finding(published=NOW - timedelta(days=7))], True),
        ({"severity": "high", "grace_days": 7}, [finding(published=None)], True),
        ({"severity": "high"}, [finding(published=NOW + timedelta(minutes=5))], True),
        ({"severity": "high", "grace_days": 7}, [finding(published=NOW + timedelta(minutes=5))], False),
        ({"severity": "high", "grace_days": 7}, [finding(published=datetime(2026, 5, 1))], True),  # noqa: DTZ001
        ({"any": [{"severity": "critical"}, {"findings": ["L-1"]}]}, [LOW], True),
        ({"any": [{"severity": "critical"}, {"findings": ["L-1"]}]}, [HIGH], False),
        ({"severity": "critical", "any": [{"severity": "high", "count": 2}]}, [HIGH], False),
        ({"severity": "critical", "any": [{"severity": "high", "count": 2}]}, [CRITICAL], True),
    ],
)
def test_clauses(block: dict[str, Any], findings: list[Finding], blocked: bool) -> None:  # noqa: FBT001 - a table
    """Severity, count, logic, ids, fixability and grace decide as the spec says; any clause blocks alone."""
    assert blocks(block, *findings) is blocked


def test_two_platforms_count_once() -> None:
    """One vulnerable package is one finding, on however many platforms; and the verdict is about the index."""
    images = [IMAGE, Image(digest=ARM, platform="linux/arm64")]
    reports = [report(HIGH), report(HIGH, LOW, platform="linux/arm64", digest=ARM)]
    scan = Scan.model_validate({"block": {"severity": "high", "count": 2}})
    assert judge(scan, reports, digest=INDEX, images=images, repository="api", now=NOW) == Verdict(
        digest=INDEX,
        passed=True,
        judged_at=NOW,
        counts={"critical": 0, "high": 1, "medium": 0, "low": 1, "unknown": 0},
        looked_at=(
            "linux/amd64: debian 12.0 with 88 packages",
            "linux/arm64: debian 12.0 with 88 packages",
        ),
    )


def test_other_package_counts() -> None:
    """The same id in another package, version or place is another finding."""
    others = [finding(package="curl"), finding(installed="2.0"), finding(location="app/lock")]
    assert blocks({"severity": "high", "count": 4}, finding(), *others)


def test_blocked_verdict() -> None:
    """A block names its clause, how many findings met it, and which, worst first."""
    found = verdict({"block": {"severity": "high"}}, LOW, HIGH, CRITICAL)
    assert (found.passed, found.hits, [one.id for one in found.deciding]) == (
        False,
        (Hit(clause=describe(Clause(severity=Severity.HIGH)), count=2),),
        ["C-1", "H-1"],
    )


def test_deciding_is_bounded() -> None:
    """A verdict names at most 20 findings, but counts them all."""
    found = verdict({"block": {"severity": "high"}}, *(finding(f"CVE-{n:03}") for n in range(50)))
    assert (found.hits[0].count, len(found.deciding)) == (50, MOST_DECIDING)


def test_no_policy_passes_and_says_so() -> None:
    """A chain without `block` lets everything pass, and the verdict says why."""
    found = verdict({}, CRITICAL)
    assert (found.passed, found.counts["critical"], found.notes) == (
        True,
        1,
        ("nothing blocks: the chain has no scan.block",),
    )


def test_no_scan_passes_and_says_so() -> None:
    """A chain that does not scan lets everything pass, and the verdict says why."""
    assert judge(Scan(enabled=False), [], digest=AMD, images=[], repository="api", now=NOW) == Verdict(
        digest=AMD, passed=True, judged_at=NOW, notes=("not scanned: the chain has scan.enabled: false",)
    )


@pytest.mark.parametrize(
    ("reports", "images", "message"),
    [
        ([], [IMAGE], f"no trivy report on {AMD[:19]} (linux/amd64)"),
        (
            [report(stale=True)],
            [IMAGE],
            (
                f"{UNSEEN}    stale_database: the vulnerability {STALE} some_max_age_hours allows\n"
                "Next: let the worker reach a newer one, or name a mirror in [delivery_chain] some_repository. Or"
            ),
        ),
        (
            [report(java=DATABASE.model_copy(update={"stale": True, "kind": "Java database"}))],
            [IMAGE],
            f"{UNSEEN}    stale_database: the Java {STALE} some_max_age_hours allows\n",
        ),
    ],
)
@pytest.mark.parametrize("block", [None, {"severity": "critical", "count": 99}])
def test_fails_closed(
    reports: list[ScanReport], images: list[Image], message: str, block: dict[str, Any] | None
) -> None:
    """An incomplete, foreign or outdated scan is never a pass, whatever the policy."""
    scan = Scan.model_validate({"block": block})
    with pytest.raises(ScanFailed) as caught:
        judge(scan, reports, digest=INDEX, images=images, repository="api", now=NOW)
    assert str(caught.value).startswith(message)


SEVERITIES = st.sampled_from([severity.value for severity in Severity])
IDS = st.sampled_from(["CVE-2026-0001", "CVE-2026-0002", "CVE-2026-0003", "CVE-2026-0004"])
FINDINGS = st.lists(
    st.builds(
        finding,
        IDS,
        SEVERITIES,
        package=st.sampled_from(["a", "b", "c"]),
        fixed=st.sampled_from(["", "2"]),
        published=st.sampled_from([None, NOW, NOW - timedelta(days=30)]),
    ),
    max_size=8,
    unique_by=lambda f: (f.id, f.package),
)
CLAUSE = st.fixed_dictionaries(
    {"severity": SEVERITIES, "count": st.integers(1, 4)},
    optional={
        "logic": st.sampled_from(["and", "or"]),
        "findings": st.lists(IDS, max_size=2),
        "fixable": st.booleans(),
        "grace_days": st.integers(0, 40),
    },
)
BLOCK = st.builds(
    lambda first, others, excepted: {
        **first,
        "any": others,
        "exceptions": [{"id": name, "reason": "known"} for name in excepted],
    },
    CLAUSE,
    st.lists(CLAUSE, max_size=2),
    st.lists(IDS, max_size=1),
)


@given(BLOCK, FINDINGS, st.data())
def test_more_findings_never_unblock(
    block: dict[str, Any], findings: list[Finding], data: st.DataObject
) -> None:
    """Taking findings away never blocks what passed; so adding some never lets a blocked image through."""
    fewer = data.draw(st.lists(st.sampled_from(findings), unique=True) if findings else st.just([]))
    assert blocks(block, *findings) or not blocks(block, *fewer)


@given(BLOCK, FINDINGS)
def test_verdict_agrees_with_itself(block: dict[str, Any], findings: list[Finding]) -> None:
    """An image passes if and only if no clause is hit, and the deciding findings are what hit."""
    found = verdict({"block": block}, *findings)
    assert found.passed == (not found.hits) == (not found.deciding)
    assert {one.id for one in found.deciding} <= {one.id for one in findings}
    assert all(hit.count for hit in found.hits)


@given(BLOCK, FINDINGS)
def test_order_does_not_matter(block: dict[str, Any], findings: list[Finding]) -> None:
    """The order in which an engine lists its findings changes nothing in the verdict."""
    assert verdict({"block": block}, *findings) == verdict({"block": block}, *reversed(findings))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"severity": "high"}, "findings at or above high (limit 1)"),
        ({"severity": "high", "count": 3, "fixable": True}, "fixable findings at or above high (limit 3)"),
        ({"severity": "unknown", "count": 2}, "findings of any severity (limit 2)"),
        (
            {"severity": "low", "count": 9, "logic": "or", "grace_days": 7},
            (
                "findings at or above low published 7 or more days ago (limit 1) or "
                "findings in all published 7 or more days ago (limit 9)"
            ),
        ),
        ({"findings": ["CVE-2026-0001", "DSA-1"]}, "findings among CVE-2026-0001, DSA-1"),
    ],
)
def test_describe(fields: dict[str, Any], expected: str) -> None:
    """A clause reads as a person would say it."""
    assert describe(Clause.model_validate(fields)) == expected


def test_an_exception_names_a_package_or_leaves_it_out() -> None:
    """An empty name would be that of every package without a source package."""
    entry = {"id": "CVE-2026-0001", "package": "", "reason": "x"}
    with pytest.raises(ValueError, match="at least 1 character"):
        judged({"block": {"severity": "high", "exceptions": [entry]}}, [report(finding())])
