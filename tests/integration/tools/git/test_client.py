"""Real git against real repositories: exact commits, allowed transports, credentials that leave no trace."""

from __future__ import annotations

import contextlib
import http.server
import os
import stat
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.errors import SourceError, SourceUnreachable
from delivery_chain.tools.git.client import GitSource, Transport, checkout, list_refs, tag_objects
from support.git_http import HTTP, GitServer, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

FILE = frozenset({Transport.FILE})
IDENTITY = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "PATH": os.environ["PATH"],
}


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


@dataclass
class Repository:
    """A repository with a working folder, driven by plain git."""

    path: Path

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.path), *arguments],
            env=IDENTITY,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, files: dict[str, str]) -> str:
        for name, text in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        return self.git("rev-parse", "HEAD")

    @property
    def source(self) -> GitSource:
        return GitSource(url=f"file://{self.path}", transports=FILE)


def make_repository(path: Path) -> Repository:
    path.mkdir(parents=True)
    repository = Repository(path)
    repository.git("init", "-q", "-b", "main")
    return repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path / "shop" / "api")


@pytest.fixture
def git_server(tmp_path: Path) -> Iterator[GitServer]:
    with serving(GitServer(tmp_path)) as server:
        yield server


def files_below(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


def all_text_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_refs_are_branches_and_tags_with_commits(repository: Repository) -> None:
    """An annotated tag is listed with the commit it names; other refs are left out."""
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
    """Of an annotated tag the tag object and its commit; of another one the commit twice. Branches are none."""
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
    """A ref name that a later command could take as an option never enters the project."""
    commit = repository.commit({"a": "1"})
    repository.git("update-ref", "refs/heads/--upload-pack=x", commit)
    assert list_refs(repository.source, deadline=soon()) == {"refs/heads/main": commit}


def test_a_line_end_inside_a_name_makes_no_other_ref(repository: Repository) -> None:
    """Git lets a branch be named `main` and a line separator: who may push that one has not moved `main`."""
    commit = repository.commit({"a": "1"})
    for end in "\u2028\u2029\x85":
        repository.git("update-ref", f"refs/heads/main{end}x", repository.commit({"a": end}))
    repository.git("update-ref", "refs/heads/main", commit)

    assert list_refs(repository.source, deadline=soon())["refs/heads/main"] == commit


def test_a_name_that_is_not_utf_8_is_not_listed(repository: Repository) -> None:
    """Two of them would become one where their bytes are replaced."""
    commit = repository.commit({"a": "1"})
    for name in (b"refs/heads/caf\xe9", b"refs/heads/caf\xe8"):
        subprocess.run(
            [b"git", b"-C", os.fsencode(repository.path), b"update-ref", name, commit.encode()],
            env=IDENTITY,
            check=True,
        )

    assert list_refs(repository.source, deadline=soon()) == {"refs/heads/main": commit}


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
    """It is listed, and its commit checked out, also where the server gives commits by their refs alone."""
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
    """The ref may have moved on: the files are those of the commit asked for, without history."""
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
    """Whatever the worker's umask is: a build's users are others than the worker's."""
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
    """Where a server refuses a commit by id, the ref is fetched deeper until the commit is there."""
    commit = repository.commit({"a": "1"})
    for number in range(60):
        repository.commit({"a": f"later {number}"})
    # Version 0 of the protocol refuses commits that no ref names.
    monkeypatch.setattr(
        "delivery_chain.tools.git.session._CONFIG", "[protocol]\n version = 0\n allow = never\n"
    )
    into = tmp_path / "out"
    source = git_server.source("shop/api/.git")
    checkout(source, ref="refs/heads/main", commit=commit, into=into, deadline=soon())
    assert files_below(into) == {"a": "1"}


@pytest.mark.parametrize("later", [1, 60])
def test_a_commit_of_the_refs_history(repository: Repository, tmp_path: Path, later: int) -> None:
    """An older commit that a person names is fetched by its ref, as deep as that takes."""
    commit = repository.commit({"a": "1"})
    for number in range(later):
        repository.commit({"a": f"later {number}"})
    into = tmp_path / "out"
    checkout(repository.source, ref="refs/heads/main", commit=commit, into=into, of_ref=True, deadline=soon())
    assert files_below(into) == {"a": "1"}


def test_a_commit_of_another_ref_is_refused(repository: Repository, tmp_path: Path) -> None:
    """Servers give commits by their ids that the ref never had, even those of forks."""
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
    """A commit that the server does not have is refused with the ref's name."""
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
    """A checkout never mixes with what is there."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with pytest.raises(SourceError, match="expected an empty folder"):
        checkout(
            repository.source, ref="refs/heads/main", commit="1" * 40, into=tmp_path / "out", deadline=soon()
        )


def test_repository_of_another_user(repository: Repository) -> None:
    """A folder that another user owns can be read when the file transport was allowed."""
    if os.geteuid() != 0:
        pytest.skip("needs root to give files away")
    commit = repository.commit({"a": "1"})
    for path in [repository.path, *repository.path.rglob("*")]:
        os.chown(path, 65534, 65534)
    assert list_refs(repository.source, deadline=soon()) == {"refs/heads/main": commit}


def test_hostile_repository_runs_nothing(repository: Repository, tmp_path: Path) -> None:
    """Attributes, filters named in the tree, hooks and a configuration file in the tree run no command."""
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
    """A tree that holds a link and a file below it can't place the file where the link leads."""
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
    """The size of a commit's files is known, and bounded, before they are written."""
    commit = repository.commit({"a": "x" * 2000})
    monkeypatch.setattr("delivery_chain.tools.git.client.MAX_CONTENT", 1000)
    with pytest.raises(SourceError, match="expected at most 1000 bytes of files, found 2000"):
        checkout(
            repository.source, ref="refs/heads/main", commit=commit, into=tmp_path / "o", deadline=soon()
        )


def test_git_bomb_is_refused(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few objects that stand for billions of files do not get as far as the disk."""
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
    monkeypatch.setattr("delivery_chain.tools.git.client.MAX_LISTING", 1_000_000)
    with pytest.raises(SourceError, match="expected at most 1000000 bytes of output"):
        checkout(
            repository.source, ref="refs/heads/main", commit=commit, into=tmp_path / "o", deadline=soon()
        )


def test_password_is_sent_and_leaves_no_trace(
    repository: Repository, git_server: GitServer, tmp_path: Path
) -> None:
    """The password reaches the server; the checkout, its configuration and the lines do not hold it."""
    commit = repository.commit({"a": "1"})
    git_server.password = "s3cr3t-p@ss"
    source = git_server.source("shop/api/.git", username="robot", password=git_server.password)
    into, lines = tmp_path / "out", []
    checkout(source, ref="refs/heads/main", commit=commit, into=into, deadline=soon(), on_line=lines.append)
    held = all_text_below(into)
    assert files_below(into) == {"a": "1"}
    assert not any(text.encode() in held for text in ("s3cr3t", "robot", "s3cr3t-p%40ss"))
    assert "s3cr3t" not in repr(source) + "".join(lines)


@pytest.mark.parametrize("password", ["", "wrong-secret"])
def test_refused_credentials(git_server: GitServer, repository: Repository, password: str) -> None:
    """Missing or wrong credentials are a permanent error that says what to check and not what was sent."""
    git_server.password = "right"
    with pytest.raises(SourceError, match="the server rejected the credentials") as caught:
        list_refs(git_server.source("shop/api/.git", username="robot", password=password), deadline=soon())
    assert (caught.value.retryable, "wrong-secret" in str(caught.value)) == (False, False)


def test_missing_repository(git_server: GitServer) -> None:
    """A repository that is not there is a permanent error."""
    with pytest.raises(SourceError, match="no such repository") as caught:
        list_refs(git_server.source("no/such"), deadline=soon())
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/x", "http://does-not-exist.invalid/x"], ids=["refused", "name"]
)
def test_server_that_does_not_answer(url: str) -> None:
    """No connection is retryable."""
    with pytest.raises(SourceUnreachable):
        list_refs(GitSource(url=url, transports=HTTP), deadline=soon())


def test_server_that_hangs(git_server: GitServer) -> None:
    """A server that accepts and never answers ends at the deadline, retryable."""
    import socket  # noqa: PLC0415 - only here

    with socket.create_server(("127.0.0.1", 0)) as listener:
        source = GitSource(url=f"http://127.0.0.1:{listener.getsockname()[1]}/x", transports=HTTP)
        with pytest.raises(SourceUnreachable, match="no complete answer before the deadline"):
            list_refs(source, deadline=soon(1))


def test_redirect_to_another_transport_is_refused(repository: Repository, tmp_path: Path) -> None:
    """A server can't send git on to a transport that was not allowed."""
    target = f"file://{repository.path}"

    class Redirect(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirect) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        source = GitSource(url=f"http://127.0.0.1:{listener.server_address[1]}/x", transports=HTTP | FILE)
        try:
            with pytest.raises(SourceError):
                list_refs(source, deadline=soon())
        finally:
            listener.shutdown()
            thread.join()


def add_submodule(parent: Repository, path: str, url: str, commit: str) -> str:
    """Write a submodule as a hostile repository could: no check of git's is in the way."""
    with (parent.path / ".gitmodules").open("a") as file:
        file.write(f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n')
    parent.git("add", ".gitmodules")
    parent.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    parent.git("commit", "-q", "-m", "submodule")
    return parent.git("rev-parse", "HEAD")


def test_submodules_are_left_out_unless_asked_for(repository: Repository, tmp_path: Path) -> None:
    """A submodule is an empty folder by default."""
    repository.commit({"a": "1"})
    commit = add_submodule(repository, "sub", "file:///etc", "2" * 40)
    checkout(repository.source, ref="refs/heads/main", commit=commit, into=tmp_path / "o", deadline=soon())
    assert files_below(tmp_path / "o") == {
        "a": "1",
        ".gitmodules": '[submodule "sub"]\n\tpath = sub\n\turl = file:///etc\n',
    }


def test_submodules_are_taken_recursively(repository: Repository, tmp_path: Path) -> None:
    """Relative URLs are resolved against the source; submodules of submodules come along."""
    inner, outer = make_repository(tmp_path / "shop/inner"), make_repository(tmp_path / "shop/outer")
    inner_commit = inner.commit({"i": "inner"})
    inner.commit({"i": "later"})
    outer.commit({"o": "outer"})
    outer_commit = add_submodule(outer, "deep/inner", "../inner", inner_commit)
    repository.commit({"a": "1"})
    commit = add_submodule(repository, "sub", "../outer", outer_commit)
    into = tmp_path / "o"
    checkout(
        repository.source, ref="refs/heads/main", commit=commit, into=into, submodules=True, deadline=soon()
    )
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
    """What `.gitmodules` says is held to the source's own transports and host."""
    repository.commit({"a": "1"})
    commit = add_submodule(repository, "sub", url, "2" * 40)
    source = git_server.source("shop/api/.git")
    with pytest.raises(SourceError, match=expected):
        checkout(
            source,
            ref="refs/heads/main",
            commit=commit,
            into=tmp_path / "o",
            submodules=True,
            deadline=soon(),
        )


def test_submodule_of_another_server_gets_no_password(
    repository: Repository, git_server: GitServer, tmp_path: Path
) -> None:
    """A submodule's server that asks for a password is not told the source's."""
    git_server.password = "right"
    with serving(GitServer(tmp_path, password="other")) as other:
        repository.commit({"a": "1"})
        commit = add_submodule(repository, "sub", other.url("x"), "2" * 40)
        source = git_server.source("shop/api/.git", username="robot", password="right")
        with pytest.raises(SourceError, match="rejected the credentials"):
            checkout(
                source,
                ref="refs/heads/main",
                commit=commit,
                into=tmp_path / "o",
                submodules=True,
                deadline=soon(),
            )
    assert other.authorizations
    assert {given for _, given in other.authorizations} == {None}


FAKE_SSH = """#!/bin/sh
printf '%s\\n' "$@" > "$0.argv"
while [ $# -gt 0 ]; do
  [ "$1" = -i ] && ssh-keygen -y -f "$2" > "$0.public" 2> "$0.problem" && stat -L -c %a "$2" > "$0.mode"
  case "$1" in UserKnownHostsFile=*) cat "${1#*=}" > "$0.known" ;; esac
  shift
done
echo "Host key verification failed." >&2
exit 255
"""


def test_ssh_gets_the_key_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ssh can read the key at a private path, knows the hosts, never asks, and the error says what to do."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(FAKE_SSH)
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    source = GitSource(
        url="git@git.example.com:shop/api.git",
        private_key=(tmp_path / "key").read_text(),
        known_hosts="git.example.com ssh-ed25519 AAAA",
    )
    with pytest.raises(SourceError, match="put its line into known_hosts"):
        list_refs(source, deadline=soon())
    public = (tmp_path / "key.pub").read_text().split()[1]
    assert Path(f"{ssh}.public").read_text().split()[1] == public
    assert stat.S_IMODE(int(Path(f"{ssh}.mode").read_text(), 8)) == 0o600
    assert Path(f"{ssh}.known").read_text() == "git.example.com ssh-ed25519 AAAA\n"
    argv = Path(f"{ssh}.argv").read_text().split("\n")
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "IdentityAgent=none"} <= set(argv)


def test_credentials_are_gone_after_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No temporary folder outlives a call, also one that failed."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    source = GitSource(url="http://127.0.0.1:1/x", transports=HTTP, username="u", password="p")
    with pytest.raises(SourceUnreachable):
        list_refs(source, deadline=soon())
    assert list(tmp_path.iterdir()) == []
