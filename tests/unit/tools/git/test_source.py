"""Valid URLs, refs and commits, and the meaning of git's messages."""

from __future__ import annotations

import pytest

from delivery_chain.errors import SourceError, SourceUnreachable, ToolError
from delivery_chain.tools.git.session import translated
from delivery_chain.tools.git.source import (
    Address,
    GitSource,
    Transport,
    check_commit,
    check_ref,
    join_url,
    parse_url,
)

ALL = frozenset(Transport)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://git.example.com/a.git", Address(Transport.HTTPS, "git.example.com", "git.example.com")),
        (
            "https://Git.Example.com:8443/a",
            Address(Transport.HTTPS, "git.example.com", "git.example.com:8443"),
        ),
        ("http://127.0.0.1:80/a", Address(Transport.HTTP, "127.0.0.1", "127.0.0.1:80")),
        ("https://[::1]:8443/a", Address(Transport.HTTPS, "::1", "[::1]:8443")),
        ("ssh://git@h:22/a", Address(Transport.SSH, "h", "h:22")),
        ("git@h.example.com:a/b.git", Address(Transport.SSH, "h.example.com", "h.example.com")),
        ("file:///srv/a", Address(Transport.FILE, "", "")),
        ("/srv/a", Address(Transport.FILE, "", "")),
    ],
)
def test_urls_are_read(url: str, expected: Address) -> None:
    """Each form of URL leads to its transport and host."""
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "-oProxyCommand=x",
        "--upload-pack=x",
        "refs/heads/-x",
        "ext::sh -c x",
        "ext::sh",
        "fd::7",
        "git://h/a",
        "git+ssh://h/a",
        "ftp://h/a",
        "file://host/a",
        "file://",
        "ssh://-oProxyCommand=x/a",
        "ssh://-x@h/a",
        "-x@h:a",
        "h:-oProxyCommand=x",
        "https:///a",
        "https://h:port/a",
        "https://user@h/a",
        "https://user:pass@h/a",
        "https://h/a\n--b",
        "https://h/a b",
        "relative/path",
        "../up",
        "https://" + "x" * 3000,
    ],
)
def test_urls_are_refused(url: str) -> None:
    """What could be an option, a helper, a credential or another transport is not a source."""
    with pytest.raises(SourceError):
        GitSource(url=url, transports=ALL)


def test_credentials_in_a_url_are_not_repeated() -> None:
    """The message about a password in a URL does not hold the password."""
    with pytest.raises(SourceError) as caught:
        parse_url("https://user:s3cr3t@h/a")
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://h/a", "file:///a", "/a"])
def test_transports_are_https_and_ssh_by_default(url: str) -> None:
    """Plain http and folders need to be allowed by name."""
    with pytest.raises(SourceError, match=r"not allowed \(allowed: https, ssh\)"):
        GitSource(url=url)


def test_repr_shows_no_credential() -> None:
    """A source can be printed."""
    shown = repr(GitSource(url="https://h/a", username="u", password="s3cr3t", private_key="k3y"))
    assert ("s3cr3t" in shown, "k3y" in shown) == (False, False)


@pytest.mark.parametrize(
    ("base", "url", "expected"),
    [
        ("https://h/a/b.git", "../c.git", "https://h/a/c.git"),
        ("https://h/a/b.git/", "../c.git", "https://h/a/c.git"),
        ("https://h/a/b", "./c", "https://h/a/b/c"),
        ("ssh://git@h:22/a/b", "../../c", "ssh://git@h:22/c"),
        ("git@h:a/b.git", "../c.git", "git@h:a/c.git"),
        ("git@h:/a/b.git", "../c.git", "git@h:/a/c.git"),
        ("/srv/a", "../b", "/srv/b"),
        ("https://h/a", "https://x/y", "https://x/y"),
    ],
)
def test_submodule_urls_are_joined(base: str, url: str, expected: str) -> None:
    """Relative URLs are resolved like git does."""
    assert join_url(base, url) == expected


