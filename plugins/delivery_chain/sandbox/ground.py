"""Defines the services below Airflow: registries with the sample databases, webhook receiver, database server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from delivery_chain.core.web_paths import webhook_path
from delivery_chain.oci.client import RegistryClient
from delivery_chain.sandbox import airflow_parts, database, registries, services
from delivery_chain.sandbox.connections import REGISTRY_HOOKS
from delivery_chain.sandbox.progress import Waiting
from delivery_chain.sandbox.services import LOCALHOST, Service
from delivery_chain.sandbox.vulndb import publish_sample_database, publish_sample_java_database

if TYPE_CHECKING:
    from collections.abc import Mapping

    from delivery_chain.core.names.registry import Registry
    from delivery_chain.sandbox.console import Console
    from delivery_chain.sandbox.layout import Layout, State

RECEIVER = "receiver"
DATABASE_REPOSITORY = "aquasecurity/trivy-db"
DATABASE_TAG = "2"
JAVA_REPOSITORY, JAVA_TAG = "aquasecurity/trivy-java-db", "1"


def known_registries(state: State) -> dict[str, Registry]:
    """Each region's registry, home first."""
    return registries.addresses(state.ports, registries.parse_given(state.settings["registries"]))


def webhook_url(state: State, connection: str) -> str:
    """The URL to which a webhook sender posts."""
    return f"http://{LOCALHOST}:{state.ports[airflow_parts.API_SERVER]}{webhook_path(connection)}"


def services_below(
    layout: Layout, state: State, secrets: Mapping[str, str], console: Console, *, until: float
) -> list[Service]:
    """The services that Airflow depends on. Creates the PostgreSQL cluster if it does not exist.

    Args:
        layout: The sandbox's paths.
        state: The sandbox's state, with settings and ports.
        secrets: Secrets by name, see `layout.load_secrets`.
        console: Shows progress if `initdb` takes long.
        until: Deadline for `initdb`, on the clock of `time.monotonic()`.
    """
    token = secrets[REGISTRY_HOOKS]
    notified = {registries.HOME: registries.Notified(webhook_url(state, REGISTRY_HOOKS), token)}
    found = [
        registries.service(layout, region, state.ports[name], secrets["registry"], notified.get(region))
        for region in registries.REGIONS
        if (name := registries.name_of(region)) in state.settings["services"]
    ]
    port = state.ports[RECEIVER]
    url = f"http://{LOCALHOST}:{port}"
    program = (airflow_parts.python(), "-m", "delivery_chain.sandbox.receiver")
    found.append(
        Service(
            name=RECEIVER,
            argv=(*program, "--port", str(port), "--file", str(layout.deliveries)),
            url=f"{url}/deliveries",
            ready=lambda: services.probe(f"{url}/health"),
            env={"PYTHONPATH": str(airflow_parts.PACKAGE.parent)},
        )
    )
    if state.settings["database"] == "postgresql":
        with Waiting(console, "PostgreSQL's initdb"):
            database.create_cluster(layout, state, secrets["database"], deadline=until)
        found.append(database.service(state))
    return found


def publish_databases(state: State) -> dict[str, str]:
    """Publish the sample databases to the home registry; return the settings that name them.

    Returns no settings if the sandbox uses Trivy's real databases.
    """
    if state.settings["real_vulnerability_database"]:
        return dict.fromkeys(("trivy_db_repository", "trivy_java_db_repository"), "")
    home = known_registries(state)[registries.HOME]
    now = datetime.now(UTC)
    with RegistryClient(home) as client:
        publish_sample_database(client, name=DATABASE_REPOSITORY, tag=DATABASE_TAG, now=now)
        publish_sample_java_database(client, name=JAVA_REPOSITORY, tag=JAVA_TAG, now=now)
    return {
        "trivy_db_repository": f"{home.host}/{DATABASE_REPOSITORY}:{DATABASE_TAG}",
        "trivy_java_db_repository": f"{home.host}/{JAVA_REPOSITORY}:{JAVA_TAG}",
    }
