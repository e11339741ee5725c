"""The page of a run as HTML. Pure: facts in, text out; every text from outside is escaped."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from delivery_chain.core.run.state import FINE, End, changed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from delivery_chain.core.gate.findings import Database, Finding, ScanReport
    from delivery_chain.core.gate.judge import Verdict
    from delivery_chain.core.plan import Plan
    from delivery_chain.core.results import Quarantined, RegionResult, Subject
    from delivery_chain.core.run.state import Outcome

MOST_FINDINGS = 2000
"""Rows of one report; the rest is counted."""
STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
code { font-size: .9em; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100% }
td:first-child { white-space: nowrap }
th, td { border-bottom: 1px solid #8884; padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top }
.verdict { border-left: .4rem solid #888; padding: .3rem 1rem }
.passed { border-color: #1a7f37 } .blocked { border-color: #8250df } .failed { border-color: #cf222e }
.waiting { border-color: #bc6a00 }
.critical, .high { color: #cf222e; font-weight: 600 } .medium { color: #bc6a00; font-weight: 600 }
"""

KINDS = {
    End.DELIVERED: "passed",
    End.BLOCKED: "blocked",
    End.SUPERSEDED: "",
    End.BUILT: "",
    End.IGNORED: "",
    End.WAITING: "waiting",
    End.RUNNING: "waiting",
}
"""The colour of each end; all others are failures, which a blocked run is not: there the chain did its work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What a run left behind; None where it did not get that far."""

    chain: str
    run_id: str
    outcome: Outcome
    """How it ended, or where it is."""
    altered: tuple[str, ...]
    """Tasks whose XCom is not what they left; nothing of theirs is shown."""
    plan: Plan | None
    subject: Subject | None
    verdict: Verdict | None
    quarantined: Quarantined | None
    regions: tuple[RegionResult, ...]
    reports: tuple[ScanReport, ...]
    missing: str
    """Why a report could not be read, empty if all could."""
    version: str = ""
    """Of the spec that the run was planned with."""


def render(facts: RunFacts) -> str:
    """The page."""
    title = escape(facts.plan.title if facts.plan else f"{facts.chain} {facts.run_id}")
    body = "".join([_altered(facts), _outcome(facts), _verdict(facts), _image(facts), _findings(facts)])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1>{body}</body></html>"
    )


def _altered(facts: RunFacts) -> str:
    """What a person has to know before all else."""
    if not facts.altered:
        return ""
    verdict = (
        "The verdict of this run was changed after the gate left it. " if "gate" in facts.altered else ""
    )
    return (
        f'<p class="verdict failed" role="alert"><b>{verdict}{escape(changed(facts.altered))}.</b><br>'
        "Over Airflow's REST API or in its database, or by another installation or an older version of this "
        "package. No step takes it, and it is not shown here. Clear these tasks and all that follow them.</p>"
    )


def _outcome(facts: RunFacts) -> str:
    """How the run ended; of a blocked one what somebody made of it, too."""
    found = facts.outcome
    ended = escape(found.sentence[:1].upper() + found.sentence[1:])
    kind = KINDS.get(found.end, "failed")
    if not found.good and found.end in FINE:
        kind = "failed"
    return f'<p class="verdict {kind}" id="outcome"><b>{ended}</b></p>'


def _verdict(facts: RunFacts) -> str:
    verdict = facts.verdict
    if verdict is None:
        return '<p class="verdict">Not judged.</p>'
    notes = "".join(f"<br>{escape(note)}" for note in (*verdict.notes, *verdict.excepted))
    kind = "passed" if verdict.passed else "blocked"
    return f'<p class="verdict {kind}"><b>{escape(verdict.sentence.capitalize())}</b>{notes}</p>'


def _image(facts: RunFacts) -> str:
    plan, subject, kept = facts.plan, facts.subject, facts.quarantined
    # Relative, as Airflow may be below a path: the way up from /delivery-chain/<Dag>/<run>.
    back = f"../../dags/{quote(facts.chain, safe='')}/runs/{quote(facts.run_id, safe='')}"
    rows = [
        ("Chain", escape(facts.chain)),
        ("Run", f'<a href="{escape(back)}">{escape(facts.run_id)}</a>'),
    ]
    if facts.version:
        rows.append(("Spec", f"version {escape(facts.version)}"))
    if plan and plan.build:
        rows.append(("Built from", f"<code>{escape(plan.build.ref)}</code> at {_code(plan.build.commit)}"))
    if subject:
        rows.append(("Digest", _code(subject.digest)))
        rows += [(escape(image.platform), _code(image.digest)) for image in subject.images]
        rows += [(escape(other.what), _code(other.digest)) for other in subject.others]
    rows += [
        (f"In {region.region}", _code(f"{region.host}/{region.name}@{region.digest}"))
        for region in facts.regions
    ]
    if kept and kept.backup:
        rows.append(("Backed up as", _code(kept.backup)))
    if kept and kept.kept:
        rows.append(("Left at", _code(kept.kept)))
    return f'<h2 id="image">Image</h2>{_table((), rows)}'


def _findings(facts: RunFacts) -> str:
    parts = ['<h2 id="findings">Findings</h2>']
    if facts.missing:
        deciding = facts.verdict.deciding if facts.verdict else ()
        parts.append(f"<p>A report could not be read: {escape(facts.missing)}</p>{_rows(deciding)}")
    parts += [_report(report) for report in facts.reports]
    if not facts.reports and not facts.missing:
        parts.append("<p>Not scanned.</p>")
    return "".join(parts)


def _report(report: ScanReport) -> str:
    counts = ", ".join(f"{count} {severity}" for severity, count in report.counts().items() if count)
    databases = [_database("database", report.database)]
    databases += [_database("Java database", report.java_database)] if report.java_database else []
    about = ", ".join((f"{escape(report.engine)} {escape(report.engine_version)}", *databases))
    more = len(report.findings) - MOST_FINDINGS
    rest = f"<p>and {more} more, in the report itself</p>" if more > 0 else ""
    return (
        f"<h3>{escape(report.platform)}: {counts or 'no findings'}</h3><p>{about}</p>"
        f"<p>Looked at: {escape(report.coverage.sentence)}</p>"
        f"{_rows(report.findings[:MOST_FINDINGS])}{rest}"
    )


def _database(kind: str, database: Database) -> str:
    return (
        f"{kind} {_code(database.repository)} of {database.updated_at:%Y-%m-%d %H:%M} UTC"
        f"{', a small sample: a pass proves nothing' if database.sample else ''}"
        f"{', stale' if database.stale else ''}"
    )


def _rows(findings: Iterable[Finding]) -> str:
    rows = [
        (
            f'<span class="{escape(found.severity.value)}">{escape(found.severity.value)}</span>',
            _advisory(found),
            escape(found.package),
            escape(found.installed),
            escape(found.fixed) or "no fix yet",
            escape(found.title),
        )
        for found in findings
    ]
    heads = ("Severity", "Id", "Package", "Installed", "Fixed in", "What")
    return _table(heads, rows) if rows else ""


def _advisory(found: Finding) -> str:
    name = escape(found.id)
    if not found.url.startswith(("https://", "http://")):
        return name
    return f'<a href="{escape(found.url)}" rel="noreferrer noopener">{name}</a>'


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{text}</th>" for text in heads)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{lines}</table>"
