"""What jobs need when they run outside a task: a registry with a login, and a source to build."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.builds import locked_registry
from support.jobs import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.core.names.registry import Registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that requires a login."""
    with locked_registry(tmp_path_factory.mktemp("locked")) as registry:
        yield registry


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """The source of the build."""
    return Source.make(tmp_path_factory.mktemp("git") / "shop")
