"""The two ways to install, the wheel and Airflow's plugins folder, each in its own environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[3]
DAG_FILES = sorted(path.name for path in (ROOT / "dags").glob("*.py"))
SPEC_FILES = sorted(path.name for path in (ROOT / "chain_specs").iterdir() if path.is_file())

ENTRY_POINTS = """
import json
from importlib.metadata import entry_points
found = {}
for group in ("airflow.plugins", "apache_airflow_provider"):
    for point in entry_points(group=group):
        if point.dist.name == "airflow-delivery-chain":
            loaded = point.load()
            value = loaded()["package-name"] if group == "apache_airflow_provider" else loaded.name
            found[group] = [point.value, value]
print(json.dumps(found))
"""
DAGS_FOLDER = """
import sys
from importlib.metadata import entry_points
[point] = entry_points(group="console_scripts", name="delivery-chain")
sys.exit(point.load()(["dags-folder"]))
"""
IMPORT_DAGS = """
import json, runpy, sys
from pathlib import Path
import delivery_chain
from airflow.sdk import DAG
found = {}
for file in sorted(Path(sys.argv[1]).glob("*.py")):
    names = runpy.run_path(str(file))
    found[file.name] = sorted({value.dag_id for value in names.values() if isinstance(value, DAG)})
print(json.dumps({"package": delivery_chain.__file__, "dags": found}))
"""
PLUGINS = """
import json, sys
from importlib.util import find_spec
from importlib.metadata import distributions
from airflow import plugins_manager
plugins_manager.ensure_plugins_loaded()
import delivery_chain, platform
plugins, errors = plugins_manager._get_plugins()
print(json.dumps({
    "plugins": [plugin.name for plugin in plugins],
    "errors": errors,
    "package": delivery_chain.__file__,
    "platform": platform.__file__,
    "errors_module": find_spec("errors") is not None,
    "installed": any(one.name == "airflow-delivery-chain" for one in distributions()),
}))
"""


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python environment with the packages of this one, except for the project's editable install."""

    python: Path
    home: Path

    def run(self, code: str, *arguments: str, **settings: str) -> str:
        """Run code; return its standard output."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "AIRFLOW_HOME": str(self.home)}
        env |= {"AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
        env |= {"AIRFLOW__CORE__PLUGINS_FOLDER": str(self.home / "plugins"), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [str(self.python), "-c", code, *arguments]
        done = subprocess.run(
            command,
            env=env | settings,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def read(self, code: str, *arguments: str, **settings: str) -> Any:
        """Run code that prints JSON as its last line."""
        return json.loads(self.run(code, *arguments, **settings).splitlines()[-1])


def make_environment(folder: Path, *first: Path) -> Environment:
    """Create an environment with `first` before links to the packages of this one."""
    packages = folder / "packages"
    packages.mkdir(parents=True)
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "delivery_chain" not in entry.name:
            (packages / entry.name).symlink_to(entry)
    venv.create(folder / "venv", symlinks=True)
    [site] = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "paths.pth").write_text("".join(f"{path}\n" for path in (*first, packages)), encoding="utf-8")
    (folder / "home" / "plugins").mkdir(parents=True)
    return Environment(folder / "venv" / "bin" / "python", folder / "home")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q")
    command = [sys.executable, "-m", "pip", "wheel", *options, "-w", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    [file] = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    folder = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def installed(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return make_environment(tmp_path_factory.mktemp("installed"), unpacked)


def names_below(wheel: Path, prefix: str) -> list[str]:
    with zipfile.ZipFile(wheel) as file:
        return sorted(name.removeprefix(prefix) for name in file.namelist() if name.startswith(prefix))


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [("delivery_chain/_dags/", DAG_FILES), ("delivery_chain/_chain_specs/", SPEC_FILES)],
)
def test_the_wheel_brings_dag_files_and_specs(wheel: Path, prefix: str, expected: list[str]) -> None:
    """The wheel contains what `force-include` adds, and none of the checkout's bytecode."""
    assert names_below(wheel, prefix) == expected


def test_entry_points_load(installed: Environment) -> None:
    """Airflow finds the plugin and the provider through the wheel's metadata."""
    found: Mapping[str, list[str]] = installed.read(ENTRY_POINTS)
    assert found == {
        "airflow.plugins": ["delivery_chain.plugin:DeliveryChainPlugin", "delivery_chain"],
        "apache_airflow_provider": [
            "delivery_chain.provider_info:get_provider_info",
            "airflow-delivery-chain",
        ],
    }


def test_dags_folder_is_inside_the_wheel(installed: Environment, unpacked: Path) -> None:
    """`delivery-chain dags-folder` prints the folder with the three Dag files."""
    folder = Path(installed.run(DAGS_FOLDER).strip())
    assert folder == unpacked / "delivery_chain" / "_dags"
    assert sorted(path.name for path in folder.glob("*.py")) == DAG_FILES


def test_dag_files_import_from_the_wheel(installed: Environment, unpacked: Path) -> None:
    """All Dag files load with the wheel's example specs, and without the checkout."""
    package = unpacked / "delivery_chain"
    found = installed.read(
        IMPORT_DAGS,
        str(package / "_dags"),
        AIRFLOW__CORE__DAGS_FOLDER=str(package / "_dags"),
        AIRFLOW__DELIVERY_CHAIN__SPECS_FOLDER=str(package / "_chain_specs"),
    )
    assert found["package"] == str(package / "__init__.py")
    assert sorted(found["dags"]) == DAG_FILES
    assert {"base-images", "shop-api", "shop-web"} < set(found["dags"]["delivery_chains.py"])
    assert found["dags"]["delivery_chain_sources.py"] != []
    assert found["dags"]["delivery_chain_errors.py"] == []


def test_the_plugins_folder_alone_is_enough(tmp_path: Path) -> None:
    """Airflow loads exactly one plugin from the folder, and no module of ours hides another one."""
    plugins = ROOT / "plugins"
    found = make_environment(tmp_path / "folder").read(PLUGINS, AIRFLOW__CORE__PLUGINS_FOLDER=str(plugins))
    standard = Path(sysconfig.get_paths()["stdlib"]) / "platform.py"
    assert found == {
        "plugins": ["delivery_chain"],
        "errors": {},
        "package": str(plugins / "delivery_chain" / "__init__.py"),
        "platform": str(standard),
        "errors_module": False,
        "installed": False,
    }
