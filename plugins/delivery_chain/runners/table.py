"""Each runner by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.tools.lazy_table import load

if TYPE_CHECKING:
    from delivery_chain.runners.interface import Runner

RUNNERS = {"local": "delivery_chain.runners.local:LocalRunner"}
"""Name to `module:class`."""


def load_runner(name: str) -> Runner:
    """Return the runner of that name.

    Raises:
        ConfigurationError: No runner has the name. Not retryable.
    """
    runner: Runner = load(RUNNERS, name, "runner")()
    return runner
