"""The first step for webhooks: what a sender leaves out is asked for, the commit of a tag or the digest of an image."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from delivery_chain.errors import DeliveryChainError, WebhookRefused
from delivery_chain.hooks.git import GitSourceHook
from delivery_chain.hooks.registry import TEST_TIMEOUT, OciRegistryHook
from delivery_chain.settings import Settings
from delivery_chain.tools.git.client import tag_objects
from delivery_chain.web.limits import AGAIN_SOON

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from delivery_chain.core.events.notification import Notification
    from delivery_chain.core.events.push import Push
    from delivery_chain.core.spec.model import Source
    from delivery_chain.web.index import Chains

LOOK_SECONDS = 5.0
"""How long git may take: the sender waits for its answer."""
MOST_ASKED = 100
"""Images of one notification whose digests are asked for. The sensor finds the rest."""
log = logging.getLogger(__name__)


def resolve(notification: Notification, speaks_for: Sequence[str], chains: Chains) -> list[Push]:
    """The pushes with their commits and digests, where a chain takes them and somebody says.

    Args:
        notification: With the pushes.
        speaks_for: Connections that its sender speaks for.
        chains: Those that may take them.

    Raises:
        WebhookRefused: 503: a registry does not say what a tag points at. Retryable.
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
    """The pushes by their commits; a tag stays as it is where the source does not say, or has it elsewhere by now.

    The sensor sees commits, some senders name tag objects.
    """
    try:
        repository = GitSourceHook(source.connection, Settings.load().git_transports).source(source.url)
        tags = tag_objects(repository, deadline=time.monotonic() + LOOK_SECONDS)
    except DeliveryChainError as error:
        log.warning("Tags of %s can't be asked for their commits: %s", source.connection, error)
        return list(pushes)
    return [push if push.peeled else _peeled(push, tags) for push in pushes]


def _peeled(push: Push, tags: Mapping[str, tuple[str, str]]) -> Push:
    found, commit = tags.get(push.ref, ("", ""))
    if push.after not in {found, commit}:
        return push
    return push.model_copy(update={"after": commit, "peeled": True})


def _asked(registry: str, image: Push) -> Push:
    """The image by its digest, without which nobody knows which push it is; as it is where the registry has none."""
    try:
        with OciRegistryHook(registry).client(timeout=TEST_TIMEOUT) as client:
            manifest = client.head_manifest(image.name, image.tag)
    except DeliveryChainError as error:
        why = f"what {image.ref} points at can't be asked: {error}"
        if error.retryable:
            raise WebhookRefused(503, why, retry_after=AGAIN_SOON) from error
        # The same again would get the same answer; a registry would send it for ever.
        log.warning("%s", why)
        return image
    return image.model_copy(update={"after": manifest.digest}) if manifest else image
