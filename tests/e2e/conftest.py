"""One sandbox for all end-to-end tests, with every run started at its beginning so that they run side by side."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy import copy_image, put_tag
from delivery_chain.sandbox import source, stack
from delivery_chain.sandbox.airflow_parts import ADMIN
from delivery_chain.sandbox.api import AirflowApi
from delivery_chain.sandbox.console import Console
from delivery_chain.sandbox.layout import Layout, load_secrets
from support.chain_runs import POLL_SECONDS, RUN_SECONDS, Ended, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.sandbox.source import Push

ROOT = Path(__file__).resolve().parents[2]
CLEAN = "v1.0.0"
VULNERABLE = "v1.1.0"


@dataclass(frozen=True, slots=True)
class Started:
    """What was pushed and triggered."""

    clean: Push
    vulnerable: Push
    branch: Push


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A whole sandbox with the example chains. Its processes are ended whatever happens."""
    layout = Layout(tmp_path_factory.mktemp("chain"))
    output = io.StringIO()
    options = stack.Options(specs=str(ROOT / "chain_specs"), dags=str(ROOT / "dags"))
    try:
        running = stack.up(layout, options, Console(output))
        secrets = load_secrets(layout)
        with AirflowApi(running.ui, ADMIN, secrets["admin"]) as api:
            assert api.import_errors() == []
            yield Sandbox(layout, api, running.registries(), secrets)
    finally:
        stack.down(layout, Console(output), purge=True)


@pytest.fixture(scope="session")
def started(sandbox: Sandbox) -> Started:
    """Every push and the refused triggers, all at once."""
    layout = sandbox.layout
    found = Started(
        clean=source.push(layout, "api", tag=CLEAN),
        vulnerable=source.push(layout, "api", tag=VULNERABLE, vulnerable=True),
        branch=source.push(layout, "web"),
    )
    sandbox.api.trigger("shop-api", "refused-ref", {"ref": "nope"})
    sandbox.api.trigger("shop-api", "refused-rule", {"rule": "release"})
    return found


@pytest.fixture(scope="session")
def by_hand(sandbox: Sandbox, started: Started) -> str:
    """An image that somebody copied to base/busybox:1.0, and the run that was triggered for it: its digest."""
    deadline = time.monotonic() + RUN_SECONDS
    with RegistryClient(sandbox.home) as client:
        while (image := client.head_manifest("shop/api", CLEAN)) is None:
            assert time.monotonic() < deadline, f"shop/api:{CLEAN} was not published; {started.clean}"
            time.sleep(POLL_SECONDS)
        copy_image(client, "shop/api", image.digest, client, "base/busybox", referrers=False)
        put_tag(client, "base/busybox", "1.0", image.digest)
    sandbox.api.trigger("base-images", "by-hand", {"repository": "busybox", "tag": "1.0"})
    return image.digest


@pytest.fixture(scope="session")
def clean(sandbox: Sandbox, started: Started, by_hand: str) -> Ended:
    """The clean release's run."""
    del by_hand
    return sandbox.of_push("shop-api", started.clean)


@pytest.fixture(scope="session")
def blocked(sandbox: Sandbox, started: Started, by_hand: str) -> Ended:
    """The vulnerable release's run, as it was before anybody tampered with it."""
    del by_hand
    return sandbox.of_push("shop-api", started.vulnerable)


@pytest.fixture(scope="session")
def branch(sandbox: Sandbox, started: Started) -> Ended:
    """The run of the push to shop/web's main."""
    return sandbox.of_push("shop-web", started.branch)


@pytest.fixture(scope="session")
def image(sandbox: Sandbox, by_hand: str) -> Ended:
    """The run of the image that was copied by hand."""
    del by_hand
    return sandbox.of_run("base-images", "by-hand")
