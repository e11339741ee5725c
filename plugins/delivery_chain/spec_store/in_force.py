"""Reads and stores the specs in force: from files, and from Airflow's Variables if the files no longer have them.

The Variable `delivery_chain_specs` is the index, and each chain has a Variable with its last valid spec. The Dag
processor updates them when it parses changed files. A process without Airflow's supervisor, such as a command line,
reads only the files.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from delivery_chain.core.events.watch_dags import over_key, told_key, watched, watched_images
from delivery_chain.core.spec.in_force import (
    INDEX,
    KEPT,
    Found,
    Index,
    Kept,
    State,
    fingerprint,
    judge,
    judge_watches,
    kept_key,
)
from delivery_chain.core.spec.standing import Standing
from delivery_chain.errors import EventRefused, Problem
from delivery_chain.spec_store import supervised
from delivery_chain.spec_store.folder import load, load_one

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from delivery_chain.core.spec.in_force import Entry, Judged
    from delivery_chain.core.spec.model import ChainSpec

MOST_AT_ONCE = 100
"""Maximum number of chains stored per parse, whose time is limited; the next parse continues."""
ABOUT_INDEX = "The version of each delivery chain that is in force"
ABOUT_OVER = "Time since which no chain needs {}; it makes the last run finish"
ABOUT_KEPT = "The last valid spec of the delivery chain {}"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InForce:
    """The version of one chain that is in force, or that its remaining runs use."""

    spec: ChainSpec
    entry: Entry | None = None
    """None if Variables can't be read."""

    @property
    def runs(self) -> bool:
        """Whether the chain accepts new runs."""
        return self.entry is None or self.entry.state.runs

    @property
    def standing(self) -> Standing:
        """The status that the chain's Dag shows."""
        return Standing.of(self.entry) if self.entry else Standing()


@dataclass(frozen=True, slots=True)
class Chains:
    """All chains with a Dag, and the removed chains still remembered."""

    in_force: tuple[InForce, ...]
    removed: tuple[str, ...] = ()
    unsettled: bool = False
    """Whether a removed chain may have runs in flight."""
    watched_before: tuple[str, ...] = ()
    """The watching Dags that no chain needs any more but that are still remembered."""

    @property
    def open(self) -> list[ChainSpec]:
        """The specs of the chains that accept new runs."""
        return [chain.spec for chain in self.in_force if chain.runs]


def look(place: Path, *, keep: bool = False) -> Chains:
    """Judge all files against the stored versions; with `keep`, store changes, as the Dag processor does."""
    catalogue = load(place)
    found = Found(
        {_relative(file, place): spec for file, spec in catalogue.specs.items()},
        {_relative(file, place): chain for file, chain in catalogue.bad.items()},
    )
    if supervised.is_supervised():
        try:
            return _look(found, keep=keep)
        except Exception:
            log.warning("The versions in force can't be read, so only the files count", exc_info=True)
    return Chains(tuple(InForce(spec) for spec in found.specs.values()))


def chain(place: Path, name: str) -> ChainSpec | None:
    """One chain, for the start of one of its tasks: from its file, otherwise as stored."""
    spec = load_one(place, name)
    if spec is None and supervised.is_supervised():
        kept = _kept(kept_key(name))
        spec = kept.read() if kept else None
    return spec


def mentioning(place: Path, words: Collection[str]) -> list[ChainSpec]:
    """The chains that accept new runs and whose specs contain these words, for the start of a watching Dag's task."""
    catalogue = load(place, mentioning=words)
    specs = {spec.name: spec for spec in catalogue.specs.values()}
    index = _index() if supervised.is_supervised() else None
    bad = {_relative(file, place) for file in catalogue.bad}
    for name, entry in index.chains.items() if index else ():
        fine = entry.state is State.CURRENT and entry.file not in bad and _path(place, entry.file).exists()
        if name in specs or fine or not entry.state.runs:
            continue
        kept = _kept(kept_key(name))
        if kept and all(word in kept.model_dump_json() for word in words):
            specs[name] = kept.read()
    return list(specs.values())


