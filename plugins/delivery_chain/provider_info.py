"""Provider info that Airflow reads before it imports the package: connection types, links and options."""

from __future__ import annotations

from typing import Any

SENDERS = (
    "acr",
    "azure",
    "bitbucket",
    "bitbucket-dc",
    "distribution",
    "dockerhub",
    "forgejo",
    "gitea",
    "github",
    "gitlab",
    "gogs",
    "harbor",
    "pagure",
    "quay",
    "standard",
)
"""Names of `delivery_chain.senders.table.SENDERS`, repeated since nothing is imported here. A test compares them."""


def get_provider_info() -> dict[str, Any]:
    """Describe the package in Airflow's provider-info format.

    Returns:
        A dict that follows `airflow/provider_info.schema.json` and `provider.yaml.schema.json`.
    """
    return {
        "package-name": "airflow-delivery-chain",
        "name": "Delivery chain",
        "description": "Builds, scans, gates, publishes, replicates and announces container images.",
        "connection-types": [_oci_registry(), _delivery_webhook(), _webhook_sender()],
        "extra-links": [
            "delivery_chain.operators.links.RegistryLink",
            "delivery_chain.operators.links.ScanReportLink",
        ],
        "config": {
            "delivery_chain": {"description": "Delivery chains for container images.", "options": _options()}
        },
    }


def _oci_registry() -> dict[str, Any]:
    # The port is a separate, visible field: Airflow 3.3's Test button rejects connections without one with "Bad
    # Request" (its page sends 0, its server compares that with nothing).
    return {
        "connection-type": "oci_registry",
        "hook-class-name": "delivery_chain.hooks.registry.OciRegistryHook",
        "hook-name": "OCI registry",
        "ui-field-behaviour": {
            "hidden-fields": ["schema", "extra"],
            "relabeling": {"host": "Registry host", "login": "Username", "password": "Password or token"},
            "placeholders": {
                "host": "registry.example.com, without https://",
                "port": "443",
                "login": "empty for anonymous access",
            },
        },
        "conn-fields": {
            "region": _text("Region", "For display and records, such as ap-southeast-1."),
            "ui_url": _text(
                "Web page of an image",
                "Template, such as https://harbor.example.com/{namespace}/{repository}/{digest}; "
                "knows {host}, {namespace}, {repository}, {tag} and {digest}.",
            ),
            "plain_http": {
                "label": "Plain HTTP",
                "schema": {"type": ["boolean", "null"], "default": False},
                "description": "Use http instead of https. For registries on a trusted network only.",
            },
            "ca_certificate": _lines("CA certificate", "PEM text; empty for the CAs that the system trusts."),
            "private_hosts": _text(
                "Private hosts",
                "Hosts in private networks that a registry on the internet may redirect to, for logins and blobs: "
                "names or addresses, separated by spaces; * for any.",
            ),
        },
    }


def _delivery_webhook() -> dict[str, Any]:
    return {
        "connection-type": "delivery_webhook",
        "hook-class-name": "delivery_chain.hooks.webhook.WebhookHook",
        "hook-name": "Delivery webhook",
        "ui-field-behaviour": {
            "hidden-fields": ["schema", "login", "extra"],
            "relabeling": {"host": "URL", "password": "Signing secret"},
            "placeholders": {
                "host": "https://deploy.example.com/hooks/shop",
                "port": "443",
                "password": "whsec_…",
            },
        },
        "conn-fields": {
            "secret_query": {
                "label": "Secret part of the query",
                "schema": {"type": ["string", "null"], "format": "password"},
                "description": "Appended to the URL's query when it is called, such as token=…; never shown.",
            },
            "timeout_seconds": {
                "label": "Timeout in seconds",
                "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 300, "default": 10},
                "description": "Time limit for the target to respond.",
            },
            "ca_certificate": _lines("CA certificate", "PEM text; empty for the CAs that the system trusts."),
        },
    }


