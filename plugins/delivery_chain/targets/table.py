"""Each kind of target by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.tools.lazy_table import load

if TYPE_CHECKING:
    from delivery_chain.targets.interface import Target

TARGETS = {"webhook": "delivery_chain.targets.webhook:WebhookTarget"}
"""The kind of a trigger to `module:class`."""


def target_class(kind: str) -> type[Target]:
    """The implementation of a kind, loaded now.

    Raises:
        ConfigurationError: No target is of this kind. Not retryable.
    """
    found: type[Target] = load(TARGETS, kind, "target", "correct the trigger in the spec")
    return found
