"""Merging reports: the strictest witness counts, each vulnerability once, and another report is never milder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery_chain.core.gate.findings import Finding, ScanReport, Severity, Witness
from delivery_chain.core.gate.merge import merge
from support.findings import AMD, ARM, DATABASE, NOW, finding, judged, report

CVE, OTHER_CVE = "CVE-2021-44228", "CVE-2021-45046"
GHSA, OTHER_GHSA = "GHSA-jfh8-c2jp-5v3q", "GHSA-7rjr-3q55-vv33"
DSA = "DSA-5020-1"


def on_arm(*findings: Finding, **fields: Any) -> ScanReport:
    return report(*findings, platform="linux/arm64", digest=ARM, **fields)


def brief(found: tuple[Finding, ...]) -> list[tuple[str, str, str]]:
    return [(one.id, one.severity.value, one.fixed) for one in found]


@pytest.mark.parametrize("turned", [False, True])
def test_reports_that_disagree_give_the_worst(turned: bool) -> None:  # noqa: FBT001 - a table
    """Worst severity, a fix if one knows it, the earliest publication; every witness is kept."""
    day = datetime(2026, 5, 1, tzinfo=UTC)
    bad = report(finding(CVE, "critical", published=day))
    mild = on_arm(finding(CVE, "low", fixed="2", published=day - timedelta(days=9)), updated_at=day)

    found = merge([mild, bad] if turned else [bad, mild])

    assert found == (
        Finding(
            id=CVE,
            severity=Severity.CRITICAL,
            package="openssl",
            installed="1.0",
            fixed="2",
            platform="linux/amd64, linux/arm64",
            published=day - timedelta(days=9),
            witnesses=(
                Witness(
                    engine="trivy",
                    platform="linux/amd64",
                    id=CVE,
                    severity=Severity.CRITICAL,
                    database=DATABASE.updated_at,
                ),
                Witness(
                    engine="trivy",
                    platform="linux/arm64",
                    id=CVE,
                    severity=Severity.LOW,
                    fixed="2",
                    database=day,
                ),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("block", "first", "second"),
    [
        ({"severity": "critical"}, {"severity": "critical"}, {"severity": "low"}),
        ({"severity": "high", "fixable": True}, {"fixed": "2"}, {"fixed": ""}),
        (
            {"severity": "critical", "fixable": True},
            {"severity": "critical"},
            {"severity": "low", "fixed": "2"},
        ),
        (
            {"severity": "high", "grace_days": 7},
            {"published": NOW - timedelta(days=30)},
            {"published": NOW - timedelta(days=1)},
        ),
        ({"severity": "high", "grace_days": 7}, {"published": None}, {"published": NOW - timedelta(days=1)}),
    ],
)
def test_what_one_report_blocks_no_other_report_lets_through(
    block: dict[str, Any], first: dict[str, Any], second: dict[str, Any]
) -> None:
    """The stricter of two reports decides, whichever comes last."""
    reports = [report(finding(CVE, **first)), on_arm(finding(CVE, **second))]

    assert [judged({"block": block}, order).passed for order in (reports, reports[::-1])] == [False, False]


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ([finding(CVE, aliases=(GHSA,)), finding(GHSA)], [CVE]),
        ([finding(CVE), finding(GHSA, aliases=(CVE,))], [CVE]),
        ([finding(CVE.lower(), aliases=(GHSA.lower(),)), finding(GHSA)], [CVE.lower()]),
        ([finding(CVE, aliases=(DSA, GHSA)), finding(DSA)], [CVE]),
        ([finding(CVE, aliases=(GHSA,)), finding(OTHER_GHSA)], [CVE, OTHER_GHSA]),
        ([finding(CVE, aliases=(GHSA,)), finding(GHSA, package="curl")], [CVE, GHSA]),
        # One advisory about two vulnerabilities does not make them one.
        ([finding(CVE, aliases=(DSA,)), finding(OTHER_CVE, aliases=(DSA,))], [CVE, OTHER_CVE]),
        ([finding(CVE, aliases=(DSA,)), finding(OTHER_CVE, aliases=(DSA,)), finding(DSA)], [CVE, OTHER_CVE]),
        ([finding(CVE, aliases=(OTHER_CVE,)), finding(OTHER_CVE)], [CVE, OTHER_CVE]),
        # Two advisories stay two: without the report that joins them they would be.
        ([finding(CVE, aliases=(GHSA, DSA)), finding(GHSA), finding(DSA)], [CVE, GHSA]),
        # The second CVE has room for the second advisory only if the first one moves.
        (
            [
                finding(CVE, aliases=(DSA, GHSA)),
                finding(OTHER_CVE, aliases=(DSA,)),
                finding(DSA),
                finding(GHSA),
            ],
            [CVE, OTHER_CVE],
        ),
    ],
)
def test_ids_that_name_each_other_are_one(findings: list[Finding], expected: list[str]) -> None:
    """The same vulnerability under another id counts once, in whatever order the reports come."""
    reports = [report(one) for one in findings]

    results = {merge(order) for order in permutations(reports)}

    assert [[one.id for one in found] for found in results] == [expected]


def test_a_merged_finding_answers_to_all_its_ids() -> None:
    """Ids of both reports are aliases afterwards, so a list of ids meets it by each of them."""
    (found,) = merge(
        [report(finding(CVE, "low", aliases=(GHSA,))), on_arm(finding(GHSA, "high", aliases=(DSA,)))]
    )

    assert (found.id, found.aliases, found.severity) == (CVE, (DSA, GHSA), Severity.HIGH)


def test_an_exception_excuses_no_more_after_merging_than_before() -> None:
    """What one report calls by another name is not excused by that name in a report that does not know it."""
    exceptions = [{"id": GHSA, "reason": "not reachable"}]
    block = {"block": {"severity": "high", "exceptions": exceptions}}
    knows, does_not = report(finding(CVE, aliases=(GHSA,))), on_arm(finding(CVE))

    assert [judged(block, found).passed for found in ([knows], [does_not], [knows, does_not])] == [
        True,
        False,
        False,
    ]
    assert not any(judged(block, [knows, does_not]).accepted.values())


IDS = st.sampled_from([CVE, OTHER_CVE, "CVE-2026-0001", GHSA, OTHER_GHSA, DSA])
SEVERITY = st.sampled_from([severity.value for severity in Severity])
FINDING = st.builds(
    finding,
    IDS,
    SEVERITY,
    aliases=st.lists(IDS, max_size=2, unique=True).map(tuple),
    package=st.sampled_from(["libssl3", "libcrypto3"]),
    source=st.sampled_from(["", "openssl"]),
    installed=st.just("1"),
    fixed=st.sampled_from(["", "2", "3"]),
    published=st.sampled_from([None, NOW, NOW - timedelta(days=30)]),
)
REPORT = st.builds(
    lambda findings, place, engine, age: report(
        *findings, platform=place[0], digest=place[1], engine=engine, updated_at=NOW - timedelta(hours=age)
    ),
    st.lists(FINDING, max_size=5),
    st.sampled_from([("linux/amd64", AMD), ("linux/arm64", ARM)]),
    st.sampled_from(["trivy", "other"]),
    st.integers(1, 50),
)
REPORTS = st.lists(REPORT, min_size=1, max_size=4)
CLAUSE = st.fixed_dictionaries(
    {"severity": SEVERITY, "count": st.integers(1, 5)},
    optional={
        "logic": st.sampled_from(["and", "or"]),
        "findings": st.lists(IDS, max_size=2),
        "fixable": st.booleans(),
        "grace_days": st.integers(0, 40),
    },
)
EXCEPTION = st.fixed_dictionaries(
    {"id": IDS, "reason": st.just("known")},
    optional={
        "package": st.sampled_from(["libssl3", "openssl"]),
        "repository": st.sampled_from(["api", "web"]),
        "expires": st.sampled_from([NOW.date(), NOW.date() - timedelta(days=1)]),
    },
)
BLOCK = st.builds(
    lambda first, others, exceptions: {**first, "any": others, "exceptions": exceptions},
    CLAUSE,
    st.lists(CLAUSE, max_size=1),
    st.lists(EXCEPTION, max_size=2),
)


def blocked(block: dict[str, Any], reports: list[ScanReport]) -> bool:
    # All engines' reports on both platforms stand for one image: only what is found matters here.
    trivy = [report(), on_arm()]
    return not judged({"block": block}, [*trivy, *reports]).passed


@settings(max_examples=2000, deadline=None)
@given(BLOCK, REPORTS, REPORT)
def test_one_report_more_is_never_milder(
    block: dict[str, Any], reports: list[ScanReport], more: ScanReport
) -> None:
    """No report turns a block into a pass: by severity, count, fix, grace, list, `or` or exceptions."""
    assert blocked(block, [*reports, more]) or not blocked(block, reports)


@settings(max_examples=1000, deadline=None)
@given(REPORTS)
def test_one_report_more_never_lowers_a_count(reports: list[ScanReport]) -> None:
    """For each severity: as many findings at or above it as without the last report, or more."""

    def at_least(level: Severity, found: list[ScanReport]) -> int:
        return sum(one.severity.at_least(level) for one in merge(found))

    assert all(at_least(level, reports) >= at_least(level, reports[:-1]) for level in Severity)


@settings(max_examples=1000, deadline=None)
@given(REPORTS, st.randoms())
def test_the_order_of_reports_and_findings_does_not_matter(reports: list[ScanReport], random: Any) -> None:
    """Merging gives equal findings in equal order, whatever order they came in."""
    shuffled = [
        one.model_copy(update={"findings": tuple(random.sample(one.findings, len(one.findings)))})
        for one in random.sample(reports, len(reports))
    ]
    assert merge(shuffled) == merge(reports)


@settings(max_examples=500, deadline=None)
@given(st.lists(FINDING, max_size=6), st.integers(2, 5))
def test_equal_reports_of_many_platforms_count_once(findings: list[Finding], platforms: int) -> None:
    """The same package with the same findings on n platforms gives the counts of one platform."""
    reports = [report(*findings, platform=f"linux/{number}", digest=AMD) for number in range(platforms)]
    assert brief(merge(reports)) == brief(merge(reports[:1]))
