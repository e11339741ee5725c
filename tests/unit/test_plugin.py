from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import delivery_chain
from delivery_chain.airflow_db import listener
from delivery_chain.core.web_paths import PAGES
from delivery_chain.plugin import DeliveryChainPlugin
from delivery_chain.web import pages, webhooks

PLUGINS = Path(delivery_chain.__file__).parents[1]


def test_it_brings_the_listener() -> None:
    """Airflow finds the plugin's name and its listener."""
    assert (DeliveryChainPlugin.name, DeliveryChainPlugin.listeners) == ("delivery_chain", [listener])


def test_it_brings_the_pages() -> None:
    """Airflow mounts them where the buttons lead; the webhooks, whose prefix is longer, come before them."""
    assert [(one["app"], one["url_prefix"]) for one in DeliveryChainPlugin.fastapi_apps] == [
        (webhooks, f"{PAGES}/webhooks"),
        (pages, PAGES),
    ]


def test_only_a_web_server_loads_them() -> None:
    """The plugin is loaded in each process of Airflow: its pages and its receiver come with their first request."""
    code = (
        "import sys, delivery_chain.plugin; print(sorted(name for name in sys.modules"
        " if name.startswith(('delivery_chain.web.', 'delivery_chain.senders', 'fastapi'))))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert output.stdout.strip() == "[]"


def test_its_menu_entry_is_one_that_airflow_takes() -> None:
    """For one entry that is wrong Airflow leaves the whole plugin out; the address is below Airflow's own."""
    from airflow.api_fastapi.core_api.datamodels.plugins import ExternalViewResponse  # noqa: PLC0415 - slow

    (entry,) = DeliveryChainPlugin.external_views
    assert ExternalViewResponse.model_validate(entry).model_dump(exclude_defaults=True) == {
        "name": "Push events",
        "href": f"{PAGES}/events".lstrip("/"),
        "category": "browse",
        "url_route": "push-events",
    }
    assert entry["destination"] == "nav"


def test_folder_mode_finds_the_same_plugin() -> None:
    """The file in the plugins folder gives the class, and the package itself is not loaded file by file."""
    assert (
        runpy.run_path(str(PLUGINS / "delivery_chain_plugin.py"))["DeliveryChainPlugin"]
        is DeliveryChainPlugin
    )
    assert (PLUGINS / ".airflowignore").read_text().split() == ["delivery_chain/"]


def test_a_run_without_a_session_is_left_alone() -> None:
    """Objects that are not runs from a database are ignored."""
    assert listener.note_summary(object()) is None  # type: ignore[arg-type]
