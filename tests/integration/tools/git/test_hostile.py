"""Malicious repositories: nothing of theirs runs, escapes the checkout, or fills the disk."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

import pytest

from delivery_chain.errors import SourceError
from delivery_chain.tools.git.checkout import checkout
from support.git_repositories import IDENTITY, Repository, soon

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def test_hostile_repository_runs_nothing(repository: Repository, tmp_path: Path) -> None:
    """Attributes, filters, hooks and a configuration file in the tree run no command."""
    mark = tmp_path / "ran"
    commit = repository.commit(
        {
            ".gitattributes": "* filter=evil diff=evil merge=evil\n",
            ".gitconfig": f'[filter "evil"]\n smudge = touch {mark}\n',
            "hooks/post-checkout": f"#!/bin/sh\ntouch {mark}\n",
            "a": "1",
        }
    )
    into = tmp_path / "out"
    checkout(repository.source, ref="refs/heads/main", commit=commit, into=into, deadline=soon())
    assert (mark.exists(), (into / "a").read_text()) == (False, "1")


def test_link_in_the_tree_writes_nothing_outside(repository: Repository, tmp_path: Path) -> None:
    """A tree with a link, and a file below it, can't place the file at the link's target."""
    outside = tmp_path / "outside"
    outside.mkdir()
    target = repository.git("hash-object", "-w", "-t", "blob", "--", "/dev/null")
    link = subprocess.run(
        ["git", "-C", str(repository.path), "hash-object", "-w", "--stdin"],
        env=IDENTITY, input=str(outside), text=True, check=True, capture_output=True,
    ).stdout.strip()  # fmt: skip

    def tree(entries: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(repository.path), "mktree"],
            env=IDENTITY, input=entries, text=True, check=True, capture_output=True,
        )  # fmt: skip
        return done.stdout.strip()

    inner = tree(f"100644 blob {target}\tfile\n")
    outer = tree(f"120000 blob {link}\td\n040000 tree {inner}\td\n")
    commit = repository.git("commit-tree", "-m", "x", outer)
    repository.git("update-ref", "refs/heads/main", commit)
    with contextlib.suppress(SourceError):
        checkout(
            repository.source, ref="refs/heads/main", commit=commit, into=tmp_path / "o", deadline=soon()
        )
    assert list(outside.iterdir()) == []


def test_repository_too_large_is_refused(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size of a commit's files is determined, and limited, before they are written."""
    commit = repository.commit({"a": "x" * 2000})
    monkeypatch.setattr("delivery_chain.tools.git.checkout.MAX_CONTENT", 1000)
    with pytest.raises(SourceError, match="expected at most 1000 bytes of files, found 2000"):
        checkout(
            repository.source, ref="refs/heads/main", commit=commit, into=tmp_path / "o", deadline=soon()
        )


def test_git_bomb_is_refused(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few objects that stand for billions of files are refused before they reach the disk."""
    repository.commit({"a": "1"})
    tree = repository.git("rev-parse", "HEAD^{tree}")
    for _ in range(9):
        listing = "".join(f"040000 tree {tree}\t{n}\n" for n in range(10))
        tree = subprocess.run(
            ["git", "-C", str(repository.path), "mktree"],
            env=IDENTITY, input=listing, text=True, check=True, capture_output=True,
        ).stdout.strip()  # fmt: skip
    commit = repository.git("commit-tree", "-m", "x", tree)
    repository.git("update-ref", "refs/heads/main", commit)
    monkeypatch.setattr("delivery_chain.tools.git.checkout.MAX_LISTING", 1_000_000)
    with pytest.raises(SourceError, match="expected at most 1000000 bytes of output"):
        checkout(
            repository.source, ref="refs/heads/main", commit=commit, into=tmp_path / "o", deadline=soon()
        )
