from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.errors import ConfigurationError, SourceError
from delivery_chain.hooks.git import GitSourceHook
from delivery_chain.tools.git.source import GitSource, Transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOST = "https://git.example.com/shop"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., GitSourceHook]:
    def make(**fields: Any) -> GitSourceHook:
        whole = {"conn_type": "git", "host": HOST, "login": "robot", "password": "hunter2-token"} | fields
        monkeypatch.setenv("AIRFLOW_CONN_GIT_SHOP", json.dumps(whole))
        return GitSourceHook("git_shop", ("https", "ssh", "file"))

    return make


def test_the_connection_becomes_a_source(connect: Callable[..., GitSourceHook], tmp_path: Path) -> None:
    """All that the connection says arrives; keys are read from their file."""
    (tmp_path / "key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    extra = {
        "key_file": str(tmp_path / "key"),
        "known_hosts": "git.example.com ssh-ed25519 A",
        "submodule_hosts": "a,b",
    }
    found = connect(host="git@git.example.com:shop/api.git", password=None, extra=extra).source()
    assert found == GitSource(
        url="git@git.example.com:shop/api.git",
        transports=frozenset({Transport.HTTPS, Transport.SSH, Transport.FILE}),
        username="robot",
        private_key="-----BEGIN OPENSSH PRIVATE KEY-----",
        known_hosts="git.example.com ssh-ed25519 A",
        submodule_hosts=frozenset({"a", "b"}),
    )


@pytest.mark.parametrize(
    ("host", "url", "expected"),
    [
        (HOST, "", HOST),
        (HOST, "api.git", f"{HOST}/api.git"),
        (f"{HOST}/", "team/api.git", f"{HOST}/team/api.git"),
        (HOST, "https://git.example.com/other.git", "https://git.example.com/other.git"),
        ("file:///srv/git", "api.git", "file:///srv/git/api.git"),
        ("file:///srv/git", "file:///srv/git/api.git", "file:///srv/git/api.git"),
        ("file:///srv/git", "/srv/git/api.git", "/srv/git/api.git"),
    ],
)
def test_urls_join_the_connection(
    connect: Callable[..., GitSourceHook], host: str, url: str, expected: str
) -> None:
    """A spec's URL may be left out, relative, or absolute on the same server."""
    assert connect(host=host).source(url).url == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example.com/shop/api.git",
        "https://git.example.com:8443/shop/api.git",
        "ssh://git.example.com/shop/api.git",
        "git@git.example.com:shop/api.git",
        "/etc",
        "../other",
        "a/../../other",
        "a/%2e%2e/%2e%2e/other",
        "a/..%2fother",
        "a//b",
        "./a",
        "-oProxyCommand=x",
        "a b",
        "a?service=x",
        "a#b",
    ],
)
def test_credentials_go_nowhere_else(connect: Callable[..., GitSourceHook], url: str) -> None:
    """Another server, or a path that climbs, is refused before git starts."""
    with pytest.raises(ConfigurationError, match="git source"):
        connect().source(url)


@pytest.mark.parametrize(
    "url", ["/etc/shadow.git", "file:///srv/git2", "file:///srv/git/../x", "file:///srv/git/%2e%2e/x"]
)
def test_folders_stay_below_the_connections(connect: Callable[..., GitSourceHook], url: str) -> None:
    """A spec can't read other folders of the worker."""
    with pytest.raises(ConfigurationError, match="expected a URL on file:"):
        connect(host="file:///srv/git").source(url)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"host": ""}, "field host: expected the URL"),
        ({"host": "https://u:p@x/y"}, "field host: git source on 'x'"),
        ({"host": "ext::sh -c x"}, "field host: git source"),
        ({"host": "git@x:y"}, "field known_hosts_file: expected a file that lists"),
        ({"extra": {"private_key_passphrase": "s"}}, "field private_key_passphrase: expected nothing"),
        ({"extra": {"github_app_id": 7}}, "field github_app_id: expected nothing"),
        ({"extra": {"strict_host_key_checking": "perhaps"}}, "field strict_host_key_checking: expected yes"),
        ({"extra": {"key_file": "/nowhere"}}, "field key_file: expected a file that this worker can read"),
        (
            {"extra": {"key_file": "/x", "private_key": "k"}},
            "field key_file: expected key_file or private_key",
        ),
    ],
)
def test_wrong_connections_are_refused(
    connect: Callable[..., GitSourceHook], fields: dict[str, Any], message: str
) -> None:
    """The error names the connection's field."""
    with pytest.raises(ConfigurationError) as caught:
        connect(**fields).source()
    assert message in str(caught.value)


def test_transports_are_the_installations(connect: Callable[..., GitSourceHook]) -> None:
    """A connection can't allow what the settings do not."""
    with pytest.raises(SourceError, match="transport http is not allowed"):
        connect(host="http://git.example.com/x").source()
