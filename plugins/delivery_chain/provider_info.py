"""What Airflow reads about this package before it imports any of it: connection types, links and options."""

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
"""The names of `delivery_chain.senders.table.SENDERS`, repeated: nothing is imported here. A test compares them."""


def get_provider_info() -> dict[str, Any]:
    """The package in Airflow's provider-info form.

    Returns:
        A dict as `airflow/provider_info.schema.json` and `provider.yaml.schema.json` describe it.
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
    # The port is a field of its own, and not hidden: Airflow 3.3's Test button refuses with "Bad Request" every
    # connection that has none (its page sends 0, its server compares that with nothing).
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
            "region": _text("Region", "For people and for the record, such as ap-southeast-1."),
            "ui_url": _text(
                "Web page of an image",
                "Template, such as https://harbor.example.com/{namespace}/{repository}/{digest}; "
                "knows {host}, {namespace}, {repository}, {tag} and {digest}.",
            ),
            "plain_http": {
                "label": "Plain HTTP",
                "schema": {"type": ["boolean", "null"], "default": False},
                "description": "Speak http, not https. For registries on a trusted network only.",
            },
            "ca_certificate": _lines("CA certificate", "PEM text; empty for the CAs that the system trusts."),
            "private_hosts": _text(
                "Private hosts",
                "Hosts in private networks that a registry on the internet may send us to, for logins and blobs: "
                "names or addresses, parted by blanks; * for any.",
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
                "description": "How long the target may take to answer.",
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
                "description": "Who sends. `standard` is signed JSON of git hooks, scripts and CI jobs.",
            },
            "speaks_for": _text(
                "Speaks for",
                "The connections, of type git or oci_registry, whose pushes it tells: ids, parted by blanks.",
            ),
            "second_secret": {
                "label": "Second secret",
                "schema": {"type": ["string", "null"], "format": "password"},
                "description": "Still taken while the sender is given the new one. Empty afterwards.",
            },
            "per_minute": {
                "label": "Deliveries a minute",
                "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 1_000_000, "default": 600},
                "description": "More are asked to come later.",
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
            "What a killed task left there is removed before the worker's next one starts.\n"
            "Empty: ``delivery-chain-<user id>`` in the system's temporary folder.",
            example="/var/tmp/delivery-chain",  # noqa: S108 - an example in a text
        ),
        "git_transports": _option(
            "How git sources may be reached: a comma-separated list of https, ssh, file and http.",
            "https,ssh",
        ),
        "git_poll_seconds": _option(
            "Seconds between two looks at a git source, 1 to 3600.", "30", kind="float"
        ),
        "image_poll_seconds": _option(
            "Seconds between two looks at the image tags of a registry, 5 to 3600.", "60", kind="float"
        ),
        "trivy_db_repository": _option(
            "Where to take Trivy's vulnerability database from. Empty: Trivy's own default.",
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
            "Where to take the database from that names Java archives; fetched only when an image holds some.\n"
            "Empty: Trivy's own default.",
            example="registry.example.com/mirror/trivy-java-db:1",
        ),
        "trivy_java_db_max_age_hours": _option(
            "A Java database older than this is stale, and the gate does not pass with it. It is built every week.",
            "336",
            kind="integer",
        ),
        "trivy_wheel": _option(
            "Whether scans may use a Trivy that came with a PyPI wheel, which its makers did not make: refuse or "
            "allow. For sandboxes.",
            "refuse",
        ),
        "build_isolation": _option(
            "What stands between RUN steps and the worker: auto, container, namespaces or chroot.", "auto"
        ),
        "build_network": _option("Where RUN steps may connect to: auto, private, host or none.", "auto"),
        "staging_keep_hours": _option(
            "Staging tags older than this may be removed by the maintenance Dag.", "24", kind="integer"
        ),
        "registry_requests": _option(
            "Requests that one worker has under way at one registry at most, all its replications together.",
            "8",
            kind="integer",
        ),
        "registry_megabytes_per_second": _option(
            "Megabytes a second that one worker sends to or takes from one registry at most; 0 for no limit.",
            "0",
            kind="float",
        ),
        "replicate_pool": _option(
            "Airflow pool that replications take a slot of; bounds them over all workers.", "default_pool"
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
