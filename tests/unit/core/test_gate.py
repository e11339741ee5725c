from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.coverage import Coverage, Gap
from delivery_chain.core.findings import Finding, ScanReport, Severity
from delivery_chain.core.gate import MOST_DECIDING, Hit, Verdict, describe, judge
from delivery_chain.core.results import Image
from delivery_chain.core.spec_scan import Clause, Scan
from delivery_chain.errors import ScanFailed
from support.findings import AMD, ARM, DATABASE, INDEX, NOW, SEEN, finding, judged, report

STALE = "database example.org/db:2 is of 2026-05-20 07:00 UTC, older than [delivery_chain]"
IMAGE = Image(digest=AMD, platform="linux/amd64")
UNSEEN = "the scan did not see enough, so the image does not pass:\n"


def verdict(scan: dict[str, Any], *findings: Finding, repository: str = "api") -> Verdict:
    return judge(
        Scan.model_validate(scan),
        [report(*findings)],
        digest=AMD,
        images=[IMAGE],
        repository=repository,
        now=NOW,
    )


def blocks(block: dict[str, Any], *findings: Finding) -> bool:
    return not verdict({"block": block}, *findings).passed


CRITICAL, LOW = finding("C-1", "critical"), finding("L-1", "low")
HIGH = finding("H-1", "high", aliases=("GHSA-aaaa-bbbb-cccc",), source="openssl-src")


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


@pytest.mark.parametrize(
    ("exception", "blocked"),
    [
        ({"id": "H-1"}, False),
        ({"id": "h-1"}, False),
        ({"id": "CVE-2026-0002"}, True),
        ({"id": "ghsa-aaaa-bbbb-cccc"}, False),
        ({"id": "H-1", "package": "openssl-src"}, False),
        ({"id": "H-2"}, True),
        ({"id": "H-1", "package": "openssl"}, False),
        ({"id": "H-1", "package": "curl"}, True),
        ({"id": "H-1", "repository": "api"}, False),
        ({"id": "H-1", "repository": "web"}, True),
        ({"id": "H-1", "expires": NOW.date()}, False),
        ({"id": "H-1", "expires": NOW.date() - timedelta(days=1)}, True),
    ],
)
def test_exceptions(exception: dict[str, Any], blocked: bool) -> None:  # noqa: FBT001 - a table
    """An exception holds for its id, package and repository, up to and with its last day."""
    block = {"severity": "high", "exceptions": [{"reason": "not reachable", **exception}]}
    assert blocks(block, HIGH) is blocked