def watched_before(dag_id: str) -> bool:
    """Whether no chain needs this watching Dag any more, for the start of one of its tasks."""
    index = _index() if supervised.is_supervised() else None
    return bool(index and index.watches.get(dag_id))


def version_for(spec: ChainSpec, run_after: datetime) -> tuple[ChainSpec, int]:
    """Return the version of a chain for planning a new run, and its number; 0 if unknown.

    It is the version that the chain's Dag shows. Newer contents of the file take effect with the next parse: until
    then, the Dag may lack task instances for them.

    Args:
        spec: The spec in the file.
        run_after: The time since which the run is due.

    Raises:
        EventRefused: The chain was removed earlier. Not retryable.
        AirflowRuntimeError: Airflow did not respond. Retryable.
    """
    index = _index() if supervised.is_supervised() else None
    entry = index.chains.get(spec.name) if index else None
    if entry is None:
        return spec, 0
    if entry.state is State.REMOVED and (entry.since is None or run_after >= entry.since):
        when = f" on {entry.since:%Y-%m-%d %H:%M} UTC" if entry.since else ""
        raise EventRefused(
            f"chain {spec.name!r} was removed from the specs{when} ({entry.file} was its file), so it accepts no new "
            "runs. Start the run in the chain that replaced it, or restore the spec and start it again"
        )
    if entry.fingerprint == fingerprint(spec):
        return spec, entry.number
    kept = _kept(kept_key(spec.name))
    if kept and kept.entry.fingerprint == entry.fingerprint:
        return kept.read(), entry.number
    return spec, 0


def missing(place: Path) -> tuple[Problem, ...]:
    """The problem of a folder without specs while chains are known; empty if none are."""
    index = _index() if supervised.is_supervised() else None
    known = [name for name, entry in index.chains.items() if entry.state.runs] if index else []
    if not known:
        return ()
    message = (
        f"expected specs, found none; the last valid versions of {', '.join(known)} stay in force. Restore the specs "
        f"(is the volume mounted?); or, to remove these chains once none is running, delete the Variable {INDEX}"
    )
    return (Problem(str(place), 1, "", message),)


def removed_chains() -> tuple[str, ...]:
    """Names of the removed chains still remembered; a renamed one appears under its old name."""
    index = _index() if supervised.is_supervised() else None
    entries = index.chains.items() if index else ()
    return tuple(name for name, entry in entries if entry.state is State.REMOVED)


def settle(name: str, *, settled: bool = True) -> None:
    """Store whether all runs of a removed chain have ended, so that the next parse drops or restores its Dag."""
    kept = _kept(kept_key(name))
    if kept is not None:
        _keep(kept.model_copy(update={"settled": settled}))


def removed_since(name: str) -> tuple[ChainSpec, datetime, bool] | None:
    """The last version of a removed chain, the time of removal, and whether it is settled; None for other chains."""
    index = _index()
    entry = index.chains.get(name) if index else None
    kept = _kept(kept_key(name))
    if entry is None or entry.state is not State.REMOVED or entry.since is None or kept is None:
        return None
    return kept.read(), entry.since, kept.settled


def _look(found: Found, *, keep: bool) -> Chains:
    now = datetime.now(UTC)
    before = _index(recover=True)
    known = dict(before.chains) if before else {}
    if before is not None:
        # The index may have lost an entry if two Dag processors wrote it concurrently.
        new = [spec.name for spec in found.specs.values() if spec.name not in known]
        known |= {name: _known(kept) for name in new[:MOST_AT_ONCE] if (kept := _kept(kept_key(name)))}
    judged = judge(found, known, now)
    entries = dict(judged.chains)
    specs = dict(judged.good)
    for name in judged.kept:
        kept = _kept(kept_key(name))
        if kept is None:
            log.warning("Chain %s has no stored version, and its file is invalid: it has no Dag", name)
            del entries[name]
            continue
        # Clearing a run of a removed chain brings its Dag back until that run has finished.
        settled = kept.settled and entries[name].state is State.REMOVED
        entries[name] = entries[name].model_copy(update={"settled": settled})
        if not settled:
            specs[name] = kept.read()
    removed = [entry for entry in entries.values() if entry.state is State.REMOVED]
    result = Chains(
        tuple(InForce(spec, entries[name]) for name, spec in specs.items()),
        tuple(name for name, entry in entries.items() if entry.state is State.REMOVED),
        unsettled=not all(entry.settled for entry in removed),
        watched_before=tuple(dag_id for dag_id, since in before.watches.items() if since) if before else (),
    )
    if keep:
        _write(before or Index(), entries, judged, result.open, now)
    return result


