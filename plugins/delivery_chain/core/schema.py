"""The chain spec as a JSON Schema, for editors: completion and checks while a spec is written."""

from __future__ import annotations

import json
from typing import Any

from delivery_chain.core.spec import MOST_ARGS, MOST_TAGS, ChainSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def spec_schema() -> str:
    """The schema of one spec, as JSON text with sorted keys: equal models give equal bytes.

    It is wider than `parse_spec`, never narrower: rules between fields are left to `delivery-chain check`.
    """
    schema = ChainSpec.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    # These forms and limits are checked by validators, which pydantic can't see through.
    _also(definitions["TagRule"]["properties"]["commit_id"], {"type": "boolean"})
    engine = definitions["Scan"]["properties"]["engine"]
    definitions["Scan"]["properties"]["engine"] = _several(engine)
    definitions["BuildRule"]["properties"]["tags"]["maxItems"] = MOST_TAGS
    definitions["BuildRule"]["properties"]["args"]["maxProperties"] = MOST_ARGS
    definitions["BuildRule"]["properties"]["platforms"]["uniqueItems"] = True
    schema |= {"$schema": DIALECT, "title": "Chain spec"}
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _also(field: dict[str, Any], form: dict[str, Any]) -> None:
    field["anyOf"] = [form, *field["anyOf"]]


def _several(field: dict[str, Any]) -> dict[str, Any]:
    """A list's schema as one that takes a single item too."""
    outside: dict[str, Any] = {
        key: field.pop(key) for key in ("title", "description", "default") if key in field
    }
    return {**outside, "anyOf": [field["items"], field]}
