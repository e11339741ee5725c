"""This machine: the settings, the programs, the folders and what scan engines keep, as tasks find them."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING

from delivery_chain.builders.buildah.isolation import with_sbin
from delivery_chain.core.diagnosis import Check, Line, ok, problem, warning
from delivery_chain.core.section import SECTION, Section
from delivery_chain.core.spec.connections import nearest
from delivery_chain.errors import ConfigurationError, ToolError, ToolMissing
from delivery_chain.provider_info import get_provider_info
from delivery_chain.scanners.table import SCANNERS
from delivery_chain.settings import Settings, airflow_option
from delivery_chain.tools import process
from delivery_chain.tools.versions import flaw_lines, version_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from delivery_chain.doctor.scene import Scene

GIB = 1024**3
LITTLE, TOO_LITTLE = 10 * GIB, 2 * GIB
"""Bytes free on the disk of the work folder: a build needs room for its image three times."""
PROBE_SECONDS = 300.0
"""A trial build may be tried on several ways."""
_VARIABLE = f"AIRFLOW__{SECTION.upper()}__"


def settings_lines(asked: Iterable[str]) -> tuple[Settings, Section, list[Line]]:
    """The settings, the section that they are from, and what is wrong with them.

    Where an option can't be read both are those of an empty section.

    Args:
        asked: The options that are set in section `[delivery_chain]`.
    """
    known = set(get_provider_info()["config"][SECTION]["options"])
    lines = [_unknown(option, known) for option in sorted({*asked, *_of_environment()} - known)]
    section = Section(airflow_option)
    try:
        settings = Settings.read(section.get)
        for name in SCANNERS:
            SCANNERS.load(name)().options.read(section)
    except ConfigurationError as error:
        said = str(error).removeprefix(f"[{SECTION}] ")
        lines.append(
            problem("settings", f"[{SECTION}]", said, "until then the rest is looked at with the defaults")
        )
        section = Section(lambda *_: None)
        return Settings.read(section.get), section, lines
    return settings, section, lines or [ok("settings", f"[{SECTION}]", "valid")]


def _of_environment() -> set[str]:
    return {name.removeprefix(_VARIABLE).lower() for name in os.environ if name.startswith(_VARIABLE)}


def _unknown(option: str, known: set[str]) -> Line:
    like = nearest(option, known)
    remedy = f"write {like!r}" if like else "take it out; the README lists the options"
    return warning("settings", f"[{SECTION}] {option}", "no option of this name, so it does nothing", remedy)


def checks(scene: Scene) -> Iterator[Check]:
    """What the chains need of this machine."""
    yield Check("folder", "work_folder", lambda: _work_folder(scene.settings.work_folder))
    if scene.builds:
        yield Check("tool", "git", lambda: _tool("git"))
        yield Check("tool", "buildah", lambda: _tool("buildah"))
        if os.geteuid() != 0:
            yield Check("tool", "newuidmap", _newuidmap)
        yield Check("isolation", "builds", lambda: _isolation(scene.settings), PROBE_SECONDS)
    for name in scene.engines:
        yield from SCANNERS.load(name)().checks(scene.section)


def _tool(name: str) -> Iterator[Line]:
    try:
        process.require(name, with_sbin())
    except ToolMissing as error:
        yield problem("tool", name, str(error), f"install the Debian package {name}, or the like of it")
        return
    yield ok("tool", name, version_text(name) or "is there")
    yield from _flaws(name)


def _flaws(name: str) -> Iterator[Line]:
    if flaws := flaw_lines(name):
        yield warning(
            "tool", name, "\n".join(flaws), f"update {name}, or check whether your distribution has fixed it"
        )


def _newuidmap() -> Iterator[Line]:
    try:
        found = process.require("newuidmap", with_sbin())
    except ToolMissing as error:
        yield problem("tool", "newuidmap", str(error), "install the Debian package uidmap")
        return
    yield ok("tool", "newuidmap", found)


def _isolation(settings: Settings) -> Iterator[Line]:
    from delivery_chain.builders.table import BUILDERS  # noqa: PLC0415

    options = {"isolation": settings.build_isolation, "network": settings.build_network}
    folder = settings.work_folder
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = BUILDERS.load("buildah")().probe(options, folder)
    except OSError:
        return  # The line of the work folder says it.
    except (ToolError, ConfigurationError) as error:
        yield problem("isolation", "builds", str(error), "docs/build-isolation.md says what each way needs")
        return
    yield ok("isolation", "builds", f"a trial build worked: {found}")


def _work_folder(folder: Path) -> Iterator[Line]:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        remedy = f"let the worker's user (uid {os.geteuid()}) write there, or set [{SECTION}] work_folder"
        yield problem("folder", "work_folder", f"{folder} can't be written: {error.strerror}", remedy)
        return
    yield ok("folder", "work_folder", f"{folder} can be written")
    yield _space(folder)


def _space(folder: Path) -> Line:
    free = shutil.disk_usage(folder).free
    said = f"{free / GIB:.1f} GiB free for checkouts and builds"
    if free >= LITTLE:
        return ok("disk", str(folder), said)
    make = problem if free < TOO_LITTLE else warning
    return make("disk", str(folder), said, f"make room, or set [{SECTION}] work_folder to a larger disk")
