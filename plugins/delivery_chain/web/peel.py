"""From a tag object to its commit, for senders that name only the former: the sensor sees the latter."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from delivery_chain.errors import DeliveryChainError
from delivery_chain.hooks.git import GitSourceHook
from delivery_chain.settings import Settings
from delivery_chain.tools.git import commit_of_tag

if TYPE_CHECKING:
    from delivery_chain.core.delivery import RefPush
    from delivery_chain.core.spec import Source

LOOK_SECONDS = 5.0
"""How long git may take: the sender waits for its answer."""
log = logging.getLogger(__name__)


def peel(source: Source, push: RefPush) -> RefPush:
    """The push by its commit; as it is where the source does not say so, or has the tag elsewhere by now."""
    try:
        repository = GitSourceHook(source.connection, Settings.load().git_transports).source(source.url)
        deadline = time.monotonic() + LOOK_SECONDS
        found = commit_of_tag(repository, push.ref, push.after, deadline=deadline)
    except DeliveryChainError as error:
        log.warning("%s: its commit can't be asked: %s", push.ref, error)
        return push
    return push.model_copy(update={"after": found, "peeled": True}) if found else push
