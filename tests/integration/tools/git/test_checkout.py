"""Checkouts with real git: exactly the requested commit, whatever the server supports."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from delivery_chain.errors import SourceError
from delivery_chain.tools.git.checkout import checkout
from delivery_chain.tools.git.refs import list_refs
from support.git_repositories import IDENTITY, Repository, files_below, soon

if TYPE_CHECKING:
    from pathlib import Path

    from support.git_http import GitServer

pytestmark = pytest.mark.integration
LONG = "refs/heads/" + "/".join(["part" * 20] * 7)


@pytest.mark.parametrize(
    "ref",
    [
        "refs/heads/feature/-x",
        "refs/tags/feature/--upload-pack=x",
        "refs/heads/@",
        LONG,
        "refs/heads/é\u2028",
    ],
)
def test_a_ref_that_is_valid_for_git_is_built_from(
    repository: Repository,
    git_server: GitServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ref: str,
) -> None:
    """It is listed, and its commit checked out, even if the server serves commits only by their refs."""
    monkeypatch.setattr(
        "delivery_chain.tools.git.session._CONFIG", "[protocol]\n version = 0\n allow = never\n"
    )
    commit = repository.commit({"a": "1"})
    tip = repository.commit({"a": "2"})
    repository.git("update-ref", ref, tip)
    repository.git("update-ref", "-d", "refs/heads/main")
    source = git_server.source("shop/api/.git")

    assert list_refs(source, deadline=soon())[ref] == tip
    checkout(source, ref=ref, commit=commit, into=tmp_path / "out", deadline=soon())
    assert files_below(tmp_path / "out") == {"a": "1"}


def test_checkout_is_the_exact_commit_not_the_tip(repository: Repository, tmp_path: Path) -> None:
    """The ref may have moved on: the files are those of the requested commit, without history."""
    repository.commit({"a": "0"})
    commit = repository.commit({"a": "1", "d/b": "x"})
    repository.commit({"a": "2"})
    into = tmp_path / "out"
    checkout(repository.source, ref="refs/heads/main", commit=commit, into=into, deadline=soon())
    log = subprocess.run(
        ["git", "-C", str(into), "rev-list", "HEAD"], env=IDENTITY, check=True, capture_output=True, text=True
    )
    assert (files_below(into), log.stdout.split()) == ({"a": "1", "d/b": "x"}, [commit])


@pytest.mark.parametrize("umask", [0o027, 0o077])
def test_modes_are_gits_own(repository: Repository, tmp_path: Path, umask: int) -> None:
    """Whatever the worker's umask: a build's users differ from the worker's."""
    (repository.path / "script").write_text("x")
    (repository.path / "script").chmod(0o755)
    commit = repository.commit({"a": "1", "d/b": "x"})
    into = tmp_path / "out"
    before = os.umask(umask)
    try:
        checkout(repository.source, ref="refs/heads/main", commit=commit, into=into, deadline=soon())
    finally:
        os.umask(before)
    modes = {name: (into / name).stat().st_mode & 0o777 for name in (".", "d", "a", "d/b", "script")}
    assert modes == {".": 0o755, "d": 0o755, "a": 0o644, "d/b": 0o644, "script": 0o755}


def test_server_that_gives_no_single_commits(
    repository: Repository, git_server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a server refuses a commit by id, the ref is fetched with more history until it contains the commit."""
    commit = repository.commit({"a": "1"})
    for number in range(60):
        repository.commit({"a": f"later {number}"})
    # Version 0 of the protocol refuses commits that no ref points at.
    monkeypatch.setattr(
        "delivery_chain.tools.git.session._CONFIG", "[protocol]\n version = 0\n allow = never\n"
    )
    into = tmp_path / "out"
    source = git_server.source("shop/api/.git")
    checkout(source, ref="refs/heads/main", commit=commit, into=into, deadline=soon())
    assert files_below(into) == {"a": "1"}


@pytest.mark.parametrize("later", [1, 60])
def test_a_commit_of_the_refs_history(repository: Repository, tmp_path: Path, later: int) -> None:
    """An older commit, named by a user, is fetched by its ref, with as much history as needed."""
    commit = repository.commit({"a": "1"})
    for number in range(later):
        repository.commit({"a": f"later {number}"})
    into = tmp_path / "out"
    checkout(repository.source, ref="refs/heads/main", commit=commit, into=into, of_ref=True, deadline=soon())
    assert files_below(into) == {"a": "1"}


def test_a_commit_of_another_ref_is_refused(repository: Repository, tmp_path: Path) -> None:
    """Servers also serve commits by id that the ref never pointed at, even those of forks."""
    repository.commit({"a": "1"})
    repository.git("checkout", "-q", "-b", "other")
    commit = repository.commit({"a": "2"})
    repository.git("checkout", "-q", "main")
    repository.commit({"a": "3"})
    with pytest.raises(SourceError, match="name a commit of the ref's own history") as caught:
        checkout(
            repository.source,
            ref="refs/heads/main",
            commit=commit,
            into=tmp_path / "out",
            of_ref=True,
            deadline=soon(),
        )
    assert not caught.value.retryable


def test_server_without_shallow_history(
    repository: Repository, git_server: GitServer, tmp_path: Path
) -> None:
    """A plain file server works too."""
    commit = repository.commit({"a": "1"})
    repository.commit({"a": "2"})
    repository.git("update-server-info")
    git_server.dumb = True
    into = tmp_path / "out"
    source = git_server.source("shop/api/.git")
    checkout(source, ref="refs/heads/main", commit=commit, into=into, deadline=soon())
    assert files_below(into) == {"a": "1"}


def test_sha256_repository(tmp_path: Path) -> None:
    """Commits of 64 digits work like those of 40."""
    path = tmp_path / "r"
    path.mkdir()
    repository = Repository(path)
    repository.git("init", "-q", "-b", "main", "--object-format=sha256")
    commit = repository.commit({"a": "1"})
    into = tmp_path / "out"
    checkout(repository.source, ref="refs/heads/main", commit=commit, into=into, deadline=soon())
    assert (len(commit), files_below(into)) == (64, {"a": "1"})


def test_commit_that_was_rewritten_away(repository: Repository, tmp_path: Path) -> None:
    """A commit that the server does not have is refused, and the error names the ref."""
    repository.commit({"a": "1"})
    with pytest.raises(SourceError, match="expected it on refs/heads/main"):
        checkout(
            repository.source, ref="refs/heads/main", commit="1" * 40, into=tmp_path / "o", deadline=soon()
        )


def test_object_that_is_no_commit(repository: Repository, tmp_path: Path) -> None:
    """The id of a file does not pass for a commit."""
    repository.commit({"a": "1"})
    blob = repository.git("rev-parse", "HEAD:a")
    with pytest.raises(SourceError):
        checkout(repository.source, ref="refs/heads/main", commit=blob, into=tmp_path / "o", deadline=soon())


def test_folder_with_files_is_refused(repository: Repository, tmp_path: Path) -> None:
    """A checkout never mixes with existing files."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with pytest.raises(SourceError, match="expected an empty folder"):
        checkout(
            repository.source, ref="refs/heads/main", commit="1" * 40, into=tmp_path / "out", deadline=soon()
        )


def test_repository_of_another_user(repository: Repository) -> None:
    """A folder of another user can be read if the file transport is allowed."""
    if os.geteuid() != 0:
        pytest.skip("needs root to give files away")
    commit = repository.commit({"a": "1"})
    for path in [repository.path, *repository.path.rglob("*")]:
        os.chown(path, 65534, 65534)
    assert list_refs(repository.source, deadline=soon()) == {"refs/heads/main": commit}
