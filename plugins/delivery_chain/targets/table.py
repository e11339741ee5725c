"""Load targets by their kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.tools.lazy_table import load

if TYPE_CHECKING:
    from delivery_chain.targets.interface import Target

TARGETS = {"webhook": "delivery_chain.targets.webhook:WebhookTarget"}
"""Maps the kind of a trigger to `module:class`."""


def target_class(kind: str) -> type[Target]:
    """Load and return the implementation of a kind.

    Raises:
        ConfigurationError: No target is of this kind. Not retryable.
    """
    found: type[Target] = load(TARGETS, kind, "target", "correct the trigger in the spec")
    return found
