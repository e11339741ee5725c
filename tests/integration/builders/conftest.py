"""Registries that builds push to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.names.registry import Registry
from support import builds
from support.builds import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as host:
        yield Registry(host, plain_http=True)


@pytest.fixture(scope="module")
def locked_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with builds.locked_registry(tmp_path_factory.mktemp("locked")) as registry:
        yield registry
