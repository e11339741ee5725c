"""Targets by the kind of their triggers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.tools.lazy_table import LazyTable

if TYPE_CHECKING:
    from delivery_chain.targets.interface import Target

TARGETS: LazyTable[type[Target]] = LazyTable(
    "target",
    {"webhook": "delivery_chain.targets.webhook:WebhookTarget"},
    advice="correct the trigger in the spec",
)
