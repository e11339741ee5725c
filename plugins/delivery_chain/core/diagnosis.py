"""Findings of `delivery-chain doctor`: ok, or a warning or problem with a remedy. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from delivery_chain.core.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import timedelta


class Level(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    """Runs still work, or the check was not possible from here."""
    PROBLEM = "problem"
    """Some run will fail, or never start."""


class Line(Value):
    """Result of one check."""

    level: Level
    topic: str
    """Kind of thing: `registry`, `git`, `disk`."""
    about: str
    """The thing checked: a connection, a program, a folder."""
    said: str
    remedy: str = ""
    """Next step; empty if ok."""


def ok(topic: str, about: str, said: str) -> Line:
    """Build a line for a passed check."""
    return Line(level=Level.OK, topic=topic, about=about, said=said)


def warning(topic: str, about: str, said: str, remedy: str) -> Line:
    """Build a line for a possible problem."""
    return Line(level=Level.WARNING, topic=topic, about=about, said=said, remedy=remedy)


def problem(topic: str, about: str, said: str, remedy: str) -> Line:
    """Build a line for a problem."""
    return Line(level=Level.PROBLEM, topic=topic, about=about, said=said, remedy=remedy)


CHECK_SECONDS = 45.0
"""Time limit of one check."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check of `delivery-chain doctor`."""

    topic: str
    about: str
    ask: Callable[[], Iterable[Line]]
    seconds: float = CHECK_SECONDS


CLOSE, FAR = 5.0, 60.0
"""Clock skew in seconds: up to the first, pushes are ordered correctly; beyond the second, signatures are rejected."""


def clock(about: str, ahead: timedelta) -> Line:
    """Check another clock against this one.

    Args:
        about: Owner of the clock.
        ahead: Its time minus this machine's.
    """
    seconds = ahead.total_seconds()
    if abs(seconds) <= CLOSE:
        return ok("clock", about, "agrees with this machine")
    said = f"is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} this machine"
    make = problem if abs(seconds) > FAR else warning
    return make("clock", about, said, "set both machines' clocks by NTP (timedatectl set-ntp true)")


def text(lines: Sequence[Line]) -> list[str]:
    """Format the lines for a terminal, remedies below."""
    width = max((len(line.topic) for line in lines), default=0)
    found = []
    for line in lines:
        first, *more = line.said.splitlines() or [""]
        found.append(f"{line.level:<8} {line.topic:<{width}}  {line.about}: {first}")
        found += [f"{'':<8} {'':<{width}}    {one.strip()}" for one in more]
        if line.remedy:
            found.append(f"{'':<8} {'':<{width}}  -> {line.remedy}")
    return found


def summary(lines: Iterable[Line]) -> str:
    """Count the lines of each level."""
    levels = [line.level for line in lines]
    counts = {level: levels.count(level) for level in Level}
    bad, odd = counts[Level.PROBLEM], counts[Level.WARNING]
    return f"{bad} problem{'' if bad == 1 else 's'}, {odd} warning{'' if odd == 1 else 's'}, {counts[Level.OK]} ok"
