from __future__ import annotations

import ast
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"
PACKAGE = PLUGINS / "delivery_chain"
ORDER = ("errors", "core", "oci", "tools", "hooks", "steps", "factory")
STEPS = {"operators", "sensors", "triggers"}
SIBLINGS = {("sensors", "triggers"), ("operators", "sensors")}
"""Steps that may know each other: who waits starts a trigger, and a chain's watch is a sensor."""
EDGES: dict[str, set[str]] = {
    "settings": {"errors"},
    "retry": {"errors", "hooks"},
    "catalogue": {"errors", "core"},
    "supervised": set(),
    "in_force": {"errors", "core", "catalogue", "supervised"},
    "provider_info": set(),
    "listener": {"core", "ledger"},
    "plugin": {"listener", "web"},
    "senders": {"errors", "core"},
    "ledger": {"errors", "core", "settings"},
    "web": {"errors", "core", "tools", "hooks", "senders", "settings", "listener", "ledger"},
    "preload": set(),
    "airflow_rest": {"errors"},
    "sandbox": {"errors", "core", "catalogue", "oci", "tools", "settings", "airflow_rest", "git_hook"},
    "copy_words": set(),
    "planning": {"errors", "core", "catalogue"},
    "copying": {"copy_words", "errors", "core", "oci"},
    "replicating": {"core", "tools", "catalogue", "hooks", "operators"},
    "triggering": {"errors", "core", "airflow_rest"},
    "git_hook": set(),
    "airflow_connections": {"errors", "airflow_rest"},
    "webhook_setup": {"errors", "core", "senders", "airflow_connections", "airflow_rest"},
    "doctor": {
        "errors",
        "core",
        "oci",
        "tools",
        "hooks",
        "settings",
        "catalogue",
        "provider_info",
        "ledger",
    },
    "connection_given": {"errors", "core", "hooks"},
    "connecting": {"errors", "core", "tools", "hooks", "airflow_connections", "connection_given"},
    "forms": {"core"},
    "cli": {
        "planning",
        "copying",
        "replicating",
        "triggering",
        "ledger",
        "webhook_setup",
        "connecting",
        "doctor",
        "git_hook",
        "errors",
        "core",
        "oci",
        "tools",
        "catalogue",
        "settings",
        "sandbox",
    },
}
"""What the modules beside the layers may import: the ways in, and what reads the outside for them."""
WITHOUT_AIRFLOW = {"errors", "core", "oci", "senders"}


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


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def allowed(source: str, target: str) -> bool:
    """Whether the part `source` may import the part `target`."""
    if source == target or (source, target) in SIBLINGS:
        return True
    ranks = [ORDER.index("steps" if name in STEPS else name) for name in (source, target)]
    return ranks[1] < ranks[0]


ALL = sorted(PACKAGE.rglob("*.py"))
FILES = [path for path in ALL if part(path) in {*ORDER, *STEPS}]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows(path: Path) -> None:
    """Imports go one way: errors, core, oci, tools, hooks, steps, factory; steps do not know each other."""
    targets = {name.split(".")[1] for name in imports(path) if name.startswith("delivery_chain.")}
    known = targets & {*ORDER, *STEPS}
    assert {name for name in known if not allowed(part(path), name)} == set()


@pytest.mark.parametrize("path", [path for path in ALL if path not in FILES], ids=lambda path: str(path.name))
def test_the_ways_in_know_their_place(path: Path) -> None:
    """What is beside the layers imports what the table says; a new module needs a place in it."""
    if path.parent == PACKAGE and path.name == "__init__.py":
        assert imports(path) <= {"__future__.annotations"}
        return
    names = {name.split(".")[1] for name in imports(path) if name.startswith("delivery_chain.")}
    assert names - {part(path), "__version__"} - EDGES[part(path)] == set()


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if part(path) in WITHOUT_AIRFLOW],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_no_airflow_below(path: Path) -> None:
    """The rules and the registry client know nothing of Airflow."""
    assert {name for name in imports(path) if name.split(".")[0] == "airflow"} == set()


def test_looks_at_something() -> None:
    """The walk sees every layer, so that a moved folder does not silence it."""
    assert {part(path) for path in FILES} == {*ORDER, *STEPS} - {"steps"}


def test_rules_of_the_walk() -> None:
    """The walk itself tells a forbidden arrow from a good one."""
    assert [
        allowed("operators", "core"),
        allowed("sensors", "triggers"),
        allowed("factory", "operators"),
    ] == [True] * 3
    assert [allowed("core", "oci"), allowed("triggers", "sensors"), allowed("operators", "triggers")] == [
        False
    ] * 3


def test_airflow_does_not_load_the_package_twice() -> None:
    """The plugins folder keeps Airflow from importing the package's files as plugins one by one."""
    assert "delivery_chain/" in (PLUGINS / ".airflowignore").read_text(encoding="utf-8").splitlines()
