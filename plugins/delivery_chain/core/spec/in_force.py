"""Which version of each chain's spec is in force, whatever people do to the files: pure, the caller reads and writes.

A chain is known by its name. Its versions are numbered; a new one is in force as soon as its file is good. A file that
is not leaves the last good version in force. A chain that is gone from the files takes no new runs, and its Dag stays
until those on their way have ended.
"""

from __future__ import annotations

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
"""How long a chain's Dag keeps instances for rules that it had: for runs on their way, and for older ones that somebody
clears."""
ABSENT_FOR = timedelta(seconds=60)
"""How long a spec's file has to be gone before its chain counts as removed: editors and copies write files anew."""
REMEMBER = timedelta(days=1)
"""How long what is known of a removed chain stays: a file that was moved away by mistake loses nothing."""
FINGERPRINT = 16
"""Hex digits."""
SHORT = 8
"""Hex digits of it that people are shown."""


Slots = dict[str, Annotated[int, Field(ge=0, le=1024)]]


class State(StrEnum):
    """How a chain's version in force and the files stand to each other."""

    CURRENT = "current"
    INVALID = "invalid"
    """The chain's file is there, and is no good spec."""
    ABSENT = "absent"
    """The file is not there, for less than `ABSENT_FOR`."""
    NO_FILES = "no files"
    """There is no spec at all, as where a volume is not mounted."""
    REMOVED = "removed"

    @property
    def runs(self) -> bool:
        """Whether the chain takes new runs."""
        return self is not State.REMOVED


class Entry(Value):
    """What is known of one chain, without its spec."""

    number: int
    """Of the version, from 1: one more with each change of the spec's meaning."""
    fingerprint: str
    file: str
    """Relative to the specs folder."""
    slots: Slots
    """Instances of each mapped step that the version needs."""
    wide: Slots = {}
    """Those that earlier versions needed."""
    wide_until: datetime | None = None
    covers: tuple[str, ...] = ()
    """The repositories that it takes, see `coverage`."""
    state: State = State.CURRENT
    since: datetime | None = None
    """When the file was first seen to be gone, for an absent chain; when the chain was, for a removed one."""
    settled: bool = False
    """Whether nothing of a removed chain runs any more."""

    @property
    def room(self) -> Widths:
        """Instances of each mapped step that the chain's Dag has."""
        return widest(self.slots, self.wide)


class Kept(Value):
    """One version with its spec, as it is kept for when its file is no good any more."""

    chain: str
    entry: Entry
    spec: dict[str, Any]
    settled: bool = False
    """Set by the task that saw the last run of a removed chain end."""

    @classmethod
    def of(cls, spec: ChainSpec, entry: Entry) -> Kept:
        """What is kept of a good spec."""
        return cls(chain=spec.name, entry=entry, spec=content(spec))

    def read(self) -> ChainSpec:
        """The spec.

        Raises:
            ValueError: It is not what was kept: changed by hand, or no spec to this version of the package.
        """
        spec = ChainSpec.model_validate(self.spec)
        if spec.name != self.chain or fingerprint(spec) != self.entry.fingerprint:
            raise ValueError(f"what is kept of chain {self.chain!r} was changed")
        return spec


@dataclass(frozen=True, slots=True)
class Found:
    """What the specs folder holds. Files are relative to it."""

    specs: Mapping[str, ChainSpec] = field(default_factory=dict)
    """Good specs by file, each of another name."""
    bad: Mapping[str, str] = field(default_factory=dict)
    """Files that are no good, with the chain that they seem to be of; empty where that can't be told."""


class Index(Value):
    """All that is known between two looks at the files."""

    chains: dict[str, Entry] = {}
    watches: dict[str, datetime | None] = {}
    """The Dags that watch for chains, with the time since when no chain needs them."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What is in force."""

    chains: dict[str, Entry]
    """What to know the next time."""
    good: dict[str, ChainSpec]
    """Specs in force that the files have."""
    kept: tuple[str, ...]
    """Chains whose spec has to be taken from what was kept: in force, or removed with runs on their way."""
    changed: tuple[str, ...]
    """Good ones whose version has to be kept now."""
    over: tuple[str, ...]
    """Removed ones that need not be remembered any more."""


def content(spec: ChainSpec) -> dict[str, Any]:
    """The spec as JSON without what goes without saying."""
    return spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def fingerprint(spec: ChainSpec) -> str:
    """Stands for what a spec means: comments, the order of keys and written-out defaults make no difference."""
    return seal.fingerprint(content(spec))[:FINGERPRINT]


def coverage(spec: ChainSpec) -> tuple[str, ...]:
    """What a spec covers, as texts: no two chains have one of them in common."""
    scope = spec.scope
    return tuple(f"{scope.instance} {scope.namespace}/{name}" for name in scope.repositories or ("*",))


def version(number: int, print_: str) -> str:
    """A version for people: `3 (1f0c2a9b)`; without a number where none is known."""
    short = print_[:SHORT]
    return f"{number} ({short})" if number and short else short


def judge(found: Found, index: Mapping[str, Entry], now: datetime) -> Judged:
    """Decide what is in force.

    Args:
        found: What the files are.
        index: What was known before, by chain.
        now: The present.
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
        # Under another name, mostly: both would build each push.
        return _as(entry, State.REMOVED, since=now)
    if claimed is not None or entry.file in found.bad:
        return _as(entry, State.INVALID, file=claimed or entry.file)
    if not found.specs and not found.bad:
        return _as(entry, State.NO_FILES)
    since = entry.since if entry.state is State.ABSENT and entry.since else now
    # Where the file has another chain nobody is in the middle of writing it.
    if entry.file not in found.specs and now - since < ABSENT_FOR:
        return _as(entry, State.ABSENT, since=since)
    return _as(entry, State.REMOVED, since=now)


def _as(entry: Entry, state: State, *, file: str = "", since: datetime | None = None) -> Entry:
    return entry.model_copy(update={"state": state, "file": file or entry.file, "since": since})


def _to_keep(before: Entry | None, after: Entry) -> bool:
    """Whether what is kept is not this version, or says that the chain is removed."""
    return before is None or before.fingerprint != after.fingerprint or before.state is State.REMOVED


def _is_over(entry: Entry, now: datetime) -> bool:
    return entry.settled and entry.since is not None and now - entry.since >= REMEMBER


def judge_watches(
    known: Mapping[str, datetime | None], needed: Collection[str], now: datetime
) -> tuple[dict[str, datetime | None], tuple[str, ...]]:
    """Which watching Dags are needed, and those that have not been for so long that what they saw is forgotten."""
    since = {dag_id: None if dag_id in needed else known.get(dag_id) or now for dag_id in {*known, *needed}}
    over = tuple(sorted(dag_id for dag_id, time in since.items() if time and now - time >= REMEMBER))
    return {dag_id: since[dag_id] for dag_id in sorted(since) if dag_id not in over}, over
