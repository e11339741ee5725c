"""JSON Schemas of the chain spec, for editors, and of a run's `conf`, for its callers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from delivery_chain.core.events.event import COMMIT, Event
from delivery_chain.core.names.git_ref import BRANCHES, REF, REF_BYTES, TAGS
from delivery_chain.core.names.reference import DIGEST, NAME, NAME_LENGTH, TAG
from delivery_chain.core.spec.model import MOST_ARGS, MOST_TAGS, ChainSpec

if TYPE_CHECKING:
    import re

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def spec_schema() -> str:
    """JSON Schema of one spec, with sorted keys: equal models give equal bytes.

    It accepts at least what `parse_spec` does: rules between fields are left to `delivery-chain check`.
    """
    schema = ChainSpec.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    # These forms and limits are checked by validators, which are opaque to pydantic.
    _also(definitions["TagRule"]["properties"]["commit_id"], {"type": "boolean"})
    engine = definitions["Scan"]["properties"]["engine"]
    definitions["Scan"]["properties"]["engine"] = _several(engine)
    definitions["BuildRule"]["properties"]["tags"]["maxItems"] = MOST_TAGS
    definitions["BuildRule"]["properties"]["args"]["maxProperties"] = MOST_ARGS
    definitions["BuildRule"]["properties"]["platforms"]["uniqueItems"] = True
    schema |= {"$schema": DIALECT, "title": "Chain spec"}
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def event_schema() -> str:
    """JSON Schema of a run's `conf`, with sorted keys.

    It describes what a program sends. `Event.from_conf` also accepts null and surrounding spaces, as forms send.
    """
    schema = Event.model_json_schema(mode="validation")
    fields = schema["properties"]
    forms = {"ref": REF, "commit": COMMIT, "repository": NAME, "tag": TAG, "digest": DIGEST}
    for name, form in {**forms, "previous": COMMIT}.items():
        fields[name]["pattern"] = _or_empty(form)
    fields["ref"]["maxLength"] = REF_BYTES
    fields["repository"]["maxLength"] = NAME_LENGTH
    examples = _event_examples()
    for name in forms:
        fields[name]["examples"] = list(
            dict.fromkeys(example[name] for example in examples if name in example)
        )
    schema |= {
        "$schema": DIALECT,
        "title": "Event",
        "allOf": [
            _needs("source_push", {"required": ["ref", "commit"]}),
            _needs(
                "image_push", {"required": ["repository"], "anyOf": [_present("tag"), _present("digest")]}
            ),
            {"not": {**_present("ref"), "anyOf": [_present("tag"), _present("digest")]}},
        ],
        "examples": examples,
    }
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _event_examples() -> list[dict[str, Any]]:
    return [
        {"ref": TAGS + "v1.2.0"},
        {"ref": BRANCHES + "main", "commit": "4b825dc642cb6eb9a060e54bf8d69288fbee4904", "rule": "nightly"},
        {"repository": "api", "tag": "v1.2.0"},
        {"repository": "api", "digest": "sha256:" + "0123456789abcdef" * 4, "announce": False},
    ]


def _or_empty(form: re.Pattern[str]) -> str:
    return f"^(?:{form.pattern})?$"


def _present(name: str) -> dict[str, Any]:
    return {"properties": {name: {"minLength": 1}}, "required": [name]}


def _needs(kind: str, what: dict[str, Any]) -> dict[str, Any]:
    return {"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]}, "then": what}


def _also(field: dict[str, Any], form: dict[str, Any]) -> None:
    field["anyOf"] = [form, *field["anyOf"]]


def _several(field: dict[str, Any]) -> dict[str, Any]:
    """Extend a list's schema to accept a single item, too."""
    outside: dict[str, Any] = {
        key: field.pop(key) for key in ("title", "description", "default") if key in field
    }
    return {**outside, "anyOf": [field["items"], field]}
