"""Each kind of target by its name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from delivery_chain.errors import ConfigurationError

if TYPE_CHECKING:
    from delivery_chain.targets.interface import Target

TARGETS = {"webhook": "delivery_chain.targets.webhook:WebhookTarget"}
"""The kind of a trigger to `module:class`."""


def target_class(kind: str) -> type[Target]:
    """The implementation of a kind, loaded now.

    Raises:
        ConfigurationError: No target is of this kind. Not retryable.
    """
    if kind not in TARGETS:
        known = ", ".join(sorted(TARGETS))
        raise ConfigurationError(
            f"target {kind[:100]!r}: expected one of {known}; correct the trigger in the spec"
        )
    module, _, name = TARGETS[kind].partition(":")
    found: type[Target] = getattr(import_module(module), name)
    return found
