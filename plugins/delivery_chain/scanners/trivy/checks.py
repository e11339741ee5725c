"""Check Trivy on this machine for `delivery-chain doctor`: the program, and the age of its databases."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from delivery_chain.core.diagnosis import Check, ok, problem, warning
from delivery_chain.core.section import SECTION
from delivery_chain.errors import ToolError
from delivery_chain.scanners.trivy.command import find_trivy
from delivery_chain.scanners.trivy.database_kinds import JAVA, VULNERABILITIES
from delivery_chain.scanners.trivy.database_store import DatabaseStore
from delivery_chain.scanners.trivy.options import TrivyOptions, cache_folder
from delivery_chain.scanners.trivy.version import check_version
from delivery_chain.tools import known_flaws

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from delivery_chain.core.diagnosis import Line
    from delivery_chain.core.section import Section
    from delivery_chain.scanners.trivy.database_kinds import DatabaseKind


def checks(section: Section) -> Iterator[Check]:
    """Yield the check of the program, then one per database."""
    yield Check("tool", "trivy", partial(_program, section))
    for kind in (VULNERABILITIES, JAVA):
        yield Check("database", kind.name, partial(_database, section, kind))


def _program(section: Section) -> Iterator[Line]:
    try:
        program = find_trivy(wheel=TrivyOptions.read(section).wheel)
        version = check_version(program)
    except ToolError as error:
        yield problem("tool", "trivy", str(error), "docs/trivy.md says how to get and verify it")
        return
    first = version.partition("\n")[0]
    yield ok("tool", "trivy", f"{program}, {first}")
    if flaws := known_flaws.lines("trivy", version):
        remedy = "update trivy, or check whether your distribution has fixed it"
        yield warning("tool", "trivy", "\n".join(flaws), remedy)


def _database(section: Section, kind: DatabaseKind) -> Iterator[Line]:
    options, folder = TrivyOptions.read(section), cache_folder(section)
    mirror, limit = options.repository(kind), options.max_age(kind)
    source = mirror or kind.defaults
    if not _may_write(folder):
        remedy = f"let the worker's user (uid {os.geteuid()}) write there, or set [{SECTION}] trivy_cache_dir"
        yield problem("database", kind.name, f"{folder} can't be written", remedy)
        return
    stored = DatabaseStore(folder, kind).current(mirror)
    if stored is None:
        # This is not a problem: workers fetch it when they first need it.
        yield ok("database", kind.name, f"none on this machine yet; the first scan fetches it from {source}")
        return
    age = datetime.now(UTC) - stored.updated_at
    said = f"{_age(age)} old, from {stored.repository}"
    if age <= limit:
        yield ok("database", kind.name, f"{said}{', a small sample' if stored.sample else ''}")
        return
    remedy = (
        f"make sure that this machine can reach {source}, or set [{SECTION}] {kind.setting} to a mirror that is kept "
        "up to date"
    )
    hours = limit // timedelta(hours=1)
    yield warning("database", kind.name, f"{said}, older than the {hours} h that are allowed", remedy)


def _may_write(folder: Path) -> bool:
    there = next(one for one in (folder, *folder.parents) if one.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _age(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} d"  # noqa: PLR2004 - three days
