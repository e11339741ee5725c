"""Decide which version of each chain's spec is in force, whatever happens to the files. Pure: the caller does the I/O.

A chain is identified by its name. Its versions are numbered; a new one takes effect as soon as its file is valid. With
an invalid file, the last valid version stays in force. A chain removed from the files accepts no new runs, and its Dag
stays until the runs in flight have ended.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from delivery_chain.core import seal
from delivery_chain.core.spec.model import ChainSpec
from delivery_chain.core.spec.slots import Widths, widest, widths
from delivery_chain.core.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from collections.abc import Set as AbstractSet

KEEP_ROOM = timedelta(days=30)
"""Time for which a chain's Dag keeps instances for removed rules: runs in flight need them, and so do older runs that
a user clears."""
ABSENT_FOR = timedelta(seconds=60)
"""Time for which a spec's file has to be missing before its chain counts as removed: an editor that saves a file, or
a copy, may remove and rewrite it."""
REMEMBER = timedelta(days=1)
"""Retention of a removed chain's data: moving a file away by mistake loses nothing."""
INDEX = "delivery_chain_specs"
"""Name of the Variable with the `Index`."""
KEPT = "delivery_chain_spec_"
"""Prefix of the Variables with a `Kept` each, see `kept_key`."""
FINGERPRINT = 16
"""Hex digits of a fingerprint."""
SHORT = 8
"""Hex digits of a fingerprint that are displayed."""


Slots = dict[str, Annotated[int, Field(ge=0, le=1024)]]


class State(StrEnum):
    """Relation of a chain's version in force to the files."""

    CURRENT = "current"
    INVALID = "invalid"
    """The chain's file exists, but is not a valid spec."""
    ABSENT = "absent"
    """The file is missing, for less than `ABSENT_FOR`."""
    NO_FILES = "no files"
    """The folder has no spec at all, for example because a volume is not mounted."""
    REMOVED = "removed"

    @property
    def runs(self) -> bool:
        """Whether the chain accepts new runs."""
        return self is not State.REMOVED


class Entry(Value):
    """State of one chain, without its spec."""

    number: int
    """Number of the version, from 1, incremented with each change of the spec's meaning."""
    fingerprint: str
    file: str
    """The spec's file, relative to the specs folder."""
    slots: Slots
    """Instances of each mapped step that the version needs."""
    wide: Slots = {}
    """Instances of each mapped step that earlier versions needed; the Dag keeps them until `wide_until`."""
    wide_until: datetime | None = None
    covers: tuple[str, ...] = ()
    """Repositories that it covers, see `coverage`."""
    state: State = State.CURRENT
    since: datetime | None = None
    """Time when the file was first found missing, for an absent chain, or when the chain was removed."""
    settled: bool = False
    """Whether all runs of a removed chain have ended."""

    @property
    def room(self) -> Widths:
        """Instances of each mapped step that the chain's Dag has."""
        return widest(self.slots, self.wide)


class Kept(Value):
    """A stored version with its spec, used when its file is no longer valid."""

    chain: str
    entry: Entry
    spec: dict[str, Any]
    settled: bool = False
    """Set by the task that found that the last run of a removed chain has ended."""

    @classmethod
    def of(cls, spec: ChainSpec, entry: Entry) -> Kept:
        """Create from a valid spec."""
        return cls(chain=spec.name, entry=entry, spec=content(spec))

    def read(self) -> ChainSpec:
        """Return the stored spec.

        Raises:
            ValueError: The stored data was changed, or is not a valid spec for this version of the package.
        """
        spec = ChainSpec.model_validate(self.spec)
        if spec.name != self.chain or fingerprint(spec) != self.entry.fingerprint:
            raise ValueError(f"the stored spec of chain {self.chain!r} was changed")
        return spec


@dataclass(frozen=True, slots=True)
class Found:
    """Content of the specs folder. Files are relative to it."""

    specs: Mapping[str, ChainSpec] = field(default_factory=dict)
    """Valid specs by file, with distinct names."""
    bad: Mapping[str, str] = field(default_factory=dict)
    """Invalid files, with the chain that they seem to define; empty if unknown."""


class Index(Value):
    """State kept between two reads of the files."""

    chains: dict[str, Entry] = {}
    watches: dict[str, datetime | None] = {}
    """Dags that watch for chains, with the time since which no chain needs them."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Versions in force."""

    chains: dict[str, Entry]
    """State for the next read."""
    good: dict[str, ChainSpec]
    """Specs in force that are in the files."""
    kept: tuple[str, ...]
    """Chains whose stored spec has to be used: in force, or removed with runs in flight."""
    changed: tuple[str, ...]
    """Valid chains whose version has to be stored now."""
    over: tuple[str, ...]
    """Removed chains to forget."""


