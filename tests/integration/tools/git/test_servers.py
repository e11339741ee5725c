"""Git servers and logins: allowed transports, timeouts, and credentials that leave no trace."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from delivery_chain.errors import SourceError, SourceUnreachable
from delivery_chain.tools.git.checkout import checkout
from delivery_chain.tools.git.refs import list_refs
from delivery_chain.tools.git.source import GitSource
from support import http_server
from support.git_http import HTTP, GitServer
from support.git_repositories import FILE, Repository, all_text_below, files_below, soon

pytestmark = pytest.mark.integration


def test_password_is_sent_and_leaves_no_trace(
    repository: Repository, git_server: GitServer, tmp_path: Path
) -> None:
    """The password reaches the server; the checkout, its configuration and the log do not contain it."""
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
    """Missing or wrong credentials are a permanent error that says what to check, but not what was sent."""
    git_server.password = "right"
    with pytest.raises(SourceError, match="the server rejected the credentials") as caught:
        list_refs(git_server.source("shop/api/.git", username="robot", password=password), deadline=soon())
    assert (caught.value.retryable, "wrong-secret" in str(caught.value)) == (False, False)


def test_missing_repository(git_server: GitServer) -> None:
    """A missing repository is a permanent error."""
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
    """A server that accepts connections but never answers results in a retryable error at the deadline."""
    import socket  # noqa: PLC0415 - only here

    with socket.create_server(("127.0.0.1", 0)) as listener:
        source = GitSource(url=f"http://127.0.0.1:{listener.getsockname()[1]}/x", transports=HTTP)
        with pytest.raises(SourceUnreachable, match="no complete answer before the deadline"):
            list_refs(source, deadline=soon(1))


def test_redirect_to_another_transport_is_refused(repository: Repository, tmp_path: Path) -> None:
    """A server can't redirect git to a transport that is not allowed."""
    target = f"file://{repository.path}"

    class Redirect(http_server.Handler):
        def answer(self) -> None:
            self.reply(302, {"Location": target})

    with http_server.serving(Redirect) as port:
        source = GitSource(url=f"http://127.0.0.1:{port}/x", transports=HTTP | FILE)
        with pytest.raises(SourceError):
            list_refs(source, deadline=soon())


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
    """ssh reads the key from a private path, knows the hosts and never prompts, and the error says what to do."""
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
    with pytest.raises(SourceError, match="add its line to known_hosts"):
        list_refs(source, deadline=soon())
    public = (tmp_path / "key.pub").read_text().split()[1]
    assert Path(f"{ssh}.public").read_text().split()[1] == public
    assert stat.S_IMODE(int(Path(f"{ssh}.mode").read_text(), 8)) == 0o600
    assert Path(f"{ssh}.known").read_text() == "git.example.com ssh-ed25519 AAAA\n"
    argv = Path(f"{ssh}.argv").read_text().split("\n")
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "IdentityAgent=none"} <= set(argv)


def test_credentials_are_gone_after_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No temporary folder outlives a call, even a failed one."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    source = GitSource(url="http://127.0.0.1:1/x", transports=HTTP, username="u", password="p")
    with pytest.raises(SourceUnreachable):
        list_refs(source, deadline=soon())
    assert list(tmp_path.iterdir()) == []
