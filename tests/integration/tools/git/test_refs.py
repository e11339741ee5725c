"""Listing refs with real git: branches and tags with their commits, and invalid names."""

from __future__ import annotations

import os
import subprocess

import pytest

from delivery_chain.tools.git.refs import list_refs, tag_objects
from support.git_repositories import IDENTITY, Repository, soon

pytestmark = pytest.mark.integration


def test_refs_are_branches_and_tags_with_commits(repository: Repository) -> None:
    """An annotated tag is listed with its commit; other refs are omitted."""
    first = repository.commit({"a": "1"})
    repository.git("tag", "light")
    second = repository.commit({"a": "2"})
    repository.git("tag", "-a", "-m", "x", "v1")
    repository.git("branch", "feature/x")
    repository.git("update-ref", "refs/pull/1/head", first)
    assert list_refs(repository.source, deadline=soon()) == {
        "refs/heads/feature/x": second,
        "refs/heads/main": second,
        "refs/tags/light": first,
        "refs/tags/v1": second,
    }


def test_tags_and_the_commits_they_lead_to(repository: Repository) -> None:
    """For an annotated tag, the tag object and its commit; for other tags, the commit twice. Branches are omitted."""
    commit = repository.commit({"a": "1"})
    repository.git("tag", "plain")
    repository.git("tag", "-m", "x", "annotated")
    made = repository.git("rev-parse", "refs/tags/annotated")
    assert made != commit
    assert tag_objects(repository.source, deadline=soon()) == {
        "refs/tags/plain": (commit, commit),
        "refs/tags/annotated": (made, commit),
    }


def test_empty_repository_has_no_refs(repository: Repository) -> None:
    """A repository without a commit lists nothing."""
    assert list_refs(repository.source, deadline=soon()) == {}


def test_ref_that_looks_like_an_option_is_not_listed(repository: Repository) -> None:
    """A ref name that a later command could take for an option is dropped on input."""
    commit = repository.commit({"a": "1"})
    repository.git("update-ref", "refs/heads/--upload-pack=x", commit)
    assert list_refs(repository.source, deadline=soon()) == {"refs/heads/main": commit}


def test_a_line_end_inside_a_name_makes_no_other_ref(repository: Repository) -> None:
    """Git allows a branch named `main` plus a line separator: pushing that one does not move `main`."""
    commit = repository.commit({"a": "1"})
    for end in "\u2028\u2029\x85":
        repository.git("update-ref", f"refs/heads/main{end}x", repository.commit({"a": end}))
    repository.git("update-ref", "refs/heads/main", commit)

    assert list_refs(repository.source, deadline=soon())["refs/heads/main"] == commit


def test_a_name_that_is_not_utf_8_is_not_listed(repository: Repository) -> None:
    """Two of them would become one if their bytes were replaced."""
    commit = repository.commit({"a": "1"})
    for name in (b"refs/heads/caf\xe9", b"refs/heads/caf\xe8"):
        subprocess.run(
            [b"git", b"-C", os.fsencode(repository.path), b"update-ref", name, commit.encode()],
            env=IDENTITY,
            check=True,
        )

    assert list_refs(repository.source, deadline=soon()) == {"refs/heads/main": commit}
