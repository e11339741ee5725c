"""Makes the shared helpers of `tests/support` importable."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

TESTS = str(Path(__file__).parents[2])
if TESTS not in sys.path:
    sys.path.insert(0, TESTS)

import pytest  # noqa: E402  # after the path is set, like the helpers below

from delivery_chain.oci.client import RegistryClient  # noqa: E402
from support.oci_memory import MemoryRegistry, memory_registry  # noqa: E402
from support.oci_registry import docker_registry  # noqa: E402
from support.oci_scripted import Script, scripted_registry  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def oci_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryClient]:
    """A client of a real registry shared by the tests of this folder, each of which uses repositories of its own."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as registry, RegistryClient(registry) as client:
        yield client


@pytest.fixture(scope="session")
def oci_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryClient]:
    """A client of another real registry, as a target of copies."""
    with docker_registry(tmp_path_factory.mktemp("target")) as registry, RegistryClient(registry) as client:
        yield client


@pytest.fixture
def oci_script() -> Iterator[Script]:
    """A registry that responds as the test scripts it."""
    with scripted_registry() as script:
        yield script


@pytest.fixture
def oci_repository(request: pytest.FixtureRequest) -> str:
    """A repository name that no other test uses."""
    return f"test/{re.sub('[^a-z0-9]+', '-', request.node.name.lower()).strip('-')[:100]}"


@pytest.fixture
def source() -> Iterator[MemoryRegistry]:
    """A registry in this process, as the source of copies."""
    with memory_registry(resumes=True) as held:
        yield held


@pytest.fixture
def target() -> Iterator[MemoryRegistry]:
    """A registry in this process, as the target of copies."""
    with memory_registry(resumes=True) as held:
        yield held
