from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from delivery_chain.core.events.event import Kind
from delivery_chain.core.gate.coverage import Coverage
from delivery_chain.core.gate.findings import Database, Finding, ScanReport, Severity
from delivery_chain.core.gate.judge import Hit, Verdict
from delivery_chain.core.plan import Plan
from delivery_chain.core.results import Image, Quarantined, RegionResult, Subject
from delivery_chain.core.run.end import End
from delivery_chain.core.run.state import Outcome
from delivery_chain.web.pages.run_page import MOST_FINDINGS, RunFacts, render

DIGEST = f"sha256:{'a' * 64}"
IMAGE = Image(digest=DIGEST, platform="linux/arm64")
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PLAN = Plan(
    chain="shop-api",
    run_id="run-1",
    kind=Kind.MANUAL,
    instance="home",
    namespace="shop",
    repository="api",
    tags=("v1",),
    pushed_at=NOW,
    digest=DIGEST,
)
FAILED = Outcome(end=End.FAILED, sentence="failed in build: why", good=False)
HOSTILE = """<script>alert(1)</script>"'&"""


class Page(HTMLParser):
    """The texts of a page's cells, and its elements with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.cells: list[list[str]] = []
        self.inside = False
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.cells.append([])
        elif tag in {"td", "th"}:
            self.cells[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cells[-1][-1] += data


def facts(**given: Any) -> RunFacts:
    nothing = {
        "chain": "shop-api",
        "outcome": FAILED,
        "altered": (),
        "subject": None,
        "verdict": None,
        "quarantined": None,
        "regions": (),
        "reports": (),
        "missing": "",
    }
    return RunFacts(**{"run_id": "run/1 a", "plan": PLAN} | nothing | given)


def finding(**given: Any) -> Finding:
    whole = {"id": "CVE-1", "severity": Severity.HIGH, "package": "zlib", "installed": "1"}
    return Finding.model_validate(whole | given)


def report(*findings: Finding, **database: Any) -> ScanReport:
    made = Database.model_validate({"repository": "db", "updated_at": NOW} | database)
    return ScanReport(
        engine="trivy",
        engine_version="1",
        digest=DIGEST,
        platform="linux/amd64",
        databases=(made,),
        findings=findings,
    )


def test_what_others_wrote_is_text() -> None:
    """Findings come from outside: nothing in them becomes an element, an attribute or a script's address."""
    hostile = finding(
        id=HOSTILE,
        package=HOSTILE,
        installed=HOSTILE,
        fixed=HOSTILE,
        title=HOSTILE,
        url="javascript:alert(1)",
    )
    page = Page(
        render(facts(run_id=HOSTILE, reports=(report(hostile, repository=HOSTILE),), missing=HOSTILE))
    )
    assert [tag for tag, _ in page.elements if tag in {"script", "img", "iframe"}] == []
    assert [a["href"] for tag, a in page.elements if tag == "a"] == [
        "../../dags/shop-api/runs/%3Cscript%3Ealert%281%29%3C%2Fscript%3E%22%27%26"
    ]
    assert ["high", *[HOSTILE] * 5] in page.cells


def test_the_image_is_where_it_is() -> None:
    """Digest, platforms, regions and what quarantine left are rows of their own."""
    region = RegionResult(
        rule="far", region="eu", host="eu.example.com", name="shop/api", digest=DIGEST, tags=(),
        copied=1, skipped=0, bytes=1, seconds=1.0,
    )  # fmt: skip
    page = Page(
        render(
            facts(
                subject=Subject(
                    digest=DIGEST,
                    media_type="x",
                    size=1,
                    images=(Image(digest=DIGEST, platform="linux/arm64"),),
                ),
                quarantined=Quarantined(digest=DIGEST, backup="host/shop-quarantine/api:v1.T"),
                regions=(region,),
            )
        )
    )
    assert page.cells == [
        ["Chain", "shop-api"],
        ["Run", "run/1 a"],
        ["Digest", DIGEST],
        ["linux/arm64", DIGEST],
        ["In eu", f"eu.example.com/shop/api@{DIGEST}"],
        ["Backed up as", "host/shop-quarantine/api:v1.T"],
    ]


def test_the_version_of_the_spec_is_a_row() -> None:
    """Of a run that was planned before specs had versions there is none."""
    assert Page(render(facts(version="3 (01234567)"))).cells[2] == ["Spec", "version 3 (01234567)"]


