from __future__ import annotations

from datetime import timedelta

import pytest

from delivery_chain.core.diagnosis import Level, clock, ok, problem, summary, text, warning


@pytest.mark.parametrize(
    ("seconds", "level", "said"),
    [
        (0, Level.OK, "agrees with this machine"),
        (-5, Level.OK, "agrees with this machine"),
        (6, Level.WARNING, "is 6 s ahead of this machine"),
        (-60, Level.WARNING, "is 60 s behind this machine"),
        (61, Level.PROBLEM, "is 61 s ahead of this machine"),
        (-86400, Level.PROBLEM, "is 86400 s behind this machine"),
    ],
)
def test_clocks(seconds: float, level: Level, said: str) -> None:
    """Five seconds are fine; with a minute, signatures are refused."""
    line = clock("registry eu", timedelta(seconds=seconds))
    assert (line.level, line.about, line.said, bool(line.remedy)) == (
        level,
        "registry eu",
        said,
        level is not Level.OK,
    )


def test_lines_for_a_terminal() -> None:
    """Remedies stand below, and further lines of what was found."""
    lines = [
        ok("git", "shop", "3 tags"),
        warning("tool", "git", "one\ntwo", "update git"),
        problem("registry", "eu", "gone", "connect it"),
    ]
    assert text(lines) == [
        "ok       git       shop: 3 tags",
        "warning  tool      git: one",
        "                     two",
        "                   -> update git",
        "problem  registry  eu: gone",
        "                   -> connect it",
    ]
    assert summary(lines) == "1 problem, 1 warning, 1 ok"
    assert (text([]), summary([])) == ([], "0 problems, 0 warnings, 0 ok")
