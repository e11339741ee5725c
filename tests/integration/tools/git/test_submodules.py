"""Submodules: omitted by default, and never a way to another server's files or password."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.errors import SourceError
from delivery_chain.tools.git.checkout import checkout
from support.git_http import GitServer, serving
from support.git_repositories import Repository, files_below, make_repository, soon

if TYPE_CHECKING:
    from pathlib import Path

    from delivery_chain.tools.git.source import GitSource

pytestmark = pytest.mark.integration


def add_submodule(parent: Repository, path: str, url: str, commit: str) -> str:
    """Write a submodule as a malicious repository could, without git's checks."""
    with (parent.path / ".gitmodules").open("a") as file:
        file.write(f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n')
    parent.git("add", ".gitmodules")
    parent.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    parent.git("commit", "-q", "-m", "submodule")
    return parent.git("rev-parse", "HEAD")


def with_submodules(source: GitSource, commit: str, into: Path) -> None:
    checkout(source, ref="refs/heads/main", commit=commit, into=into, submodules=True, deadline=soon())


def test_submodules_are_left_out_unless_asked_for(repository: Repository, tmp_path: Path) -> None:
    """By default, a submodule is an empty folder."""
    repository.commit({"a": "1"})
    commit = add_submodule(repository, "sub", "file:///etc", "2" * 40)
    checkout(repository.source, ref="refs/heads/main", commit=commit, into=tmp_path / "o", deadline=soon())
    assert files_below(tmp_path / "o") == {
        "a": "1",
        ".gitmodules": '[submodule "sub"]\n\tpath = sub\n\turl = file:///etc\n',
    }


def test_submodules_are_taken_recursively(repository: Repository, tmp_path: Path) -> None:
    """Relative URLs are resolved against the source; nested submodules are included."""
    inner, outer = make_repository(tmp_path / "shop/inner"), make_repository(tmp_path / "shop/outer")
    inner_commit = inner.commit({"i": "inner"})
    inner.commit({"i": "later"})
    outer.commit({"o": "outer"})
    outer_commit = add_submodule(outer, "deep/inner", "../inner", inner_commit)
    repository.commit({"a": "1"})
    commit = add_submodule(repository, "sub", "../outer", outer_commit)
    into = tmp_path / "o"
    with_submodules(repository.source, commit, into)
    found = files_below(into)
    assert {name: text for name, text in found.items() if ".gitmodules" not in name} == {
        "a": "1",
        "sub/o": "outer",
        "sub/deep/inner/i": "inner",
    }


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("file:///etc", "transport file is not allowed", id="file"),
        pytest.param("/etc", "transport file is not allowed", id="path"),
        pytest.param("ext::sh -c touch% /tmp/x", "expected a URL without spaces", id="ext with spaces"),
        pytest.param("ext::sh", "expected https", id="ext"),
        pytest.param("git://127.0.0.1/x", "expected one of https, ssh, file, http", id="git"),
        pytest.param("-uhttp://x", "does not begin with '-'", id="option"),
        pytest.param(
            "http://169.254.169.254/latest", "host '169.254.169.254' is not allowed", id="other host"
        ),
        pytest.param("http://u:p@127.0.0.1/x", "expected no user name or password", id="password"),
        pytest.param("../../../../etc", "expected a relative URL that stays", id="climbs"),
    ],
)
def test_hostile_submodule_urls(
    repository: Repository, git_server: GitServer, tmp_path: Path, url: str, expected: str
) -> None:
    """URLs in `.gitmodules` are restricted to the source's own transports and host."""
    repository.commit({"a": "1"})
    commit = add_submodule(repository, "sub", url, "2" * 40)
    source = git_server.source("shop/api/.git")
    with pytest.raises(SourceError, match=expected):
        with_submodules(source, commit, tmp_path / "o")


def test_submodule_of_another_server_gets_no_password(
    repository: Repository, git_server: GitServer, tmp_path: Path
) -> None:
    """A submodule's server that asks for a password does not get the source's."""
    git_server.password = "right"
    with serving(GitServer(tmp_path, password="other")) as other:
        repository.commit({"a": "1"})
        commit = add_submodule(repository, "sub", other.url("x"), "2" * 40)
        source = git_server.source("shop/api/.git", username="robot", password="right")
        with pytest.raises(SourceError, match="rejected the credentials"):
            with_submodules(source, commit, tmp_path / "o")
    assert other.authorizations
    assert {given for _, given in other.authorizations} == {None}
