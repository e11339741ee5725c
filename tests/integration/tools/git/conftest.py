"""Repositories and servers for the tests of git."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.git_http import GitServer, serving
from support.git_repositories import Repository, make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path / "shop" / "api")


@pytest.fixture
def git_server(tmp_path: Path) -> Iterator[GitServer]:
    with serving(GitServer(tmp_path)) as server:
        yield server
