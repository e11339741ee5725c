"""GitHub's container registry: GitHub's events `registry_package` and `package`, for the GitHub sender to call.

GitHub sends one event per manifest, so also for each platform of an index, these with an empty tag; and both events
for one push to a webhook that has both. It names one tag of a version, even if the push moved several.

Source: octokit/webhooks payload-examples; github/docs issue 22091 (an event per manifest).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import fields, text
from delivery_chain.senders.images import image, sift, wanted

if TYPE_CHECKING:
    from delivery_chain.core.events.push import Push

ACTIONS = frozenset({"published", "updated"})


def pushed_images(payload: dict[str, Any]) -> tuple[tuple[Push, ...], str]:
    """What a `registry_package` or `package` event says was pushed.

    Args:
        payload: The body of an authentic event.

    Returns:
        The images, by `owner/package` in lower case as ghcr.io names them; and if there are none, why.

    Raises:
        WebhookRefused: 400: it is no such event.
    """
    package = payload.get("registry_package", payload.get("package"))
    if not isinstance(package, dict):
        raise WebhookRefused(400, "expected an object at registry_package or package")
    action = wanted(payload, "action")
    if action not in ACTIONS:
        return (), f"a package was {action[:40]}: no push"
    kinds = {text(package, "package_type").lower(), text(package, "registry.type").lower()}
    if "container" not in kinds:
        return (), f"a package of the kind {text(package, 'package_type', longest=40)!r}: no container image"
    name = f"{wanted(package, 'owner.login')}/{wanted(package, 'name')}".lower()
    tag = fields(package, "package_version.container_metadata.tag.name")
    return sift([image(name, "" if tag is None else tag, _digest(package))])


def _digest(package: dict[str, Any]) -> str:
    """The manifest's digest: a container version is named by it."""
    version = text(package, "package_version.version")
    return version if version.startswith("sha256:") else ""