def _webhook_sender() -> dict[str, Any]:
    return {
        "connection-type": "webhook_sender",
        "hook-class-name": "delivery_chain.hooks.webhook_sender.WebhookSenderHook",
        "hook-name": "Webhook sender",
        "ui-field-behaviour": {
            "hidden-fields": ["host", "schema", "port", "login", "extra"],
            "relabeling": {"password": "Secret"},
            "placeholders": {"password": "openssl rand -hex 32"},
        },
        "conn-fields": {
            "sender": {
                "label": "Sender",
                "schema": {"type": ["string", "null"], "enum": [None, *SENDERS]},
                "description": "Kind of sender. `standard` is signed JSON from git hooks, scripts and CI jobs.",
            },
            "speaks_for": _text(
                "Speaks for",
                "Connections, of type git or oci_registry, whose pushes it reports: ids, separated by spaces.",
            ),
            "second_secret": {
                "label": "Second secret",
                "schema": {"type": ["string", "null"], "format": "password"},
                "description": "Still accepted while the sender switches to the new one. Empty afterwards.",
            },
            "per_minute": {
                "label": "Deliveries a minute",
                "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 1_000_000, "default": 600},
                "description": "Further ones are asked to come back later.",
            },
        },
    }


def _text(label: str, description: str) -> dict[str, Any]:
    return {"label": label, "schema": {"type": ["string", "null"]}, "description": description}


def _lines(label: str, description: str) -> dict[str, Any]:
    return {
        "label": label,
        "schema": {"type": ["string", "null"], "format": "multiline"},
        "description": description,
    }


def _options() -> dict[str, Any]:
    return {
        "specs_folder": _option(
            "Folder of the chain specs. Empty: ``chain_specs`` beside the Dags folder.",
            example="/opt/airflow/chain_specs",
        ),
        "work_folder": _option(
            "Folder for checkouts, builds and scans while a task runs, on the worker's own disk.\n"
            "Leftovers of a killed task are removed before the worker's next one starts.\n"
            "Empty: ``delivery-chain-<user id>`` in the system's temporary folder.",
            example="/var/tmp/delivery-chain",  # noqa: S108 - an example in a text
        ),
        "git_transports": _option(
            "Transports for git sources: a comma-separated list of https, ssh, file and http.",
            "https,ssh",
        ),
        "git_poll_seconds": _option(
            "Seconds between two polls of a git source, 1 to 3600.", "30", kind="float"
        ),
        "image_poll_seconds": _option(
            "Seconds between two polls of the image tags of a registry, 5 to 3600.", "60", kind="float"
        ),
        "trivy_db_repository": _option(
            "Image of Trivy's vulnerability database. Empty: Trivy's own default.",
            example="registry.example.com/mirror/trivy-db:2",
        ),
        "trivy_cache_dir": _option(
            "Folder for vulnerability databases on the worker. Empty: ``~/.cache/delivery-chain/trivy``.",
            example="/var/cache/delivery-chain/trivy",
        ),
        "trivy_db_max_age_hours": _option(
            "A vulnerability database older than this is stale, and the gate does not pass with it.",
            "72",
            kind="integer",
        ),
        "trivy_java_db_repository": _option(
            "Image of the database that identifies Java archives; fetched only if an image has some.\n"
            "Empty: Trivy's own default.",
            example="registry.example.com/mirror/trivy-java-db:1",
        ),
        "trivy_java_db_max_age_hours": _option(
            "A Java database older than this is stale, and the gate does not pass with it. It is built every week.",
            "336",
            kind="integer",
        ),
        "trivy_wheel": _option(
            "Whether scans may use a Trivy from a PyPI wheel, which is not built by Trivy's maintainers: refuse or "
            "allow. For sandboxes.",
            "refuse",
        ),
        "build_isolation": _option(
            "Isolation of RUN steps from the worker: auto, container, namespaces or chroot.", "auto"
        ),
        "build_network": _option(
            "Network that RUN steps may connect to: auto, private, host or none.", "auto"
        ),
        "staging_keep_hours": _option(
            "Minimum age of staging tags that the maintenance Dag may remove, in hours.", "24", kind="integer"
        ),
        "registry_requests": _option(
            "Maximum number of concurrent requests of one worker to one registry, across all its replications.",
            "8",
            kind="integer",
        ),
        "registry_megabytes_per_second": _option(
            "Maximum megabytes per second that one worker sends to or receives from one registry; 0 for no limit.",
            "0",
            kind="float",
        ),
        "replicate_pool": _option(
            "Airflow pool in which replications take a slot; limits them across all workers.", "default_pool"
        ),
    }


def _option(
    description: str, default: str = "", *, kind: str = "string", example: str | None = None
) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": None,
        "type": kind,
        "example": example,
        "default": default,
    }