def _known(kept: Kept) -> Entry:
    """Rebuild the index entry of a chain that the index lost."""
    return kept.entry.model_copy(update={"state": State.REMOVED}) if kept.settled else kept.entry


def _write(
    before: Index, entries: dict[str, Entry], judged: Judged, specs: Iterable[ChainSpec], now: datetime
) -> None:
    """Store the changes. The index comes last, so that everything it names exists."""
    chains = dict(entries)
    for position, name in enumerate(judged.changed):
        if position >= MOST_AT_ONCE or not _tried(_keep, Kept.of(judged.good[name], entries[name])):
            # Keep the old entry, so that the next parse finds the change again.
            chains.pop(name)
            chains |= {name: before.chains[name]} if name in before.chains else {}
    needed = {**watched(specs), **watched_images(specs)}
    watches, over = judge_watches(before.watches, needed, now)
    for dag_id in [dag_id for dag_id in watches if bool(watches[dag_id]) != bool(before.watches.get(dag_id))]:
        if not _tried(_tell_over, dag_id, watches[dag_id]):
            watches[dag_id] = before.watches.get(dag_id)
    told = [told_key(dag_id) for dag_id in over]
    for key in [*over, *told, *map(over_key, told), *map(kept_key, judged.over)]:
        _tried(supervised.delete, key)
    after = Index(chains={name: chains[name] for name in sorted(chains)}, watches=watches)
    if after != before:
        _tried(supervised.write, INDEX, after.model_dump_json(exclude_defaults=True), ABOUT_INDEX)


def _tell_over(dag_id: str, since: datetime | None) -> None:
    """Signal to the trigger of a watching Dag whether it is needed; it reads only this Variable."""
    key = over_key(told_key(dag_id))
    if since is None:
        supervised.delete(key)
    else:
        supervised.write(key, since.isoformat(), ABOUT_OVER.format(dag_id))


def _tried(do: Any, *about: Any) -> bool:
    """Write a Variable, and return whether that succeeded. If not, parsing continues, and the next parse retries."""
    try:
        do(*about)
    except Exception:
        log.warning("A Variable of the chains' versions could not be written", exc_info=True)
        return False
    return True


def _keep(kept: Kept) -> None:
    text = kept.model_dump_json(exclude_defaults=True)
    supervised.write(kept_key(kept.chain), text, ABOUT_KEPT.format(kept.chain))


def _index(*, recover: bool = False) -> Index | None:
    """Read the index; None if it does not exist yet, or is unreadable."""
    text = supervised.read(INDEX)
    if text is None:
        return None
    try:
        return Index.model_validate_json(text)
    except ValidationError:
        log.warning("The Variable %s was changed by hand: recreating it", INDEX)
    if not recover:
        return None
    found = [kept for key in supervised.keys(KEPT) if (kept := _kept(key))]
    return Index(chains={kept.chain: _known(kept) for kept in found})


def _kept(key: str) -> Kept | None:
    """Read the stored version of a chain; None if absent or invalid."""
    text = supervised.read(key)
    if text is None:
        return None
    try:
        kept = Kept.model_validate_json(text)
        kept.read()
    except ValueError:
        log.warning(
            "The Variable %s contains no spec that this version of the package can read: ignoring it", key
        )
        return None
    return kept if kept_key(kept.chain) == key else None


def _relative(file: str, place: Path) -> str:
    path = PurePath(file)
    return path.relative_to(place).as_posix() if path.is_relative_to(place) and path != place else path.name


def _path(place: Path, file: str) -> Path:
    return place if place.is_file() else place / file
