"""GitHub's container registry: parses the events `registry_package` and `package` for the GitHub sender.

GitHub sends one event per manifest, so also one, with an empty tag, per platform of an index; a webhook that is
subscribed to both events gets both for one push. It names only one tag of a version, even if the push moved several.

Source: octokit/webhooks payload-examples; github/docs issue 22091 (an event per manifest).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import fields, text
from delivery_chain.senders.images import image, sift, wanted

if TYPE_CHECKING:
    from delivery_chain.core.events.push import Push

ACTIONS = frozenset({"published", "updated"})


def pushed_images(payload: dict[str, object]) -> tuple[tuple[Push, ...], str]:
    """Read the pushed images from a `registry_package` or `package` event.

    Args:
        payload: The body of an authentic event.

    Returns:
        The images, named `owner/package` in lower case as on ghcr.io; and the reason if there are none.

    Raises:
        WebhookRefused: 400: it is not such an event.
    """
    package = payload.get("registry_package", payload.get("package"))
    if not isinstance(package, dict):
        raise WebhookRefused(400, "expected an object at registry_package or package")
    action = wanted(payload, "action")
    if action not in ACTIONS:
        return (), f"a package was {action[:40]}: not a push"
    kinds = {text(package, "package_type").lower(), text(package, "registry.type").lower()}
    if "container" not in kinds:
        return (
            (),
            f"a package of the kind {text(package, 'package_type', longest=40)!r}: not a container image",
        )
    name = f"{wanted(package, 'owner.login')}/{wanted(package, 'name')}".lower()
    tag = fields(package, "package_version.container_metadata.tag.name")
    return sift([image(name, "" if tag is None else tag, _digest(package))])


def _digest(package: dict[str, object]) -> str:
    """The manifest's digest, which is the name of a container version."""
    version = text(package, "package_version.version")
    return version if version.startswith("sha256:") else ""
