"""Which instance of a mapped step is about what.

The one at a position is about the item at that position of a list in the spec that the run was planned with.

Airflow maps over how many there are, never over which: a rule that is added, removed or moved while a run is on its
way changes the spec, not what the run's instances are about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery_chain.core.names.platform import OTHER_PLATFORMS
from delivery_chain.core.steps import Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from delivery_chain.core.spec.model import ChainSpec

Widths = dict[str, int]
"""How many instances each mapped step has, by task id."""
NOUNS = {
    Step.BUILD: "platforms to build",
    Step.SCAN: "scans",
    Step.REPLICATE: "replication rules",
    Step.DISTRIBUTE: "triggers",
}
"""The mapped steps, with what an instance of each is about."""
ANY: Widths = dict.fromkeys(NOUNS, 1024)
"""More than any spec has. A task's own process makes its Dag as wide, so that its instance is there whatever the
spec says by now."""


@dataclass(frozen=True, slots=True)
class ScanSlot:
    """What one instance of `scan` is about."""

    platform: str
    """Of the images that it scans; `OTHER_PLATFORMS` for those that have no instance of their own."""
    engine: str

    def label(self, spec: ChainSpec) -> str:
        """`linux/arm64`, and the engine too where the spec has several: `linux/arm64 with other`."""
        return f"{self.platform} with {self.engine}" if len(spec.scan.engine) > 1 else self.platform


def scan_slots(spec: ChainSpec) -> tuple[ScanSlot, ...]:
    """What the instances of `scan` are about: each platform with each engine, in the order of their map indexes."""
    platforms = (*spec.scan_platforms, OTHER_PLATFORMS)
    return tuple(ScanSlot(platform, engine) for platform in platforms for engine in spec.scan.engine)


def slot_names(spec: ChainSpec) -> dict[str, tuple[str, ...]]:
    """What the instances of each mapped step are about, in the order of their map indexes."""
    return {
        Step.BUILD: tuple(str(platform) for platform in spec.build_platforms),
        Step.SCAN: tuple(slot.label(spec) for slot in scan_slots(spec)),
        Step.REPLICATE: tuple(rule.name for rule in spec.replicate),
        Step.DISTRIBUTE: tuple(trigger.name for trigger in spec.distribute),
    }


def widths(spec: ChainSpec) -> Widths:
    """How many instances a run of this spec needs."""
    return {step: len(names) for step, names in slot_names(spec).items()}


def widest(*several: Mapping[str, int]) -> Widths:
    """Enough instances for each of them."""
    return {step: max((one.get(step, 0) for one in several), default=0) for step in NOUNS}


def nothing_there(spec: ChainSpec, step: str, slot: int) -> str:
    """Why an instance has nothing to do; empty where it has."""
    there = len(slot_names(spec)[step])
    if slot < there:
        return ""
    return f"nothing to do for instance {slot}: this run was planned with {there} {NOUNS[step]}"


def label_of(spec: ChainSpec | None, step: str, index: int) -> str:
    """What one instance stands for; empty where the spec has none of this number."""
    labels = slot_names(spec).get(step, ()) if spec else ()
    return labels[index] if 0 <= index < len(labels) else ""
