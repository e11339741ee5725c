"""From a tag object to its commit, for senders that name only the former: the sensor sees the latter."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from delivery_chain.errors import DeliveryChainError
from delivery_chain.hooks.git import GitSourceHook
from delivery_chain.settings import Settings
from delivery_chain.tools.git.client import tag_objects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from delivery_chain.core.events.notification import Push
    from delivery_chain.core.spec.model import Source

LOOK_SECONDS = 5.0
"""How long git may take: the sender waits for its answer."""
log = logging.getLogger(__name__)


def peel(source: Source, pushes: tuple[Push, ...]) -> tuple[Push, ...]:
    """The pushes by their commits; a tag stays as it is where the source does not say, or has it elsewhere by now."""
    try:
        repository = GitSourceHook(source.connection, Settings.load().git_transports).source(source.url)
        tags = tag_objects(repository, deadline=time.monotonic() + LOOK_SECONDS)
    except DeliveryChainError as error:
        log.warning("Tags of %s can't be asked for their commits: %s", source.connection, error)
        return pushes
    return tuple(push if push.peeled else _peeled(push, tags) for push in pushes)


def _peeled(push: Push, tags: Mapping[str, tuple[str, str]]) -> Push:
    found, commit = tags.get(push.ref, ("", ""))
    if push.after not in {found, commit}:
        return push
    return push.model_copy(update={"after": commit, "peeled": True})
