"""The folder of chain specs: which are good, which are not and why. Every spec stands for itself."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from delivery_chain.core.parse import LARGEST_SPEC, locate, parse_spec
from delivery_chain.core.spec import ChainSpec
from delivery_chain.core.spec_checks import Complaint, fleet_problems
from delivery_chain.errors import Problem, SpecError

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What a folder of specs holds."""

    specs: dict[str, ChainSpec] = field(default_factory=dict)
    """Good specs by file."""
    problems: tuple[Problem, ...] = ()
    """Everything wrong with the others, in file and line order."""


def spec_files(place: Path) -> list[Path]:
    """The spec files of a folder, its sub-folders included, in order; or the one file that `place` is."""
    if place.is_file():
        return [place]
    return sorted(path for path in place.rglob("*") if path.suffix in SUFFIXES and path.is_file())


def load(place: Path) -> Catalogue:
    """Read every spec. Never raises for a bad one: its problems are listed, and the others are fine."""
    specs: dict[str, ChainSpec] = {}
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    for path in spec_files(place):
        file = str(path)
        try:
            texts[file] = read_text(path)
            specs[file] = parse_spec(texts[file], file)
        except SpecError as error:
            problems += error.problems
    conflicts: dict[str, list[Complaint]] = defaultdict(list)
    for file, complaint in fleet_problems(specs):
        conflicts[file].append(complaint)
    for file, complaints in conflicts.items():
        problems += locate(texts[file], file, complaints)
        del specs[file]
    return Catalogue(specs, tuple(sorted(problems, key=lambda problem: (problem.file, problem.line, problem.key))))


def load_one(place: Path, name: str) -> ChainSpec | None:
    """The chain `name`, reading no more files than its text makes needful: for a task's start."""
    for path in spec_files(place):
        try:
            text = read_text(path)
            if name in text and (spec := parse_spec(text, str(path))).name == name:
                return spec
        except SpecError:
            continue
    return None


def read_text(path: Path) -> str:
    """A spec file's text.

    Raises:
        SpecError: It can't be read, is too large, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(4 * LARGEST_SPEC + 1)
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError([Problem(str(path), 1, "", f"expected UTF-8 text, found byte {error.object[error.start]:#x}")]) from error
    except OSError as error:
        raise SpecError([Problem(str(path), 1, "", f"can't be read: {error.strerror}")]) from error
