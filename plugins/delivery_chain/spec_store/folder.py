"""Reads the folder of chain specs: the valid specs, and the problems of the invalid ones. No spec affects another."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery_chain.core.spec.checks import fleet_problems
from delivery_chain.core.spec.document import LARGEST_SPEC
from delivery_chain.core.spec.parse import locate, parse_spec
from delivery_chain.errors import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from delivery_chain.core.spec.document import Complaint
    from delivery_chain.core.spec.model import ChainSpec

SUFFIXES = (".yaml", ".yml")
LARGEST_FILE = 4 * LARGEST_SPEC
"""Maximum file size in bytes: that of the longest allowed spec in UTF-8."""
_NAME = re.compile(r"""^name:[ \t]*["']?([a-z0-9][a-z0-9._-]{0,63})""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The contents of a folder of specs."""

    specs: dict[str, ChainSpec] = field(default_factory=dict)
    """Valid specs by file."""
    bad: dict[str, str] = field(default_factory=dict)
    """Invalid files, with the chain that they seem to define; empty if unknown."""
    problems: tuple[Problem, ...] = ()
    """All problems of the invalid files, in file and line order."""


def spec_files(place: Path) -> list[Path]:
    """The spec files of a folder and its subfolders, sorted; or the single file `place`.

    Hidden files and folders are skipped: editors keep locks in them, and a mounted ConfigMap its older versions.
    """
    if place.is_file():
        return [place]
    return sorted(
        path
        for path in place.rglob("*")
        if path.suffix in SUFFIXES
        and not path.is_dir()
        and not any(part.startswith(".") for part in path.relative_to(place).parts)
    )


def load(place: Path, *, mentioning: Collection[str] = ()) -> Catalogue:
    """Read every spec. An invalid one raises no error: its problems are listed, and the others are unaffected.

    Args:
        place: A folder, or one file.
        mentioning: Skip files whose text lacks any of these words. For the start of a task, which needs few files.
    """
    specs: dict[str, ChainSpec] = {}
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    for path in spec_files(place):
        file = str(path)
        try:
            texts[file] = read_text(path)
            if all(word in texts[file] for word in mentioning):
                specs[file] = parse_spec(texts[file], file)
        except SpecError as error:
            problems += error.problems
    conflicts: dict[str, list[Complaint]] = defaultdict(list)
    for file, complaint in fleet_problems(specs):
        conflicts[file].append(complaint)
    for file, complaints in conflicts.items():
        problems += locate(texts[file], file, complaints)
        del specs[file]
    bad = {problem.file: _name_in(texts.get(problem.file, "")) for problem in problems}
    return Catalogue(
        specs, bad, tuple(sorted(problems, key=lambda problem: (problem.file, problem.line, problem.key)))
    )


def _name_in(text: str) -> str:
    """The name of the chain that a file of invalid YAML seems to define."""
    found = _NAME.search(text)
    return found[1] if found else ""


def load_one(place: Path, name: str) -> ChainSpec | None:
    """The chain `name`, for the start of a task: reads only one file, if it is named after its chain."""
    return next((spec for path in _likely_first(place, name) if (spec := _chain_in(path, name))), None)


def _likely_first(place: Path, name: str) -> Iterator[Path]:
    named = [place / f"{name}{suffix}" for suffix in SUFFIXES]
    yield from (path for path in named if path.is_file())
    # Only now is the folder listed. In subfolders, too, the file with the chain's name comes first.
    yield from sorted(spec_files(place), key=lambda path: path.stem != name)


def _chain_in(path: Path, name: str) -> ChainSpec | None:
    try:
        text = read_text(path)
        # Searching is 1,000 times faster than parsing.
        spec = parse_spec(text, str(path)) if name in text else None
    except SpecError:
        return None
    return spec if spec and spec.name == name else None


def read_text(path: Path) -> str:
    """Read a spec file's text.

    Raises:
        SpecError: The file can't be read, is too large, or is not UTF-8.
    """
    try:
        if not path.is_file() and path.exists():
            # Reading a pipe would block.
            raise SpecError([Problem(str(path), 1, "", "expected a file, found a device, pipe or folder")])
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise SpecError([Problem(str(path), 1, "", f"expected at most {LARGEST_FILE} bytes, found more")])
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(
            [Problem(str(path), 1, "", f"expected UTF-8 text, found byte {error.object[error.start]:#x}")]
        ) from error
    except OSError as error:
        raise SpecError([Problem(str(path), 1, "", f"can't be read: {error.strerror}")]) from error
