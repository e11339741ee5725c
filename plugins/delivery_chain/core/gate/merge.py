"""Merges the findings of several reports into one list. Another report never makes the list milder.

One finding is one vulnerability in one package at one place, on however many platforms and by however many
engines. Where witnesses disagree the strictest counts: the worst severity, a fix if anybody knows one, the earliest
publication (and one that is not known is earlier than all). Ids that name each other are one vulnerability, but
only as far as every witness of an id says so: two advisories that one CVE names stay two, since a report that had
only those two would count two.
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
"""A finding, and the report that it is from."""
_CVE = "cve-"


def merge(reports: Iterable[ScanReport]) -> tuple[Finding, ...]:
    """All findings of all reports, each once, worst first; the order of reports and findings does not matter."""
    places: dict[Place, dict[str, list[Sighting]]] = defaultdict(lambda: defaultdict(list))
    for report in reports:
        for finding in report.findings:
            place = (finding.package, finding.installed, finding.location)
            places[place][finding.id.lower()].append((report, finding))
    return worst_first(merged for ids in places.values() for merged in _merge_place(ids))


def _merge_place(ids: Mapping[str, list[Sighting]]) -> list[Finding]:
    """One package at one place: sightings by id in lower case."""
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
    """For each id all ids that are the same vulnerability if anybody may say so, itself included.

    Severity, fix and publication are shared among them, so that it makes no difference which two are merged.
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
    """Two CVEs are two by definition; so are two advisories as long as no CVE joins them."""
    return name.startswith(_CVE) != other.startswith(_CVE)


def _partners(ids: Mapping[str, list[Sighting]]) -> dict[str, str]:
    """Which CVE takes in which advisory: as many as can be, each at most one.

    This is a maximum matching, so what is left is the largest set of findings of which no two are known to be the
    same. That set can only grow with more reports.
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
    """Find room for one more advisory, moving others to another of their CVEs if need be (an augmenting path)."""
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
    """One finding of several sightings.

    Args:
        own: Whose names and witnesses it has.
        related: Whose severity, fix and publication count too; `own` is among them.
    """
    own = sorted(own, key=_order)
    first = min(
        (found for _, found in own), key=lambda found: (not found.id.lower().startswith(_CVE), found.id)
    )
    others = sorted({name for _, found in own for name in (found.id, *found.aliases)} - {first.id})
    everybody = [found for _, found in sorted(related, key=_order)]
    return first.model_copy(
        update={
            "aliases": tuple(name for name in others if name.lower() != first.id.lower()),
            "severity": max((found.severity for found in everybody), key=lambda severity: severity.rank),
            "source": _first(found.source for _, found in own),
            "fixed": _first(found.fixed for found in everybody),
            "published": _earliest([found.published for found in everybody]),
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
    """The earliest time, UTC. One that is not known may be earlier than all, so it stays unknown."""
    known = [time if time is None or time.tzinfo else time.replace(tzinfo=UTC) for time in times]
    return None if None in known else min(time for time in known if time is not None)
