"""Merge the findings of several reports into one list. Another report never makes the list more lenient.

A finding is one vulnerability in one package at one location, whatever the number of platforms and engines. If
witnesses disagree, the strictest counts: the worst severity, a fix if any witness knows one, the earliest publication
(an unknown one counts as the earliest). Two ids that are aliases of each other are one vulnerability, but only if every
witness of an id says so: two advisories with the same CVE as their alias remain two findings, since a report that
lists only those two would count two.
"""

from __future__ import annotations

from collections import defaultdict, deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from delivery_chain.core.gate.findings import Finding, ScanReport, Witness, worst_first

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Place = tuple[str, str, str]
Sighting = tuple[ScanReport, Finding]
"""A finding, and the report that it comes from."""
_CVE = "cve-"


def merge(reports: Iterable[ScanReport]) -> tuple[Finding, ...]:
    """Return all findings of all reports, each once, worst first; the order of the input does not matter."""
    places: dict[Place, dict[str, list[Sighting]]] = defaultdict(lambda: defaultdict(list))
    for report in reports:
        for finding in report.findings:
            place = (finding.package, finding.installed, finding.location)
            places[place][finding.id.lower()].append((report, finding))
    return worst_first(merged for ids in places.values() for merged in _merge_place(ids))


def _merge_place(ids: Mapping[str, list[Sighting]]) -> list[Finding]:
    """Merge the findings of one package at one location; `ids` maps ids in lower case to sightings."""
    if len(ids) == 1:
        return [_combined(sightings, sightings) for sightings in ids.values()]
    kin = _kin(ids)
    partners = _partners(ids)
    absorbed = set(partners.values())
    found = []
    for name, sightings in ids.items():
        if name not in absorbed:
            own = [*sightings, *(ids[partners[name]] if name in partners else ())]
            related = [sighting for other in kin[name] for sighting in ids[other]]
            found.append(_combined(own, related))
    return found


def _kin(ids: Mapping[str, list[Sighting]]) -> dict[str, list[str]]:
    """Map each id to all ids, itself included, that any witness calls the same vulnerability.

    All of them get the same severity, fix and publication, so it does not matter which two are merged.
    """
    said = {name: {alias for _, found in seen for alias in found.names} for name, seen in ids.items()}
    linked: dict[str, set[str]] = {name: set() for name in ids}
    for name, aliases in said.items():
        for other in aliases & ids.keys():
            if _may_be_one(name, other):
                linked[name].add(other)
                linked[other].add(name)
    kin: dict[str, list[str]] = {}
    for name in ids:
        if name not in kin:
            group = _reachable(name, linked)
            kin.update(dict.fromkeys(group, group))
    return kin


def _reachable(start: str, linked: Mapping[str, set[str]]) -> list[str]:
    seen, waiting = {start}, [start]
    while waiting:
        new = linked[waiting.pop()] - seen
        seen |= new
        waiting += new
    return sorted(seen)


def _may_be_one(name: str, other: str) -> bool:
    """Whether two ids may be one vulnerability: two CVEs never are, nor two advisories that no CVE joins."""
    return name.startswith(_CVE) != other.startswith(_CVE)


def _partners(ids: Mapping[str, list[Sighting]]) -> dict[str, str]:
    """Map advisories to the CVEs that absorb them: as many as possible, at most one each.

    This is a maximum matching, so the rest is the largest set of findings of which no two are known to be the same.
    That set can only grow with more reports.
    """
    agreed = {name: frozenset.intersection(*(found.names for _, found in seen)) for name, seen in ids.items()}
    cves = sorted(name for name in ids if name.startswith(_CVE))
    fitting = {
        name: [cve for cve in cves if cve in agreed[name] or name in agreed[cve]]
        for name in sorted(ids)
        if not name.startswith(_CVE)
    }
    taken: dict[str, str] = {}
    for name in fitting:
        _augment(name, fitting, taken)
    return taken


def _augment(start: str, fitting: Mapping[str, Sequence[str]], taken: dict[str, str]) -> None:
    """Match one more advisory, moving others to another of their CVEs if necessary (an augmenting path)."""
    came_from: dict[str, str] = {}
    waiting = deque([start])
    while waiting:
        name = waiting.popleft()
        for cve in fitting[name]:
            if cve in came_from:
                continue
            came_from[cve] = name
            if cve in taken:
                waiting.append(taken[cve])
                continue
            _move(cve, start, came_from, taken)
            return


def _move(cve: str, start: str, came_from: Mapping[str, str], taken: dict[str, str]) -> None:
    holds = {name: held for held, name in taken.items()}
    while True:
        name = came_from[cve]
        before = holds.get(name, "")
        taken[cve] = name
        if name == start:
            return
        cve = before


def _combined(own: Sequence[Sighting], related: Sequence[Sighting]) -> Finding:
    """Combine several sightings into one finding.

    Args:
        own: Sightings that give names and witnesses.
        related: Sightings whose severity, fix and publication count too; includes `own`.
    """
    own = sorted(own, key=_order)
    first = min(
        (found for _, found in own), key=lambda found: (not found.id.lower().startswith(_CVE), found.id)
    )
    others = sorted({name for _, found in own for name in (found.id, *found.aliases)} - {first.id})
    all_found = [found for _, found in sorted(related, key=_order)]
    return first.model_copy(
        update={
            "aliases": tuple(name for name in others if name.lower() != first.id.lower()),
            "severity": max((found.severity for found in all_found), key=lambda severity: severity.rank),
            "source": _first(found.source for _, found in own),
            "fixed": _first(found.fixed for found in all_found),
            "published": _earliest([found.published for found in all_found]),
            "title": _first(found.title for _, found in own),
            "url": _first(found.url for _, found in own),
            "platform": ", ".join(sorted({report.platform for report, _ in own})),
            "witnesses": tuple(dict.fromkeys(_witness(report, found) for report, found in own)),
        }
    )


def _order(sighting: Sighting) -> tuple[str, ...]:
    report, found = sighting
    return (report.platform, report.engine, report.database.updated_at.isoformat(), found.model_dump_json())


def _witness(report: ScanReport, found: Finding) -> Witness:
    return Witness(
        engine=report.engine,
        platform=report.platform,
        id=found.id,
        severity=found.severity,
        fixed=found.fixed,
        database=report.database.updated_at,
    )


def _first(texts: Iterable[str]) -> str:
    return next((text for text in texts if text), "")


def _earliest(times: Sequence[datetime | None]) -> datetime | None:
    """Return the earliest time, UTC; None if one is unknown, since it may precede all others."""
    known = [time if time is None or time.tzinfo else time.replace(tzinfo=UTC) for time in times]
    return None if None in known else min(time for time in known if time is not None)
