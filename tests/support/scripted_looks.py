"""Sensors and triggers whose polls a test scripts: no source, no registry, no waiting."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from delivery_chain.errors import DeliveryChainError
from delivery_chain.triggers import base as triggers

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from airflow.triggers.base import BaseTrigger

Scripted = dict[str, str] | DeliveryChainError
"""Result of a poll, or the error that it raises."""


class Store(dict[str, Any]):
    """A task's state, with the parts that sensors use."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


def script(
    patch: pytest.MonkeyPatch, base: ModuleType, polled: ModuleType, *looks: Scripted
) -> list[Scripted]:
    """Script the polls of a module to return these results in order; they begin at T1, T2, …

    Args:
        patch: Undoes the change.
        base: Module with the clock: that of the sensors, or of the triggers.
        polled: Module with `look`.
        looks: Results of the polls.

    Returns:
        The results that have not been used yet.
    """
    left, ticks = list(looks), count(1)

    def look(*_: Any, **__: Any) -> dict[str, str]:
        found = left.pop(0)
        if isinstance(found, DeliveryChainError):
            raise found
        return found

    patch.setattr(base, "_now", lambda: f"T{next(ticks)}")
    patch.setattr(polled, "look", look)
    return left


def fired(
    monkeypatch: pytest.MonkeyPatch, polled: ModuleType, trigger: BaseTrigger, *looks: Scripted
) -> tuple[Any, list[float]]:
    """Run a trigger over scripted polls, and check that it uses all; return its one event and the pauses in between."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def events() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    with monkeypatch.context() as patch:
        left = script(patch, triggers, polled, *looks)
        patch.setattr(triggers.asyncio, "sleep", sleep)
        found = asyncio.run(events())
    assert (len(found), left) == (1, [])
    return found[0], pauses


def deferred(call: Callable[..., Any], *arguments: Any) -> TaskDeferred:
    """Return how a call defers its task."""
    with pytest.raises(TaskDeferred) as caught:
        call(*arguments)
    return caught.value
