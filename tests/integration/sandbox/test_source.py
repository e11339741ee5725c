"""Pushes of the sample applications, with real git."""

from __future__ import annotations

import runpy
import subprocess
from typing import TYPE_CHECKING

import pytest

from delivery_chain.errors import ToolTimeout, UsageError
from delivery_chain.sandbox import source
from delivery_chain.sandbox.layout import Layout, load_secrets, write_private
from delivery_chain.tools.git.hook_file import git_hook

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path)
    source.create_repositories(found, "http://127.0.0.1:9/delivery-chain/webhooks/git_hooks")
    return found


def git(layout: Layout, *arguments: str) -> str:
    folder = source.bare(layout, "web")
    return subprocess.run(
        ["git", "-C", folder, *arguments], check=True, capture_output=True, text=True
    ).stdout


def test_a_tag_is_pushed_with_its_commit(layout: Layout) -> None:
    """The source has the tag, which points at the reported commit."""
    push = source.push(layout, "web", tag="v1.0.0")
    assert git(layout, "show-ref") == f"{push.commit} refs/tags/v1.0.0\n"
    assert source.tags(layout, "web") == ["v1.0.0"]


def test_a_branch_goes_on(layout: Layout) -> None:
    """Two pushes to one branch are two commits, the second on top of the first."""
    first = source.push(layout, "web")
    second = source.push(layout, "web", vulnerable=True)
    assert git(layout, "rev-list", "main").split() == [second.commit, first.commit]


def test_the_tree_is_the_release_and_nothing_else(layout: Layout) -> None:
    """Package versions of an earlier push are not in a later one."""
    source.push(layout, "web", vulnerable=True)
    source.push(layout, "web")
    names = git(layout, "ls-tree", "-r", "--name-only", "main")
    assert "jinja2-3.1.6.dist-info" in names
    assert "jinja2-2.10.dist-info" not in names


def test_a_tag_is_never_moved(layout: Layout) -> None:
    """An existing tag is refused before anything is committed."""
    source.push(layout, "web", tag="v1.0.0")
    with pytest.raises(UsageError, match=r"v1\.0\.0"):
        source.push(layout, "web", tag="v1.0.0")


def test_the_users_git_configuration_has_no_say(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that would break every commit has no effect."""
    home = layout.root / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[commit]\n\tgpgsign = true\n[gpg]\n\tprogram = /bin/false\n", "ascii")
    monkeypatch.setenv("HOME", str(home))
    assert source.push(layout, "web").name == "main"


def test_what_keeps_the_hook_from_telling_is_said(layout: Layout) -> None:
    """The push works; its result says that the hook's target does not respond."""
    write_private(layout.hook_secret, load_secrets(layout)["git_hooks"])
    push = source.push(layout, "web")
    assert push.said == "http://127.0.0.1:9: [Errno 111] Connection refused; the sensor will find the push"


def test_a_hook_that_does_not_end_is_no_failure(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ref is in the source, so the push succeeded."""
    source.push(layout, "web")
    monkeypatch.setattr(source, "GIT_SECONDS", 3)
    hook = source.bare(layout, "web") / "hooks" / "post-receive"
    hook.write_text("#!/bin/sh\nexec sleep 600\n", "ascii")
    push = source.push(layout, "web", tag="v1.0.0")
    assert push.said == "the hook post-receive had not ended after 3 s"
    assert git(layout, "rev-parse", "refs/tags/v1.0.0").strip() == push.commit


def test_a_push_that_does_not_arrive_is_one(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that rejects the push before the ref is moved."""
    source.push(layout, "web")
    monkeypatch.setattr(source, "GIT_SECONDS", 3)
    hook = source.bare(layout, "web") / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexec sleep 600\n", "ascii")
    hook.chmod(0o755)
    with pytest.raises(ToolTimeout):
        source.push(layout, "web", tag="v1.0.0")


def test_git_is_waited_for_longer_than_its_hook() -> None:
    """Twice the time of the hook's three tries and its own git commands."""
    hook = runpy.run_path(str(git_hook()))
    tries, calls = 1 + len(hook["PAUSES"]), 4
    assert 2 * (hook["SECONDS"] * (tries + calls) + sum(hook["PAUSES"])) < source.GIT_SECONDS
