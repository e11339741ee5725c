"""The README is true: its examples run, and its tables are complete."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest

from delivery_chain.commands.main import main, parser_for
from delivery_chain.core.spec.parse import parse_spec
from delivery_chain.core.spec.schema import spec_schema
from delivery_chain.provider_info import get_provider_info

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "docs" / "chain-spec.md").read_text()
CONSOLE = [
    block
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    if "delivery-chain check" in block
]


def _examples() -> list[tuple[str, str]]:
    """Each command of the README's check and plan section with the output that the README shows for it."""
    parts = re.split(r"^\$ ", CONSOLE[0], flags=re.MULTILINE)[1:]
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


@pytest.mark.parametrize(("command", "shown"), _examples(), ids=lambda value: value[:30])
def test_the_commands_print_what_the_readme_shows(
    command: str, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader who types the README's command gets the README's output."""
    monkeypatch.chdir(ROOT)
    assert (main(shlex.split(command)[1:]), capsys.readouterr().out) == (0, shown)


def test_the_readme_spec_is_valid() -> None:
    """The spec in the README is one that the project takes."""
    text = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0]
    assert parse_spec(text, "README.md").name == "shop-api"


def test_the_reference_spec_is_valid() -> None:
    """The spec in the reference is one that the project takes."""
    text = re.findall(r"```yaml\n(.*?)```", REFERENCE, re.DOTALL)[0]
    assert parse_spec(text, "docs/chain-spec.md").name == "shop-api"


def test_the_reference_spec_has_every_field() -> None:
    """The reference's spec shows each key of the schema, and its text explains each one."""
    text = re.findall(r"```yaml\n(.*?)```", REFERENCE, re.DOTALL)[0]
    prose = REFERENCE.replace(text, "")
    schema = json.loads(spec_schema())
    models = [schema, *schema["$defs"].values()]
    fields = {name for model in models for name in model.get("properties", {})} - {"all", "exclude"}
    assert {name for name in fields if f"{name}:" not in text} == set()
    assert {
        name for name in fields if not re.search(rf"`(?:\w+\.)?{name}\b|^## {name}:", prose, re.MULTILINE)
    } == set()


def test_every_setting_is_in_the_readme() -> None:
    """The table of settings names every option that the provider declares."""
    options = set(get_provider_info()["config"]["delivery_chain"]["options"])
    assert {option for option in options if f"`{option}`" not in README} == set()


def test_every_connection_type_is_in_the_readme() -> None:
    """The table of connections names every type that the provider declares."""
    types = {entry["connection-type"] for entry in get_provider_info()["connection-types"]}
    assert {name for name in types if f"`{name}`" not in README} == set()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(((?!https?:)[^)#]+)\)", README))))
def test_links_lead_somewhere(link: str) -> None:
    """Every file that the README links to is there."""
    assert (ROOT / link).exists()


@pytest.mark.parametrize("command", re.findall(r"^\$ (delivery-chain copy .*)$", README, re.MULTILINE))
def test_the_copy_commands_are_taken(command: str) -> None:
    """What the README shows is a command line that the parser takes."""
    assert parser_for(["copy"]).parse_args(shlex.split(command)[1:]).targets


SHIPPED = (
    "docker-compose.yml",
    "Dockerfile",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "docs",
    "scripts",
)
MODULES = sorted(
    {
        name
        for shipped in SHIPPED
        for path in ([ROOT / shipped] if (ROOT / shipped).is_file() else (ROOT / shipped).rglob("*.*"))
        if path.suffix in {"", ".yml", ".md", ".sh", ".py"}
        for name in re.findall(r"-m (delivery_chain[\w.]*)", path.read_text(encoding="utf-8"))
    }
)


@pytest.mark.parametrize("module", MODULES)
def test_modules_that_are_run_exist(module: str) -> None:
    """What files beside the package start by `python -m` is found under that name."""
    assert importlib.util.find_spec(module) is not None
