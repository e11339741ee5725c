"""What became of a blocked image, in words that are true for every rule, registry and way by which it came. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from delivery_chain.core.plan import Plan
    from delivery_chain.core.results import Quarantined


def fate(plan: Plan, found: Quarantined | None) -> str:
    """Where the image is now, as whole sentences; `found` is None where the task `quarantine` left nothing."""
    if plan.build:
        first = f"No tag of {plan.title} was moved by this run: it built the image and published nothing."
    else:
        first = f"This run built nothing: {plan.title} was there, and could be pulled, before it was judged."
    if found is None:
        return f"{first} The task `quarantine` left no result: the image is where it was, unless its log says more."
    return " ".join((first, *_where(plan, found)))


def _where(plan: Plan, found: Quarantined) -> list[str]:
    said = [f"It was backed up as {found.backup}."] if found.backup else []
    if found.deleted:
        said.append(f"Removed: {', '.join(found.deleted)}.")
    if not found.kept:
        return [*said, "It can't be pulled from there any more."]
    still = "It is kept as" if plan.build else "It is still there, as"
    return [*said, f"{still} {found.kept}."]


def note(plan: Plan, found: Quarantined | None) -> str:
    """The same as the end of a run's one sentence; empty where there is nothing to add."""
    if found is None:
        return ""
    said = [f"kept as {found.backup}"] if found.backup else []
    if found.kept and not plan.build:
        said.append(f"still there as {found.kept}")
    elif found.kept and found.deleted:
        said.append(f"still served as {found.kept}")
    return "".join(f"; {one}" for one in said)
