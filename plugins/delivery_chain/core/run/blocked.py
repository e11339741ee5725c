"""Describe what happened to a blocked image, in words that hold for every rule, registry and origin. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from delivery_chain.core.plan import Plan
    from delivery_chain.core.results import Quarantined


def fate(plan: Plan, found: Quarantined | None) -> str:
    """Describe where the image is now, in whole sentences; `found` is None without a result of task `quarantine`."""
    if plan.build:
        first = f"No tag of {plan.title} was moved by this run: it built the image and published nothing."
    else:
        first = f"This run built nothing: {plan.title} existed, and could be pulled, before it was judged."
    if found is None:
        return f"{first} The task `quarantine` left no result: the image is where it was, unless its log says more."
    return " ".join((first, *_where(plan, found)))


def _where(plan: Plan, found: Quarantined) -> list[str]:
    said = [f"It was backed up as {found.backup}."] if found.backup else []
    if found.deleted:
        said.append(f"Removed: {', '.join(found.deleted)}.")
    if not found.kept:
        return [*said, "It can no longer be pulled from there."]
    still = "It is kept as" if plan.build else "It is still there, as"
    return [*said, f"{still} {found.kept}."]


def note(plan: Plan, found: Quarantined | None) -> str:
    """Describe the same briefly, for the end of a run's summary sentence; empty if nothing has to be added."""
    if found is None:
        return ""
    said = [f"kept as {found.backup}"] if found.backup else []
    if found.kept and not plan.build:
        said.append(f"still there as {found.kept}")
    elif found.kept and found.deleted:
        said.append(f"still served as {found.kept}")
    return "".join(f"; {one}" for one in said)
