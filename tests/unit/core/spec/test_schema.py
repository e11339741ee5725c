from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from delivery_chain.commands.main import main
from delivery_chain.core.spec.parse import parse_spec
from delivery_chain.core.spec.schema import DIALECT, spec_schema
from delivery_chain.errors import SpecError

SPECS = Path(__file__).parents[4] / "chain_specs"
SCOPE = {"instance": "home", "namespace": "shop", "repositories": ["api"]}
MINIMAL = {"version": 1, "name": "x", "scope": SCOPE}


def rule(**tag: Any) -> dict[str, Any]:
    rules = [{"name": "r", "branch": "main", "tags": [{"tag": "main", **tag}]}]
    return {**MINIMAL, "sources": {"api": {"connection": "git"}}, "build": {"rules": rules}}


def as_editors_see(data: Any) -> Any:
    """YAML 1.1's special values as YAML 1.2 reads them: `on` is a string, and so is a date."""
    if isinstance(data, dict):
        return {"on" if key is True else key: as_editors_see(value) for key, value in data.items()}
    if isinstance(data, list):
        return [as_editors_see(item) for item in data]
    return data.isoformat() if isinstance(data, date) else data


def accepts(spec: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(json.loads(spec_schema())).is_valid(spec))


def test_the_file_is_current() -> None:
    """`chain_specs/schema.json` is what `delivery-chain schema` prints; regenerate it if this fails."""
    assert (SPECS / "schema.json").read_text(encoding="utf-8") == spec_schema()


def test_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    """`delivery-chain schema` prints the schema and nothing else."""
    assert (main(["schema"]), capsys.readouterr()) == (0, (spec_schema(), ""))


def test_is_a_schema() -> None:
    """It is a valid draft 2020-12 schema with a title and no `$id`, which editors would try to fetch."""
    schema = json.loads(spec_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert (schema["$schema"], schema["title"], "$id" in schema) == (DIALECT, "Chain spec", False)


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda path: path.name)
def test_examples_fit(path: Path) -> None:
    """Every example fits the schema and names it for the editor."""
    text = path.read_text(encoding="utf-8")
    schema = json.loads(spec_schema())
    jsonschema.Draft202012Validator(schema).validate(as_editors_see(yaml.safe_load(text)))
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")


TAGS = [{"tag": "a"}, {"tag": "b"}, {"tag": "c"}, {"tag": "d"}]


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        (MINIMAL, True),
        (MINIMAL | {"scan": {"engine": "trivy"}}, True),
        (MINIMAL | {"scan": {"engine": ["trivy"]}}, True),
        (MINIMAL | {"scan": {"engine": "other"}}, False),
        (MINIMAL | {"scan": {"engine": []}}, False),
        (rule(commit_id=True), True),
        (rule(commit_id=False), True),
        (rule(commit_id=40), True),
        (rule(commit_id=41), False),
        (rule(commit_id="6"), False),
        (MINIMAL | {"build": {"rules": [{"name": "r", "branch": "b", "tags": TAGS[:3]}]}}, True),
        (MINIMAL | {"build": {"rules": [{"name": "r", "branch": "b", "tags": TAGS}]}}, False),
        (MINIMAL | {"replicate": [{"name": "r", "to": "far", "as": {"namespace": "n"}}]}, True),
        (MINIMAL | {"distribute": [{"name": "t", "url_connection": "c", "on": "all"}]}, True),
        (MINIMAL | {"distribute": [{"name": "t", "url_connection": "c", "on": {"tags": ["v1"]}}]}, True),
        (MINIMAL | {"distribute": [{"name": "t", "url_connection": "c", "on": "some"}]}, False),
        (MINIMAL | {"extra": 1}, False),
        (MINIMAL | {"version": 2}, False),
        ({"version": 1}, False),
    ],
)
def test_forms(spec: dict[str, Any], fits: bool) -> None:  # noqa: FBT001 - a table
    """The schema takes the short forms that the parser takes, and refuses what it refuses by shape."""
    assert accepts(spec) is fits
    if not fits:
        with pytest.raises(SpecError):
            parse_spec(yaml.safe_dump(spec), "x.yaml")