def test_an_unreadable_report_leaves_the_deciding_findings() -> None:
    """The registry may be away or have removed it: the verdict is in Airflow."""
    verdict = Verdict(digest=DIGEST, passed=False, judged_at=NOW, deciding=(finding(fixed="2"),))
    html = render(facts(verdict=verdict, missing="the registry is away"))
    assert "A report could not be read: the registry is away" in html
    assert Page(html).cells[-1] == ["high", "CVE-1", "zlib", "1", "2", ""]


def test_a_long_report_is_cut() -> None:
    """A page has an end; what is left out is counted."""
    html = render(facts(reports=(report(*[finding()] * (MOST_FINDINGS + 3)),)))
    assert html.count("CVE-1") == MOST_FINDINGS
    assert "and 3 more, in the report itself" in html


def test_a_sample_database_is_named() -> None:
    """A pass against it proves nothing, and the page says so."""
    assert "no findings</h3>" in (html := render(facts(reports=(report(sample=True, stale=True),))))
    assert ", a small sample: a pass proves nothing, stale" in html


def test_what_was_looked_at_is_said() -> None:
    """With every database that took part; the text of an image in it is text."""
    seen = Coverage(root="<b>no package database</b>")
    java = Database(kind="Java database", repository="java-db", updated_at=NOW)
    made = report()
    made = made.model_copy(update={"coverage": seen, "databases": (*made.databases, java)})

    html = render(facts(reports=(made,)))

    assert "<p>Coverage: &lt;b&gt;no package database&lt;/b&gt;</p>" in html
    assert f", Java database <code>java-db</code> of {NOW:%Y-%m-%d %H:%M} UTC" in html


BLOCKED = Verdict(
    digest=DIGEST, passed=False, judged_at=NOW, hits=(Hit(clause="findings at or above high", count=3),)
)
BLOCKED_RUN = Outcome(
    end=End.BLOCKED,
    by="anna",
    sentence="blocked: 3 findings at or above high; shop/api v1; marked as success by anna",
    good=False,
)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"verdict": BLOCKED}, "Blocked: 3 findings at or above high"),
        ({"verdict": BLOCKED, "outcome": BLOCKED_RUN}, "shop/api v1; marked as success by anna"),
        ({"altered": ("gate",)}, "The verdict of this run was changed after the gate left it."),
        (
            {"altered": ("gate", "scan[1]")},
            "NOT TO BE TRUSTED: what gate, scan[1] left was changed afterwards.",
        ),
        ({"altered": ("plan",), "plan": None}, "NOT TO BE TRUSTED: what plan left was changed afterwards."),
        ({}, "Not judged."),
    ],
)
def test_a_run_that_was_not_passed_is_never_shown_as_passed(given: dict[str, Any], says: str) -> None:
    """Whatever is marked, edited or removed by hand."""
    page = render(facts(**given))
    assert (says in page, 'class="verdict passed"' in page) == (True, False)


@pytest.mark.parametrize(
    ("end", "good", "kind"),
    [
        (End.DELIVERED, True, "passed"),
        (End.DELIVERED, False, "failed"),
        (End.PARTLY, False, "failed"),
        (End.BLOCKED, False, "blocked"),
        (End.SUPERSEDED, True, ""),
        (End.IGNORED, True, ""),
        (End.REFUSED, False, "failed"),
        (End.CANCELLED, False, "failed"),
        (End.FAILED, False, "failed"),
        (End.WAITING, False, "waiting"),
        (End.RUNNING, False, "waiting"),
    ],
)
def test_the_page_begins_with_how_the_run_ended(end: End, kind: str, *, good: bool) -> None:
    """Each kind of end has its colour: a blocked run is none that broke, and none that somebody doubts is green."""
    page = render(facts(outcome=Outcome(end=end, sentence=f"{end}: <i>so</i>", good=good)))
    said = f"{end[0].upper()}{end[1:]}: &lt;i&gt;so&lt;/i&gt;"
    assert f'</h1>\n<p class="verdict {kind}" id="outcome"><b>{said}</b></p>' in page


def test_a_page_without_a_plan_escapes_what_it_names() -> None:
    """Dag and run ids come from the address."""
    page = Page(render(facts(chain=HOSTILE, run_id=HOSTILE, plan=None, altered=("plan",))))
    assert "script" not in [name for name, _ in page.elements]
