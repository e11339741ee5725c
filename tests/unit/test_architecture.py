"""Architecture: imports follow the table of allowed arrows; a new room needs a row in it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"
PACKAGE = PLUGINS / "delivery_chain"
PORTS = {"builders", "scanners", "targets", "senders"}
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "provider_info": set(),
    "settings": {"core"},
    "retry": {"errors", "hooks"},
    "core": {"errors"},
    "oci": {"errors", "core"},
    "tools": {"errors", "core"},
    "builders": {"errors", "core", "oci", "tools"},
    "scanners": {"errors", "core", "oci", "tools"},
    "targets": {"errors", "core", "oci", "tools"},
    "senders": {"errors", "core"},
    "jobs": {"errors", "core", "oci", "tools", "builders", "scanners"},
    "hooks": {"errors", "core", "oci", "tools", "targets", "jobs"},
    "runners": {"errors", "tools", "settings", "jobs"},
    "spec_store": {"errors", "core"},
    "triggers": {"errors", "core", "oci", "tools", "hooks", "settings", "retry"},
    "sensors": {"errors", "settings", "triggers"},
    "operators": {"errors", "core", "oci", "tools", "scanners", "targets", "hooks", "settings"}
    | {"jobs", "runners", "spec_store", "sensors"},
    "dag_files": {"core", "operators", "retry", "scanners"},
    "airflow_db": {"errors", "core", "settings", "senders"},
    "web": {"errors", "core", "oci", "tools", "senders", "hooks", "settings", "airflow_db"},
    "plugin": {"core", "airflow_db", "web"},
    "doctor": {"errors", "core", "oci", "tools", "builders", "scanners", "hooks", "settings", "airflow_db"}
    | {"provider_info"},
    "sandbox": {"errors", "core", "oci", "tools", "scanners", "spec_store"},
    "commands": {"errors", "core", "oci", "tools", "senders", "targets", "hooks", "settings", "airflow_db"}
    | {"jobs", "spec_store", "operators", "doctor", "sandbox"},
}
"""What each room may import beside itself; the root's modules are rooms of one file."""
WITHOUT_AIRFLOW = {
    "errors",
    "core",
    "oci",
    "tools",
    "builders",
    "scanners",
    "targets",
    "senders",
    "jobs",
    "spec_store",
}
READS_AIRFLOW = {PACKAGE / "spec_store" / "supervised.py"}
"""Reads Variables through the supervisor of a task or of the Dag processor."""
ROOT = {"__init__.py", "errors.py", "plugin.py", "provider_info.py", "retry.py", "settings.py"}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    """The folder below the package that a file is in, or its own name at the root."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def known_rooms(path: Path) -> set[str]:
    """The other rooms that a file imports from."""
    names = {name.split(".")[1] for name in imports(path) if name.startswith("delivery_chain.")}
    return names - {room(path), "__version__"}


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows(path: Path) -> None:
    """A file imports from the rooms that the table allows its own; a new room needs a row."""
    assert known_rooms(path) - ARROWS[room(path)] == set()


def test_no_room_reaches_itself_through_others() -> None:
    """The table has no circle: rooms can be put in an order in which each knows earlier ones alone."""
    left = dict(ARROWS)
    while free := {name for name, known in left.items() if not known & left.keys()}:
        left = {name: known for name, known in left.items() if name not in free}
    assert left == {}


def test_every_row_is_a_room() -> None:
    """The walk sees every room of the table, so that a moved folder does not silence it."""
    assert {room(path) for path in FILES} == set(ARROWS)


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if room(path) in WITHOUT_AIRFLOW and path not in READS_AIRFLOW],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_no_airflow_below(path: Path) -> None:
    """The rules, the registry client, builders and scanners know nothing of Airflow."""
    assert {name for name in imports(path) if name.split(".")[0] == "airflow"} == set()


OF_AIRFLOWS_DATABASE = (
    "airflow.models",
    "airflow.jobs",
    "airflow.api_fastapi",
    "airflow.serialization",
    "airflow.settings",
    "airflow.utils.db",
    "airflow.utils.session",
    "airflow.utils.sqlalchemy",
)


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if room(path) != "airflow_db"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_one_room_knows_airflows_database(path: Path) -> None:
    """Only `airflow_db` imports Airflow's models and what its API server is made of: releases move these."""
    assert {name for name in imports(path) if name.startswith(OF_AIRFLOWS_DATABASE)} == set()


def test_the_ports_do_not_know_each_other() -> None:
    """Builders, scanners, targets and senders stand side by side."""
    assert {name: ARROWS[name] & PORTS for name in PORTS} == {name: set() for name in PORTS}


def test_the_package_itself_imports_nothing() -> None:
    """Airflow imports it early, to find the plugin and the provider."""
    assert imports(PACKAGE / "__init__.py") <= {"__future__.annotations"}


def test_few_modules_at_the_root() -> None:
    """What is not in a room is what Airflow's entry points or everybody need."""
    assert {path.name for path in PACKAGE.glob("*.py")} == ROOT


def test_every_room_says_what_it_does() -> None:
    """Each package has a docstring."""
    without = [
        path
        for path in PACKAGE.rglob("__init__.py")
        if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert without == []


def test_airflow_does_not_load_the_package_twice() -> None:
    """The plugins folder keeps Airflow from importing the package's files as plugins one by one."""
    assert "delivery_chain/" in (PLUGINS / ".airflowignore").read_text(encoding="utf-8").splitlines()