def kept_key(name: str) -> str:
    """Name of the Variable with a chain's last good spec.

    Not the chain's own name: for a chain called `token-service`, Airflow would treat the Variable as a secret.
    """
    return f"{KEPT}{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def content(spec: ChainSpec) -> dict[str, Any]:
    """The spec as JSON, without defaults."""
    return spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def fingerprint(spec: ChainSpec) -> str:
    """Hash of a spec's meaning: comments, the order of keys and explicit defaults make no difference."""
    return seal.fingerprint(content(spec))[:FINGERPRINT]


def coverage(spec: ChainSpec) -> tuple[str, ...]:
    """Repositories that a spec covers, as strings; no two chains share one."""
    scope = spec.scope
    return tuple(f"{scope.instance} {scope.namespace}/{name}" for name in scope.repositories or ("*",))


def version(number: int, print_: str) -> str:
    """Format a version: `3 (1f0c2a9b)`; without a number if unknown."""
    short = print_[:SHORT]
    return f"{number} ({short})" if number and short else short


def judge(found: Found, index: Mapping[str, Entry], now: datetime) -> Judged:
    """Decide what is in force.

    Args:
        found: Content of the files.
        index: Previous state, by chain.
        now: Current time.
    """
    good = {spec.name: spec for spec in found.specs.values()}
    taken = {name for spec in good.values() for name in coverage(spec)}
    new: dict[str, Entry] = {}
    for file, spec in found.specs.items():
        new[spec.name] = _current(index.get(spec.name), spec, file, now)
    for name, entry in index.items():
        if name not in good:
            new[name] = _without_file(name, entry, found, taken, now)
    over = tuple(name for name, entry in new.items() if _is_over(entry, now))
    return Judged(
        chains={name: entry for name, entry in new.items() if name not in over},
        good=good,
        kept=tuple(name for name in new if name not in good and name not in over),
        changed=tuple(name for name in good if _to_keep(index.get(name), new[name])),
        over=over,
    )


def _current(known: Entry | None, spec: ChainSpec, file: str, now: datetime) -> Entry:
    entry = Entry(
        number=1, fingerprint=fingerprint(spec), file=file, slots=widths(spec), covers=coverage(spec)
    )
    if known is None:
        return entry
    same = known.fingerprint == entry.fingerprint
    wide, until = known.wide, known.wide_until
    if until is not None and until <= now:
        wide, until = {}, None
    if not same and widest(known.slots, wide, entry.slots) != entry.slots:
        wide, until = widest(known.slots, wide), now + KEEP_ROOM
    number = known.number if same else known.number + 1
    return entry.model_copy(update={"number": number, "wide": wide, "wide_until": until})


def _without_file(name: str, entry: Entry, found: Found, taken: AbstractSet[str], now: datetime) -> Entry:
    if entry.state is State.REMOVED:
        return entry
    claimed = next((file for file, chain in found.bad.items() if chain == name), None)
    if not taken.isdisjoint(entry.covers):
        # Usually a rename: otherwise both would build each push.
        return _as(entry, State.REMOVED, since=now)
    if claimed is not None or entry.file in found.bad:
        return _as(entry, State.INVALID, file=claimed or entry.file)
    if not found.specs and not found.bad:
        return _as(entry, State.NO_FILES)
    since = entry.since if entry.state is State.ABSENT and entry.since else now
    # If the file now defines another chain, it is not just being rewritten.
    if entry.file not in found.specs and now - since < ABSENT_FOR:
        return _as(entry, State.ABSENT, since=since)
    return _as(entry, State.REMOVED, since=now)


def _as(entry: Entry, state: State, *, file: str = "", since: datetime | None = None) -> Entry:
    return entry.model_copy(update={"state": state, "file": file or entry.file, "since": since})


def _to_keep(before: Entry | None, after: Entry) -> bool:
    """Whether the stored version is a different one, or marks the chain as removed."""
    return before is None or before.fingerprint != after.fingerprint or before.state is State.REMOVED


def _is_over(entry: Entry, now: datetime) -> bool:
    return entry.settled and entry.since is not None and now - entry.since >= REMEMBER


def judge_watches(
    known: Mapping[str, datetime | None], needed: Collection[str], now: datetime
) -> tuple[dict[str, datetime | None], tuple[str, ...]]:
    """Return the watching Dags that are needed, and those unneeded for so long that their state is forgotten."""
    since = {dag_id: None if dag_id in needed else known.get(dag_id) or now for dag_id in {*known, *needed}}
    over = tuple(sorted(dag_id for dag_id, time in since.items() if time and now - time >= REMEMBER))
    return {dag_id: since[dag_id] for dag_id in sorted(since) if dag_id not in over}, over
