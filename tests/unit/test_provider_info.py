from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files

import jsonschema

from delivery_chain.hooks.registry import OciRegistryHook
from delivery_chain.hooks.webhook import WebhookHook
from delivery_chain.hooks.webhook_sender import PER_MINUTE, WebhookSenderHook
from delivery_chain.provider_info import SENDERS, get_provider_info
from delivery_chain.senders.table import SENDERS as TABLE


def test_it_is_what_airflow_takes() -> None:
    """The dict passes Airflow's own schema, connection fields included."""
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_its_hooks_are_there() -> None:
    """Each connection type names a hook class that says the same type and name."""
    declared = {
        (item["connection-type"], item["hook-class-name"], item["hook-name"])
        for item in get_provider_info()["connection-types"]
    }
    assert declared == {
        (hook.conn_type, f"{hook.__module__}.{hook.__qualname__}", hook.hook_name)
        for hook in (OciRegistryHook, WebhookHook, WebhookSenderHook)
    }


def test_field_defaults_fit_their_schema() -> None:
    """The connection form would refuse a default that breaks the field's own schema."""
    for connection in get_provider_info()["connection-types"]:
        for field in connection["conn-fields"].values():
            jsonschema.validate(field["schema"].get("default"), field["schema"])


def test_each_kind_of_sender_can_be_chosen() -> None:
    """The form's list has the names of the table, and its default is the hook's."""
    (fields,) = (
        one["conn-fields"]
        for one in get_provider_info()["connection-types"]
        if one["connection-type"] == "webhook_sender"
    )
    assert (sorted(SENDERS), fields["sender"]["schema"]["enum"]) == (sorted(TABLE), [None, *SENDERS])
    assert fields["per_minute"]["schema"]["default"] == PER_MINUTE
    assert list(fields) == ["sender", "speaks_for", "second_secret", "per_minute"]


def test_it_imports_nothing() -> None:
    """Airflow calls it in every process, before anything is needed."""
    code = (
        "import sys, delivery_chain.provider_info as p; p.get_provider_info();"
        "print(sorted(m for m in sys.modules if m.startswith(('airflow', 'pydantic', 'delivery_chain'))))"
    )
    path = files("delivery_chain").joinpath("..").resolve()  # type: ignore[attr-defined]
    output = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        text=True,
        env={"PYTHONPATH": str(path)},
    )
    assert output.stdout.strip() == "['delivery_chain', 'delivery_chain.provider_info']"
