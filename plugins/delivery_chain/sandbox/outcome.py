"""Reads the outcome of a push back from the registries and the webhook receiver."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from delivery_chain.errors import NotFound
from delivery_chain.oci.client import RegistryClient

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from delivery_chain.core.names.registry import Registry


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook received."""

    received: str
    """Time of arrival, UTC, ISO 8601."""
    stage: str
    """`prod` or `staging`, from the path of the request."""
    image: str
    """Image such as `shop/api:v1.0.0`, from the body; empty if the body has another form."""
    signed: bool
    """Whether its signature is valid."""


def digests(registries: Mapping[str, Registry], name: str, tag: str) -> dict[str, str]:
    """Fetch the manifest of a tag from each region.

    Returns:
        The manifest's digest by region, computed from the bytes received; empty in a region without the tag.
    """
    found = {}
    for region, registry in registries.items():
        with RegistryClient(registry) as client:
            try:
                found[region] = client.get_manifest(name, tag).digest
            except NotFound:
                found[region] = ""
    return found


def tags(registry: Registry, name: str) -> tuple[str, ...]:
    """The tags of a repository; empty if the repository does not exist."""
    with RegistryClient(registry) as client:
        try:
            return client.list_tags(name)
        except NotFound:
            return ()


def deliveries(kept: Iterable[Mapping[str, Any]], secrets: Mapping[str, str]) -> list[Delivery]:
    """Parse the stored deliveries, checking each signature with its stage's secret."""
    found = []
    for one in kept:
        stage = str(one["path"]).partition("?")[0].rpartition("/")[2]
        signed = stage in secrets and _is_signed(one, secrets[stage])
        found.append(Delivery(one["received"], stage, _image(one["body"]), signed))
    return found


def _is_signed(delivery: Mapping[str, Any], secret: str) -> bool:
    try:
        Webhook(secret).verify(delivery["body"], dict(delivery["headers"]))
    except WebhookVerificationError:
        return False
    return True


def _image(body: str) -> str:
    try:
        value = json.loads(body)
        return f"{value['repository']['repo_full_name']}:{value['push_data']['tag']}"
    except (ValueError, KeyError, TypeError):
        return ""
