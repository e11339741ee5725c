"""Defines the Airflow connections of a sandbox: those that the example chains use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from delivery_chain.sandbox.registries import HOME

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from delivery_chain.core.names.registry import Registry

STAGES = ("prod", "staging")
GIT_SOURCE = "git_shop"
GIT_HOOKS = "git_hooks"
REGISTRY_HOOKS = "registry_hooks"


def connections(
    registries: Mapping[str, Registry], git: Path, receiver: str, secrets: Mapping[str, str]
) -> list[dict[str, Any]]:
    """All connections, as arguments of Airflow's Connection; `extra` is a dict.

    Args:
        registries: Registries by region.
        git: The folder of the bare repositories.
        receiver: Base URL of the webhook receiver.
        secrets: Signing secrets of each stage and of each webhook sender, by name.
    """
    return [
        *(_registry(region, registry) for region, registry in registries.items()),
        {
            "conn_id": GIT_SOURCE,
            "conn_type": "git",
            "description": "Sandbox git source: bare repositories in a folder",
            "host": git.as_uri(),
        },
        *(_webhook(stage, receiver, secrets[stage]) for stage in STAGES),
        _sender(GIT_HOOKS, "standard", GIT_SOURCE, secrets, "post-receive hooks of the git source"),
        _sender(REGISTRY_HOOKS, "distribution", HOME, secrets, f"notifications of the registry in {HOME}"),
    ]


def _registry(region: str, registry: Registry) -> dict[str, Any]:
    parts = urlsplit(registry.base_url)
    return {
        "conn_id": region,
        "conn_type": "oci_registry",
        "description": f"Sandbox registry in {region}",
        "host": registry.host.removesuffix(f":{parts.port}"),
        "port": parts.port or (80 if registry.plain_http else 443),
        "login": registry.username or None,
        "password": registry.password or None,
        "extra": {"plain_http": registry.plain_http, "region": region},
    }


def _sender(name: str, kind: str, speaks_for: str, secrets: Mapping[str, str], about: str) -> dict[str, Any]:
    return {
        "conn_id": name,
        "conn_type": "webhook_sender",
        "description": f"Sandbox {about}",
        "password": secrets[name],
        "extra": {"sender": kind, "speaks_for": speaks_for},
    }


def _webhook(stage: str, receiver: str, secret: str) -> dict[str, Any]:
    return {
        "conn_id": f"{stage}_redeploy",
        "conn_type": "delivery_webhook",
        "description": f"Sandbox webhook receiver, {stage}",
        "host": f"{receiver}/hooks/{stage}",
        "port": urlsplit(receiver).port,
        "password": secret,
    }
