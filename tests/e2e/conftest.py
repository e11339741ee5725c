"""Provides one sandbox for all end-to-end tests; every run starts at the beginning, so that they run concurrently."""

from __future__ import annotations

import io
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.api import copy_image, put_tag
from delivery_chain.oci.manifest import OCI_MANIFEST
from delivery_chain.sandbox import airflow_parts, ground, source, stack
from delivery_chain.sandbox.airflow_parts import ADMIN
from delivery_chain.sandbox.api import AirflowApi
from delivery_chain.sandbox.console import Console
from delivery_chain.sandbox.layout import Layout, load_secrets
from support import edited_chain, ended_chain, forge_chain, held_chain, spec_edits
from support import faults as chain_of_faults
from support.chain_runs import POLL_SECONDS, RUN_SECONDS, Ended, Sandbox
from support.faults import Pushed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.sandbox.source import Push

ROOT = Path(__file__).resolve().parents[2]
CLEAN = "v1.0.0"
VULNERABLE = "v1.1.0"
USER, OP = "bob", "olga"
"""Roles that get a login besides the admin's."""


@dataclass(frozen=True, slots=True)
class Started:
    """Everything that was pushed and triggered."""

    clean: Push
    vulnerable: Push
    branch: Push


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A whole sandbox with the example chains. Its processes are stopped whatever happens."""
    layout = Layout(tmp_path_factory.mktemp("chain"))
    output = io.StringIO()
    specs = tmp_path_factory.mktemp("given") / "chain_specs"
    shutil.copytree(ROOT / "chain_specs", specs)
    (specs / "faults.yaml").write_text(chain_of_faults.SPEC, "ascii")
    chain_of_faults.create_source(layout)
    (specs / "edited.yaml").write_text(edited_chain.SPEC, "ascii")
    (specs / "ends.yaml").write_text(ended_chain.SPEC, "ascii")
    ended_chain.create_source(layout)
    (specs / "held.yaml").write_text(held_chain.SPEC, "ascii")
    held_chain.create_source(layout)
    (specs / "forge.yaml").write_text(forge_chain.SPEC, "ascii")
    forge_chain.create_source(layout)
    spec_edits.prepare(layout, specs)
    options = stack.Options(specs=str(specs), dags=str(ROOT / "dags"))
    settings = airflow_parts.settings
    # A user who may edit Dags, but neither Variables nor connections; Airflow itself creates the password.
    users = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin,{USER}:user,{OP}:op"
    } | spec_edits.SOONER
    patch = pytest.MonkeyPatch()
    patch.setattr(airflow_parts, "settings", lambda *given: settings(*given) | users)
    try:
        running = stack.up(layout, options, Console(output))
        secrets = load_secrets(layout)
        with AirflowApi(running.ui, ADMIN, secrets["admin"]) as api:
            assert api.import_errors() == []
            address = f"http://127.0.0.1:{running.state.ports[ground.RECEIVER]}/hooks/faults"
            target = {"connection_id": "faults_redeploy", "conn_type": "delivery_webhook", "host": address}
            assert api.call("POST", "/connections", body=target)
            yield Sandbox(layout, api, running.registries(), secrets)
    finally:
        patch.undo()
        stack.down(layout, Console(output), purge=True)


@pytest.fixture(scope="session")
def taken(sandbox: Sandbox) -> str:
    """Digest of another image, which already has the tag `taken` of the faults chain in one region."""
    with RegistryClient(sandbox.registries["eu-central-1"]) as client:
        config = client.put_blob_bytes(chain_of_faults.IMAGE, b"{}")
        raw = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {
                    "mediaType": "application/vnd.oci.empty.v1+json",
                    "digest": config.digest,
                    "size": 2,
                },
                "layers": [],
            }
        ).encode()
        return client.put_manifest(chain_of_faults.IMAGE, "taken", raw, OCI_MANIFEST)


@pytest.fixture(scope="session")
def faults(sandbox: Sandbox, taken: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    """Push everything; the process that builds the branch `killed` is killed while its Dockerfile runs."""
    del taken
    commits = chain_of_faults.push(sandbox.layout, tmp_path_factory.mktemp("faulty"))
    running = stack.open_stack(sandbox.layout, Console(io.StringIO()))
    with ThreadPoolExecutor(1) as thread, AirflowApi(running.ui, ADMIN, sandbox.secrets["admin"]) as api:
        yield Pushed(commits, thread.submit(chain_of_faults.kill_build, api, commits["killed"]))


@pytest.fixture(scope="session")
def started(sandbox: Sandbox, faults: Pushed) -> Started:
    """Push every release and send the refused triggers, all at once."""
    del faults
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
    """Digest of an image copied by hand to base/busybox:1.0, which starts a run by itself."""
    deadline = time.monotonic() + RUN_SECONDS
    with RegistryClient(sandbox.home) as client:
        while (image := client.head_manifest("shop/api", CLEAN)) is None:
            assert time.monotonic() < deadline, f"shop/api:{CLEAN} was not published; {started.clean}"
            time.sleep(POLL_SECONDS)
        copy_image(client, "shop/api", image.digest, client, "base/busybox", referrers=False)
        put_tag(client, "base/busybox", "1.0", image.digest)
    return image.digest


@pytest.fixture(scope="session")
def clean(sandbox: Sandbox, started: Started, by_hand: str) -> Ended:
    """The run of the clean release."""
    del by_hand
    return sandbox.of_push("shop-api", started.clean)


@pytest.fixture(scope="session")
def blocked(sandbox: Sandbox, started: Started, by_hand: str) -> Ended:
    """The run of the vulnerable release, before anyone tampers with it."""
    del by_hand
    return sandbox.of_push("shop-api", started.vulnerable)


@pytest.fixture(scope="session")
def branch(sandbox: Sandbox, started: Started) -> Ended:
    """The run of the push to shop/web's main branch."""
    return sandbox.of_push("shop-web", started.branch)


@pytest.fixture(scope="session")
def image(sandbox: Sandbox, by_hand: str) -> Ended:
    """The run of the image copied by hand."""
    return sandbox.of_image("base-images", by_hand)
