"""Contexts and Dockerfiles that a checkout may contain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.builders.context import resolve_context
from delivery_chain.errors import BuildFailed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with good and hostile entries."""
    root = tmp_path / "checkout"
    for folder in ("app/docker", ".git", "empty"):
        (root / folder).mkdir(parents=True)
    for file in ("Dockerfile", "app/Dockerfile", "app/docker/Other", ".git/config"):
        (root / file).touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "Dockerfile").touch()
    (tmp_path / "checkout-twin").mkdir()
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "twin").symlink_to(tmp_path / "checkout-twin")
    (root / "absolute").symlink_to("/etc")
    (root / "inner").symlink_to("app")
    (root / "app" / "leak").symlink_to("../../outside/Dockerfile")
    (root / "loop").symlink_to("loop")
    return root


@pytest.mark.parametrize(
    ("context", "dockerfile", "expected"),
    [
        pytest.param(".", "Dockerfile", (".", "Dockerfile"), id="root"),
        pytest.param("app", "Dockerfile", ("app", "app/Dockerfile"), id="folder"),
        pytest.param("app/", "docker/Other", ("app", "app/docker/Other"), id="relative to the context"),
        pytest.param("app", "app/docker/Other", ("app", "app/docker/Other"), id="relative to the checkout"),
        pytest.param("empty", "Dockerfile", ("empty", "Dockerfile"), id="outside the context"),
        pytest.param("inner", "Dockerfile", ("app", "app/Dockerfile"), id="link inside"),
    ],
)
def test_contexts_inside(checkout: Path, context: str, dockerfile: str, expected: tuple[str, str]) -> None:
    """Relative paths that stay inside are found, links resolved."""
    root = checkout.resolve()
    assert resolve_context(checkout, context, dockerfile) == (
        (root / expected[0]).resolve(),
        root / expected[1],
    )


@pytest.mark.parametrize(
    ("context", "dockerfile", "message"),
    [
        pytest.param("/etc", "Dockerfile", "build.context '/etc'.*leaves it", id="absolute"),
        pytest.param("..", "Dockerfile", "leaves it", id="parent"),
        pytest.param("app/../..", "Dockerfile", "leaves it", id="parent inside"),
        pytest.param("", "Dockerfile", "leaves it", id="empty"),
        pytest.param("a\0b", "Dockerfile", "leaves it", id="null"),
        pytest.param("out", "Dockerfile", "a link that leads out", id="link out"),
        pytest.param("twin", "Dockerfile", "a link that leads out", id="link to a folder named alike"),
        pytest.param("absolute", "passwd", "a link that leads out", id="absolute link"),
        pytest.param("loop", "Dockerfile", "loop|nothing there", id="loop"),
        pytest.param("x" * 5000, "Dockerfile", "too long|nothing there", id="name too long"),
        pytest.param("missing", "Dockerfile", "found nothing there", id="missing"),
        pytest.param("Dockerfile", "Dockerfile", "expected a folder, found something else", id="file"),
        pytest.param(".git", "config", "git's own files", id="git folder"),
        pytest.param(
            ".", "/etc/passwd", "build.dockerfile '/etc/passwd'.*leaves it", id="absolute Dockerfile"
        ),
        pytest.param(".", "../outside/Dockerfile", "leaves it", id="Dockerfile above"),
        pytest.param("app", "leak", "a link that leads out", id="Dockerfile link out"),
        pytest.param(".", "missing", "found nothing there", id="Dockerfile missing"),
        pytest.param(".", "app", "expected a file, found something else", id="Dockerfile is a folder"),
    ],
)
def test_contexts_outside(checkout: Path, context: str, dockerfile: str, message: str) -> None:
    """What leaves the checkout, by name or by link, or is not there, is refused with the rule's key."""
    with pytest.raises(BuildFailed, match=message):
        resolve_context(checkout, context, dockerfile)
