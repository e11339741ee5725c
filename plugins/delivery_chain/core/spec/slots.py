"""Assign the instances of a mapped step to items of the spec.

The instance with index N belongs to the Nth item of a list in the spec that the run was planned with.

Airflow maps over the number of items, never over the items: a rule that is added, removed or moved while a run is in
flight changes the spec, but not the assignment of the run's instances.
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
"""Number of instances of each mapped step, by task id."""
NOUNS = {
    Step.BUILD: "platforms to build",
    Step.SCAN: "scans",
    Step.REPLICATE: "replication rules",
    Step.DISTRIBUTE: "triggers",
}
"""Mapped steps, with the noun for their items."""
ANY: Widths = dict.fromkeys(NOUNS, 1024)
"""More instances than any spec needs. A task's own process builds its Dag with this many, so that the task's instance
exists whatever the current spec says."""


@dataclass(frozen=True, slots=True)
class ScanSlot:
    """Platform and engine of one instance of `scan`."""

    platform: str
    """Platform of its images; `OTHER_PLATFORMS` for those without an instance of their own."""
    engine: str

    def label(self, spec: ChainSpec) -> str:
        """Name such as `linux/arm64`, with the engine if the spec has several: `linux/arm64 with other`."""
        return f"{self.platform} with {self.engine}" if len(spec.scan.engine) > 1 else self.platform


def scan_slots(spec: ChainSpec) -> tuple[ScanSlot, ...]:
    """Return the instances of `scan`: each platform with each engine, in the order of their map indexes."""
    platforms = (*spec.scan_platforms, OTHER_PLATFORMS)
    return tuple(ScanSlot(platform, engine) for platform in platforms for engine in spec.scan.engine)


def slot_names(spec: ChainSpec) -> dict[str, tuple[str, ...]]:
    """Labels of the instances of each mapped step, in the order of their map indexes."""
    return {
        Step.BUILD: tuple(str(platform) for platform in spec.build_platforms),
        Step.SCAN: tuple(slot.label(spec) for slot in scan_slots(spec)),
        Step.REPLICATE: tuple(rule.name for rule in spec.replicate),
        Step.DISTRIBUTE: tuple(trigger.name for trigger in spec.distribute),
    }


def widths(spec: ChainSpec) -> Widths:
    """Number of instances that a run of this spec needs."""
    return {step: len(names) for step, names in slot_names(spec).items()}


def widest(*several: Mapping[str, int]) -> Widths:
    """Maximum number of instances of each step, over several such mappings."""
    return {step: max((one.get(step, 0) for one in several), default=0) for step in NOUNS}


def nothing_there(spec: ChainSpec, step: str, slot: int) -> str:
    """Reason why an instance has nothing to do; empty if it has."""
    there = len(slot_names(spec)[step])
    if slot < there:
        return ""
    return f"nothing to do for instance {slot}: this run was planned with {there} {NOUNS[step]}"


def label_of(spec: ChainSpec | None, step: str, index: int) -> str:
    """Label of one instance; empty if the spec has no such item."""
    labels = slot_names(spec).get(step, ()) if spec else ()
    return labels[index] if 0 <= index < len(labels) else ""