def test_exceptions_are_told() -> None:
    """The verdict names the exceptions that were used and those that have ended."""
    used = {"id": "H-1", "reason": "not reachable", "owner": "team", "expires": date(2027, 1, 1)}
    ended = {"id": "L-1", "reason": "soon", "expires": date(2026, 1, 1)}
    found = verdict({"block": {"severity": "high", "exceptions": [used, ended]}}, HIGH, LOW)
    assert found == Verdict(
        digest=AMD,
        passed=True,
        judged_at=NOW,
        counts={"critical": 0, "high": 0, "medium": 0, "low": 1, "unknown": 0},
        accepted={"critical": 0, "high": 1, "medium": 0, "low": 0, "unknown": 0},
        excepted=("H-1 in openssl: not reachable (team, until 2027-01-01)",),
        notes=("the exception for L-1 ended on 2026-01-01",),
        looked_at=("linux/amd64: debian 12.0 with 88 packages",),
    )


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
                f"{UNSEEN}    stale_database: the vulnerability {STALE} trivy_db_max_age_hours allows\n"
                "Next: let the worker reach a newer one"
            ),
        ),
        (
            [report(java=DATABASE.model_copy(update={"stale": True}))],
            [IMAGE],
            f"{UNSEEN}    stale_database: the Java {STALE} trivy_java_db_max_age_hours allows\n",
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


@pytest.mark.parametrize("gap", [gap for gap in Gap if gap is not Gap.STALE_DATABASE])
def test_what_was_not_looked_at_is_no_pass_unless_accepted_by_name(gap: Gap) -> None:
    """Each gap of a scan stops the image, blocking or not; accepting another one does not help."""
    seen = SEEN.model_copy(update={"gaps": (gap,)})
    others = [other for other in Gap if other is not gap]

    for scan in ({}, {"block": {"severity": "high"}}, {"accept": others}):
        with pytest.raises(
            ScanFailed, match=rf"(?s)    {gap}: linux/amd64 .*debian 12\.0.*`accept: \[{gap}\]`"
        ):
            judged(scan, [report(coverage=seen)])
    found = judged({"block": {"severity": "high"}, "accept": [gap]}, [report(coverage=seen)])
    assert (found.passed, found.notes) == (
        True,
        (
            f"linux/amd64 ({AMD[:19]}) {gap.problem}: debian 12.0 with 88 packages; accepted by the chain ({gap})",
        ),
    )


def test_all_gaps_of_all_platforms_are_told_at_once() -> None:
    """One message names every platform and gap, and the words that would accept them."""
    first = SEEN.model_copy(update={"gaps": (Gap.END_OF_LIFE, Gap.NO_PACKAGES)})
    second = Coverage(os_family="fedora", os_release="40", gaps=(Gap.UNSUPPORTED_OS,))
    reports = [
        report(coverage=first),
        report(coverage=second, platform="linux/arm64", digest=ARM, stale=True),
    ]

    with pytest.raises(ScanFailed) as caught:
        judged({}, reports)

    lines = str(caught.value).splitlines()
    assert [line.strip().split(" (")[0].split(" example")[0] for line in lines[1:-1]] == [
        "end_of_life: linux/amd64",
        "no_packages: linux/amd64",
        "stale_database: the vulnerability database",
        "unsupported_os: linux/arm64",
    ]
    assert "`accept: [stale_database, unsupported_os, no_packages, end_of_life]`" in lines[-1]


def test_stale_database_accepted_by_name() -> None:
    """A stale database passes only where the chain accepts it, and the verdict tells."""
    reports = [report(stale=True), report(stale=True, platform="linux/arm64", digest=ARM)]
    found = judged({"block": {"severity": "high"}, "accept": ["stale_database"]}, reports)
    assert (found.passed, found.notes) == (
        True,
        (f"the vulnerability {STALE} trivy_db_max_age_hours allows; accepted by the chain (stale_database)",),
    )


@pytest.mark.parametrize(
    ("block", "found", "sentence"),
    [
        ({"severity": "high"}, [], "passed with no findings"),
        ({"severity": "high"}, [LOW, finding("L-2", "low")], "passed with 2 low"),
        ({"severity": "high", "exceptions": ["H-1"]}, [HIGH], "passed; 1 high accepted by exceptions"),
        (
            {"severity": "high", "exceptions": [f"H-{n}" for n in range(5)]},
            [finding(f"H-{n}") for n in range(5)],
            "passed; 5 high accepted by exceptions",
        ),
        (
            {"severity": "high", "exceptions": ["C-1"]},
            [CRITICAL, LOW, finding("L-2", "low")],
            "passed with 2 low; 1 critical accepted by exceptions",
        ),
        (
            {"severity": "high", "count": 3, "logic": "or"},
            [LOW, finding("L-2", "low"), finding("L-3", "low")],
            "blocked: 3 findings in all (limit 3)",
        ),
        (
            {"severity": "high", "count": 3, "logic": "or"},
            [LOW, finding("L-2", "low"), HIGH],
            "blocked: 1 finding at or above high (limit 1); 3 findings in all (limit 3)",
        ),
        (
            {"severity": "high", "count": 2, "findings": ["l-1"]},
            [LOW, HIGH],
            "blocked: 1 finding among l-1",
        ),
    ],
)
def test_the_sentence_is_true(block: dict[str, Any], found: list[Finding], sentence: str) -> None:
    """A verdict's sentence says what passed by exceptions only, and which half of a clause was met."""
    exceptions = [{"id": name, "reason": "known"} for name in block.get("exceptions", ())]
    assert verdict({"block": {**block, "exceptions": exceptions}}, *found).sentence == sentence


def test_sample_database_is_told() -> None:
    """A pass with the sample database says that it proves nothing."""
    found = judge(
        Scan.model_validate({"block": {"severity": "high"}}),
        [report(sample=True)],
        digest=AMD,
        images=[IMAGE],
        repository="api",
        now=NOW,
    )
    assert found.notes == (
        "scanned with the sample database example.org/db:2: it knows few vulnerabilities, a pass proves nothing",
    )


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


@pytest.mark.parametrize(
    ("exception", "notes"),
    [
        ({"id": "H-1"}, ()),
        ({"id": "H-2"}, ("the exception for H-2 met no finding",)),
        ({"id": "H-1", "package": "curl"}, ("the exception for H-1 in curl met no finding",)),
        ({"id": "H-2", "repository": "web"}, ()),
        ({"id": "H-2", "expires": date(2020, 1, 1)}, ("the exception for H-2 ended on 2020-01-01",)),
        ({"id": "H-1", "expires": NOW.date()}, ("the exception for H-1 ends on 2026-05-20, today",)),
        (
            {"id": "H-1", "expires": date(2026, 5, 21)},
            ("the exception for H-1 ends on 2026-05-21, in 1 day",),
        ),
        ({"id": "H-1", "expires": date(2026, 6, 4)}, ()),
    ],
)
def test_exceptions_that_want_a_look_are_noted(exception: dict[str, Any], notes: tuple[str, ...]) -> None:
    """An exception that met nothing, has ended or ends within 14 days is a note; one for another repository is not."""
    block = {"severity": "critical", "exceptions": [{"reason": "known", **exception}]}
    assert verdict({"block": block}, HIGH).notes == notes


def test_a_verdict_stays_small() -> None:
    """Of hundreds of exceptions used and idle a verdict names some and counts the rest."""
    entries = [{"id": f"X-{number}", "reason": "known"} for number in range(300)]
    found = verdict(
        {"block": {"severity": "high", "exceptions": entries}},
        *(finding(f"X-{number}") for number in range(100)),
    )
    assert (len(found.excepted), found.excepted[-1], len(found.notes), found.notes[-1]) == (
        51,
        "and 50 more",
        51,
        "and 150 more",
    )
