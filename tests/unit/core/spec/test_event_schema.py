"""The schema of a run's conf: up to date, valid, and consistent with the parser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from delivery_chain.commands.main import main
from delivery_chain.core.events.event import Event
from delivery_chain.core.spec.schema import DIALECT, event_schema
from delivery_chain.errors import UsageError

FILE = Path(__file__).parents[4] / "chain_specs" / "event.schema.json"
SCHEMA = json.loads(event_schema())
A = "a" * 40
DIGEST = "sha256:" + "a" * 64


def test_the_file_is_current() -> None:
    """`chain_specs/event.schema.json` is what `schema --event` prints; regenerate it if this fails."""
    assert FILE.read_text(encoding="utf-8") == event_schema()


def test_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    """`delivery-chain schema --event` prints the schema and nothing else."""
    assert (main(["schema", "--event"]), capsys.readouterr()) == (0, (event_schema(), ""))


def test_is_a_schema() -> None:
    """It is a valid draft 2020-12 schema, and every field but those that explain themselves is described."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    undescribed = {name for name, field in SCHEMA["properties"].items() if "description" not in field}
    assert (SCHEMA["$schema"], SCHEMA["title"], undescribed) == (DIALECT, "Event", {"kind"})


@pytest.mark.parametrize("example", SCHEMA["examples"], ids=str)
def test_examples_fit(example: dict[str, Any]) -> None:
    """Each example fits the schema, and is an event that round-trips unchanged."""
    jsonschema.Draft202012Validator(SCHEMA).validate(example)
    assert Event.from_conf(example).to_conf() == example


@pytest.mark.parametrize(
    ("conf", "fits"),
    [
        ({}, True),
        ({"ref": ""}, True),
        ({"ref": "v1"}, True),
        ({"ref": "refs/tags/v1", "tag": ""}, True),
        ({"ref": "-v1"}, False),
        ({"ref": "a..b"}, False),
        ({"ref": "a.lock"}, False),
        ({"ref": "a/"}, False),
        ({"ref": "a b"}, False),
        ({"ref": "a" * 1001}, False),
        ({"ref": "v1", "commit": A}, True),
        ({"ref": "v1", "commit": "abc"}, False),
        ({"ref": "v1", "commit": A.upper()}, False),
        ({"ref": "v1", "tag": "v1"}, False),
        ({"ref": "v1", "digest": DIGEST}, False),
        ({"tag": "v1"}, True),
        ({"tag": ".v1"}, False),
        ({"repository": "shop/api", "tag": "v1", "digest": DIGEST}, True),
        ({"repository": "Shop"}, False),
        ({"repository": "a" * 256}, False),
        ({"digest": "sha256:abc"}, False),
        ({"kind": "source_push", "ref": "v1", "commit": A}, True),
        ({"kind": "source_push", "ref": "v1"}, False),
        ({"kind": "image_push", "repository": "api", "digest": DIGEST}, True),
        ({"kind": "image_push", "repository": "api"}, False),
        ({"kind": "push"}, False),
        ({"actor": "a" * 201}, False),
        ({"announce": False}, True),
        ({"branch": "main"}, False),
    ],
)
def test_of_one_mind_with_the_parser(conf: dict[str, Any], fits: bool) -> None:  # noqa: FBT001 - a table
    """A conf that the schema accepts is an event, and one that it rejects is not."""
    assert jsonschema.Draft202012Validator(SCHEMA).is_valid(conf) is fits
    if fits:
        Event.from_conf(conf)
    else:
        with pytest.raises(UsageError):
            Event.from_conf(conf)
