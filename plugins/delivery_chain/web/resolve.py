"""Resolves facts that senders omit: the commit of an annotated tag, the digest of an image. First step for webhooks."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from delivery_chain.errors import DeliveryChainError, WebhookRefused
from delivery_chain.hooks.git import GitSourceHook
from delivery_chain.hooks.registry import TEST_TIMEOUT, OciRegistryHook
from delivery_chain.settings import Settings
from delivery_chain.tools.git.refs import tag_objects
from delivery_chain.web.limits import AGAIN_SOON

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from delivery_chain.core.events.notification import Notification
    from delivery_chain.core.events.push import Push
    from delivery_chain.core.spec.model import Source
    from delivery_chain.web.index import Chains

LOOK_SECONDS = 5.0
"""Time limit for git in seconds, since the sender is waiting for a response."""
MOST_ASKED = 100
"""Maximum number of images per notification whose digests are resolved. The sensor finds the rest."""
log = logging.getLogger(__name__)


def resolve(notification: Notification, speaks_for: Sequence[str], chains: Chains) -> list[Push]:
    """Complete the pushes with their commits and digests, if a chain takes them and they can be resolved.

    Args:
        notification: Notification with the pushes.
        speaks_for: Connections whose pushes the sender may report.
        chains: Chains that may take the pushes.

    Raises:
        WebhookRefused: With status 503: a registry can't resolve a tag. Retryable.
    """
    pushes = list(notification.pushes)
    if any(not push.peeled for push in pushes) and (
        sources := chains.at(speaks_for, notification.repositories)
    ):
        pushes = _peel(sources[0].source, pushes)
    without = [at for at, push in enumerate(pushes) if push.is_image and not push.after]
    for at in without[:MOST_ASKED]:
        if registry := chains.registry_of(pushes[at], speaks_for):
            pushes[at] = _asked(registry, pushes[at])
    return pushes


def _peel(source: Source, pushes: Sequence[Push]) -> list[Push]:
    """Replace tag objects, which some senders report, by commits, which the sensor sees.

    A tag stays unresolved if the source does not answer, or if the tag has moved since.
    """
    try:
        repository = GitSourceHook(source.connection, Settings.load().git_transports).source(source.url)
        tags = tag_objects(repository, deadline=time.monotonic() + LOOK_SECONDS)
    except DeliveryChainError as error:
        log.warning("The commits of annotated tags of %s can't be resolved: %s", source.connection, error)
        return list(pushes)
    return [push if push.peeled else _peeled(push, tags) for push in pushes]


def _peeled(push: Push, tags: Mapping[str, tuple[str, str]]) -> Push:
    found, commit = tags.get(push.ref, ("", ""))
    if push.after not in {found, commit}:
        return push
    return push.model_copy(update={"after": commit, "peeled": True})


def _asked(registry: str, image: Push) -> Push:
    """Add the image's digest, which identifies the push; leave the push unchanged if the registry lacks the tag."""
    try:
        with OciRegistryHook(registry).client(timeout=TEST_TIMEOUT) as client:
            manifest = client.head_manifest(image.name, image.tag)
    except DeliveryChainError as error:
        why = f"the digest of {image.ref} can't be resolved: {error}"
        if error.retryable:
            raise WebhookRefused(503, why, retry_after=AGAIN_SOON) from error
        # Accept the notification: a redelivery would fail, too, and some registries redeliver forever.
        log.warning("%s", why)
        return image
    return image.model_copy(update={"after": manifest.digest}) if manifest else image
