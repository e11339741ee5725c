"""A verdict's details: exceptions, parts that were not scanned, and a summary that is true."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.gate.coverage import Coverage, Gap
from delivery_chain.core.gate.judge import Verdict, judge
from delivery_chain.core.spec.scan import Scan
from delivery_chain.errors import ScanFailed
from support.findings import (
    AMD,
    ARM,
    CRITICAL,
    HIGH,
    IMAGE,
    LOW,
    NOW,
    SEEN,
    STALE,
    blocks,
    finding,
    judged,
    report,
    verdict,
)

if TYPE_CHECKING:
    from delivery_chain.core.gate.findings import Finding


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
    """A stale database passes only if the chain accepts it, and the verdict says so."""
    reports = [report(stale=True), report(stale=True, platform="linux/arm64", digest=ARM)]
    found = judged({"block": {"severity": "high"}, "accept": ["stale_database"]}, reports)
    assert (found.passed, found.notes) == (
        True,
        (f"the vulnerability {STALE} some_max_age_hours allows; accepted by the chain (stale_database)",),
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


@pytest.mark.parametrize(
    ("exception", "notes"),
    [
        ({"id": "H-1"}, ()),
        ({"id": "H-2"}, ("the exception for H-2 matched no finding",)),
        ({"id": "H-1", "package": "curl"}, ("the exception for H-1 in curl matched no finding",)),
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
