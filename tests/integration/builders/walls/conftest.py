"""A registry with a login, and builds that search for that login."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.attacks import LOOK, Attack
from support.builds import Builder, copy_shell, listening_api, locked_registry, own_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from delivery_chain.core.names.registry import Registry


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The registry's folder."""
    return tmp_path_factory.mktemp("locked")


@pytest.fixture(scope="session")
def registry(data: Path) -> Iterator[Registry]:
    with locked_registry(data) as registry:
        yield registry


@pytest.fixture(scope="session")
def port() -> Iterator[int]:
    with listening_api() as port:
        yield port


@pytest.fixture(scope="session")
def base(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base image with a shell, which needs the login."""
    build = Builder(tmp_path_factory.mktemp("base"))
    copy_shell(build.context)
    build(registry, (build.context / "Dockerfile").read_text(), name="shop/base", tag="1")
    return f"{registry.host}/shop/base:1"


@pytest.fixture
def attack(
    registry: Registry, base: str, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Attack:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW-secret")
    monkeypatch.setenv("https_proxy", "http://user:pr0xy@proxy.invalid:3128")
    script = LOOK.replace("@PORT@", str(port)).replace("@ADDRESS@", own_address())
    return Attack(registry, tmp_path, base, script)
