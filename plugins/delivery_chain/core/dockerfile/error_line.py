"""Locate the line of a Dockerfile where a build failed, from the Dockerfile and the builder's output. Pure."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from delivery_chain.core.dockerfile.instructions import instructions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from delivery_chain.core.dockerfile.instructions import Instruction

KNOWN = (
    "add", "arg", "cmd", "copy", "entrypoint", "env", "expose", "from", "healthcheck", "label", "maintainer",
    "onbuild", "run", "shell", "stopsignal", "user", "volume", "workdir",
)  # fmt: skip
"""All instructions. Source: the Dockerfile reference."""
LONGEST_STEP = 120
"""Maximum length, in characters, of an instruction to show."""
_STEP = re.compile(r"(?:\[\d+/\d+\] )?STEP \d+(?:/\d+)?: (.+)")
_CAUSE = re.compile(r'Error: building at STEP "(?P<step>.*?)": (?P<cause>.*)')
_RUNTIME = "while running runtime: "


def place(text: str, output: Sequence[str]) -> str:
    """Describe the place and cause of a failed build: `Dockerfile:12: RUN make: exit status 2`.

    Args:
        text: The Dockerfile, from `decode`.
        output: The builder's last lines.

    Returns:
        An empty string if the builder's output does not say.
    """
    found = instructions(text)
    wrong = next((one for one in found if one.name not in KNOWN), None)
    ended = next((line for line in reversed(output) if line.startswith("Error: ")), "")
    cause = _CAUSE.fullmatch(ended)
    if wrong and (cause is None or "Unknown instruction" in cause["cause"]):
        return _unknown(wrong)
    if cause is None:
        return f"Dockerfile: {ended.removeprefix('Error: ')}" if ended else ""
    step = _last_step(output) or cause["step"]
    line = _line(found, step) or _line(found, cause["step"])
    shown = " ".join(step.split())
    shown = shown if len(shown) <= LONGEST_STEP else shown[: LONGEST_STEP - 1] + "…"
    return f"Dockerfile:{f'{line}:' if line else ''} {shown}: {cause['cause'].removeprefix(_RUNTIME)}"


def _unknown(wrong: Instruction) -> str:
    near = difflib.get_close_matches(wrong.name, KNOWN, n=1)
    meant = f", did you mean {near[0].upper()}?" if near else ""
    return f"Dockerfile:{wrong.line}: unknown instruction {wrong.name.upper()[:40]!r}{meant}"


def _last_step(output: Iterable[str]) -> str:
    """Step that the builder began last; empty if it is no longer in the last lines."""
    steps = [match[1] for line in output if (match := _STEP.fullmatch(line))]
    return steps[-1] if steps else ""


def _line(found: Iterable[Instruction], step: str) -> int:
    """Line on which the step's instruction begins; 0 if none matches, for example after variable expansion."""
    wanted = [_key(one) for one in instructions(step)]
    return next((one.line for one in found if wanted and _key(one) == wanted[0]), 0)


def _key(one: Instruction) -> tuple[str, tuple[str, ...], str]:
    return one.name, one.flags, " ".join(one.rest.split())
