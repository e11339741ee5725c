"""What `delivery-chain doctor` says: what is ok, a warning or a problem, the latter two with a remedy. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from delivery_chain.core.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import timedelta


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """Runs go on, or it could not be found out from here."""
    PROBLEM = "problem"
    """Some run will fail, or never start."""


class Line(Value):
    """One thing that was looked at."""

    level: Level
    topic: str
    """What kind of thing: `registry`, `git`, `disk`."""
    about: str
    """Which one: a connection, a program, a folder."""
    said: str
    remedy: str = ""
    """What to do about it; empty for what is ok."""


def ok(topic: str, about: str, said: str) -> Line:
    """A line of what is as it should be."""
    return Line(level=Level.OK, topic=topic, about=about, said=said)


def warning(topic: str, about: str, said: str, remedy: str) -> Line:
    """A line of what may be wrong."""
    return Line(level=Level.WARNING, topic=topic, about=about, said=said, remedy=remedy)


def problem(topic: str, about: str, said: str, remedy: str) -> Line:
    """A line of what is wrong."""
    return Line(level=Level.PROBLEM, topic=topic, about=about, said=said, remedy=remedy)


CHECK_SECONDS = 45.0
"""How long one check may take."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at."""

    topic: str
    about: str
    ask: Callable[[], Iterable[Line]]
    seconds: float = CHECK_SECONDS


CLOSE, FAR = 5.0, 60.0
"""Seconds that clocks may be apart: up to the first no push is taken for another, beyond the second signatures fail."""


def clock(about: str, ahead: timedelta) -> Line:
    """How far another clock is from this one.

    Args:
        about: Whose.
        ahead: Its time minus ours.
    """
    seconds = ahead.total_seconds()
    if abs(seconds) <= CLOSE:
        return ok("clock", about, "tells the time of this machine")
    said = f"is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} this machine"
    make = problem if abs(seconds) > FAR else warning
    return make("clock", about, said, "set both machines' clocks by NTP (timedatectl set-ntp true)")


def text(lines: Sequence[Line]) -> list[str]:
    """The lines for a terminal, remedies below."""
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
    """How many of each."""
    levels = [line.level for line in lines]
    counts = {level: levels.count(level) for level in Level}
    bad, odd = counts[Level.PROBLEM], counts[Level.WARNING]
    return f"{bad} problem{'' if bad == 1 else 's'}, {odd} warning{'' if odd == 1 else 's'}, {counts[Level.OK]} ok"