@pytest.mark.parametrize("base", ["https://h/a", "git@h:a", "/a"])
def test_submodule_urls_do_not_climb(base: str) -> None:
    """A relative URL never leaves the server's root."""
    with pytest.raises(SourceError, match="expected a relative URL that stays"):
        join_url(base, "../../x")


@pytest.mark.parametrize(
    "ref",
    [
        "refs/heads/main",
        "refs/tags/v1.0",
        "refs/heads/feature/a-b_c",
        "refs/heads/ü",
        "refs/heads/feature/-x",
        "refs/heads/" + "/".join(["x" * 100] * 5),
    ],
)
def test_refs_are_taken(ref: str) -> None:
    """Full names of branches and tags pass unchanged."""
    assert check_ref(ref) == ref


@pytest.mark.parametrize(
    "ref",
    [
        "main",
        "refs/heads/",
        "refs/pull/1/head",
        "--upload-pack=x",
        "refs/heads/-x",
        "refs/heads/a..b",
        "refs/heads/a b",
        "refs/heads/a\nb",
        "refs/heads/a~1",
        "refs/heads/a^",
        "refs/heads/a:b",
        "refs/heads/*",
        "refs/heads/a\\b",
        "refs/heads/a@{1}",
        "refs/heads/.a",
        "refs/heads/a//b",
        "refs/heads/a.lock",
        "refs/heads/a/",
        "refs/heads/a.",
        "refs/heads/" + "x" * 600,
    ],
)
def test_refs_are_refused(ref: str) -> None:
    """Names that git's rules forbid, or that could be an option, are refused."""
    with pytest.raises(SourceError):
        check_ref(ref)


@pytest.mark.parametrize(
    "commit", ["", "HEAD", "-x", "a" * 39, "A" * 40, "g" * 40, "a" * 41, "a" * 40 + "\n"]
)
def test_commits_are_refused(commit: str) -> None:
    """A commit is its full id."""
    with pytest.raises(SourceError):
        check_commit(commit)


@pytest.mark.parametrize(
    ("line", "kind", "meaning"),
    [
        ("fatal: unable to access 'u': Could not resolve host: h", SourceUnreachable, "did not answer"),
        ("ssh: connect to host h port 22: Connection refused", SourceUnreachable, "did not answer"),
        ("fatal: unable to access 'u': The requested URL returned error: 503", SourceUnreachable, "did not"),
        ("fatal: unable to access 'u': The requested URL returned error: 429", SourceUnreachable, "did not"),
        (
            "fatal: unable to access 'u': The requested URL returned error: 403",
            SourceError,
            "rejected the cred",
        ),
        ("fatal: the remote end hung up unexpectedly", SourceUnreachable, "did not answer"),
        ("fatal: the remote end hung up upon initial contact", SourceUnreachable, "did not answer"),
        ("fetch-pack: unexpected EOF", SourceUnreachable, "did not answer"),
        ("error: RPC failed; curl 18 transfer closed", SourceUnreachable, "did not answer"),
        ("git@h: Permission denied (publickey).", SourceError, "rejected the credentials"),
        ("remote: Repository not found.", SourceError, "no such repository"),
        ("fatal: transport 'file' not allowed", SourceError, "transport is not allowed"),
        ("fatal: couldn't find remote ref refs/heads/x", SourceError, "the ref no longer exists"),
        ("fatal: SSL certificate problem: unable to get local issuer", SourceError, "not trusted"),
        ('Load key "/proc/1/fd/3": error in libcrypto', SourceError, "the ssh key can't be read"),
        ("fatal: something new", SourceError, "git failed with exit code 128"),
    ],
)
def test_git_messages_are_translated(line: str, kind: type[SourceError], meaning: str) -> None:
    """Each known message says whether a retry helps and what to do."""
    error = translated(ToolError("x", tool="git", exit_code=128, output=[line]), GitSource(url="https://h/a"))
    assert (type(error), meaning in str(error), line in str(error)) == (kind, True, True)
