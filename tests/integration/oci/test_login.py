"""Logins, tokens and certificates with real registries, and realms that must not be trusted."""

from __future__ import annotations

import base64
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.errors import ConfigurationError, ProtocolViolation, RegistryUnreachable, Unauthorized
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.api import copy_image
from support.oci_images import push_image
from support.oci_registry import PASSWORD, USER, docker_registry
from support.oci_scripted import scripted_registry
from support.oci_tls import make_certificates
from support.oci_tokens import TokenServer, token_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from delivery_chain.core.names.registry import Registry

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that requires a login."""
    with docker_registry(tmp_path_factory.mktemp("locked"), htpasswd=True) as registry:
        yield registry


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with TLS and a CA of its own."""
    folder = tmp_path_factory.mktemp("secure")
    ca, certificate, key = make_certificates(folder)
    tls = {"certificate": str(certificate), "key": str(key)}
    with docker_registry(folder, http={"tls": tls}) as registry:
        yield replace(registry, ca_certificate=ca)


@pytest.fixture
def tokens(
    tmp_path: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Registry, TokenServer]]:
    """A registry with a token server."""
    with token_registry(tmp_path_factory.mktemp("tokens")) as found:
        yield found


def test_a_login_opens_the_registry(locked: Registry, oci_repository: str) -> None:
    """With user name and password, everything works."""
    with RegistryClient(locked) as client:
        client.ping()
        image = push_image(client, oci_repository)

        assert client.get_manifest(oci_repository, image.digest).digest == image.digest


@pytest.mark.parametrize(
    "login",
    [("", ""), (USER, "hunter2-wrong"), ("stranger", PASSWORD)],
    ids=["none", "wrong password", "wrong user"],
)
def test_a_wrong_login_is_unauthorized(locked: Registry, login: tuple[str, str]) -> None:
    """The message names the host and what to check, and never the password."""
    with (
        RegistryClient(replace(locked, username=login[0], password=login[1])) as client,
        pytest.raises(Unauthorized, match="Check login and password of the connection") as caught,
    ):
        client.ping()

    assert caught.value.status == 401
    assert locked.host in str(caught.value)
    shown = f"{caught.value!r} {caught.value} {client.registry!r}"
    assert not any(secret in shown for secret in ("hunter2", PASSWORD))


def test_a_user_name_with_a_colon_is_refused(locked: Registry) -> None:
    """Basic authentication can't represent such a name."""
    with (
        RegistryClient(replace(locked, username="a:b")) as client,
        pytest.raises(ConfigurationError, match="':'"),
    ):
        client.ping()


def test_the_registrys_own_ca_is_trusted(secure: Registry, oci_repository: str) -> None:
    """With its CA, pushes and pulls go over TLS, on reused connections."""
    with RegistryClient(secure) as client:
        image = push_image(client, oci_repository)

        assert client.get_manifest(oci_repository, image.digest).digest == image.digest


def test_a_certificate_of_nobody_is_refused(secure: Registry) -> None:
    """Without the CA, nothing is sent, and the message says what is missing."""
    with (
        RegistryClient(replace(secure, ca_certificate="")) as client,
        pytest.raises(RegistryUnreachable, match="Put its CA into the connection"),
    ):
        client.ping()


def test_tls_to_a_plain_registry_says_so(oci_client: RegistryClient) -> None:
    """The most likely mistake with a new connection gets its own advice."""
    registry = replace(oci_client.registry, plain_http=False)
    with RegistryClient(registry) as client, pytest.raises(RegistryUnreachable, match="does not speak TLS"):
        client.ping()


@pytest.mark.parametrize(
    "pem", ["rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "é"]
)
def test_a_ca_that_is_none_is_refused(secure: Registry, pem: str) -> None:
    """An invalid CA is an error of the connection."""
    with (
        RegistryClient(replace(secure, ca_certificate=pem)) as client,
        pytest.raises(ConfigurationError, match="PEM"),
    ):
        client.ping()


def test_tokens_are_fetched_once_for_each_scope(
    tokens: tuple[Registry, TokenServer], oci_repository: str
) -> None:
    """One token serves all requests that need the same rights, and a mount requests both repositories."""
    registry, server = tokens
    with RegistryClient(registry) as client:
        image = push_image(client, oci_repository)
        copy_image(client, oci_repository, image.digest, client, f"{oci_repository}/to", referrers=False)

    to = f"{oci_repository}/to"
    assert server.asked == [
        (f"repository:{oci_repository}:pull",),
        (f"repository:{oci_repository}:pull,push",),
        (f"repository:{to}:pull,push",),
        (f"repository:{to}:pull,push", f"repository:{oci_repository}:pull"),
    ]


def test_a_token_that_is_over_is_fetched_anew(
    tokens: tuple[Registry, TokenServer], oci_repository: str
) -> None:
    """A token that expires at once is never used twice, and the work continues."""
    registry, server = tokens
    server.life = 0
    with RegistryClient(registry) as client:
        for _ in range(3):
            assert client.head_manifest(oci_repository, "v1") is None

    assert server.asked == [(f"repository:{oci_repository}:pull",)] * 3


def test_a_push_without_the_right_is_refused(
    tokens: tuple[Registry, TokenServer], oci_repository: str
) -> None:
    """An anonymous token has no rights, and the message names the connection."""
    registry, _ = tokens
    with (
        RegistryClient(replace(registry, username="", password="")) as client,
        pytest.raises(Unauthorized, match="login and password"),
    ):
        push_image(client, oci_repository)


def test_a_wrong_login_at_the_token_server_names_the_connection(tokens: tuple[Registry, TokenServer]) -> None:
    """The token server's refusal is reported as a wrong login of the connection."""
    registry, server = tokens
    with (
        RegistryClient(replace(registry, password="hunter2")) as client,
        pytest.raises(Unauthorized, match="Check login and password") as caught,
    ):
        client.ping()

    assert registry.host in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert len(server.asked) == 1


def test_a_token_refused_in_mid_use_is_replaced(oci_repository: str) -> None:
    """If a registry stops accepting a token, a new one is requested, and the request is repeated."""
    with scripted_registry(username=USER, password=PASSWORD) as script:
        challenge = f'Bearer realm="http://{script.registry.host}/token",service="s"'
        refused = {"headers": {"WWW-Authenticate": challenge}, "times": 1}
        script.say("GET", r"/token\?.*", body=b'{"token":"one"}', times=1)
        script.say("GET", r"/token\?.*", body=b'{"access_token":"two","expires_in":9}')
        script.say("GET", "/v2/", 401, **refused)
        script.say("GET", "/v2/", times=1)
        script.say("GET", "/v2/", 401, **refused)
        script.say("GET", "/v2/")
        with RegistryClient(script.registry) as client:
            client.ping()
            client.ping()

    basic = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
    sent = [one.authorization for one in script.seen]
    assert sent == ["", basic, "Bearer one", "Bearer one", basic, "Bearer two"]


REALMS = {
    "plain elsewhere": 'Bearer realm="http://203.0.113.9/token"',
    "metadata": 'Bearer realm="https://169.254.169.254/token"',
    "relative": 'Bearer realm="/token"',
    "missing": 'Bearer service="s"',
    "with a user": 'Bearer realm="https://a:b@reg.test/"',
    "another scheme": "Negotiate",
    "no challenge": "",
    "broken": 'Bearer realm="x',
}


@pytest.mark.parametrize("challenge", REALMS.values(), ids=REALMS)
def test_credentials_go_to_no_realm_that_is_not_allowed(challenge: str) -> None:
    """A registry can't make the client send its password to another server."""
    with scripted_registry(username=USER, password=PASSWORD) as script:
        script.say("GET", "/v2/", 401, headers={"WWW-Authenticate": challenge} if challenge else {})
        with RegistryClient(script.registry) as client, pytest.raises(ProtocolViolation):
            client.ping()

    assert [one.authorization for one in script.seen] == [""]


SENT: dict[str, Callable[[RegistryClient], object]] = {
    "realm": lambda client: client.ping(),
    "redirect": lambda client: client.get_blob("shop/api", f"sha256:{'0' * 64}"),
    "upload location": lambda client: client.put_blob_bytes("shop/api", b"x"),
}


@pytest.mark.parametrize("spelling", ["https://trap.test:{}/", "https://2130706433:{}/", "https://127.1:{}/"])
@pytest.mark.parametrize("ask", SENT.values(), ids=SENT)
def test_a_registry_can_not_ask_which_ports_are_open(
    monkeypatch: pytest.MonkeyPatch, spelling: str, ask: Callable[[RegistryClient], object]
) -> None:
    """An address on this machine is refused before connecting: the message does not depend on what listens there."""
    real = socket.getaddrinfo

    def look_up(host: str, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host.endswith(".test") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with scripted_registry() as script, socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        open_port = listening.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as server:
            closed_port = server.getsockname()[1]
        told = set()
        for port in (open_port, closed_port):
            url = spelling.format(port)
            script.answers.clear()
            script.say("GET", "/v2/", 401, headers={"WWW-Authenticate": f'Bearer realm="{url}"'})
            script.say("GET", ".*/blobs/.*", 307, headers={"Location": url})
            script.say("POST", ".*/uploads/", 202, headers={"Location": url})
            host = script.registry.host.replace("127.0.0.1", "reg.test")
            with (
                RegistryClient(replace(script.registry, host=host)) as client,
                pytest.raises(ProtocolViolation) as caught,
            ):
                ask(client)
            told.add(str(caught.value).replace(str(port), "PORT"))
        with pytest.raises(BlockingIOError):
            listening.accept()

    assert len(told) == 1


TOKENS = {
    "no JSON": b"<html>",
    "no token": b"{}",
    "a number": b'{"token":1}',
    "a line break": b'{"token":"a\\r\\nX-Evil: 1"}',
    "life as text": b'{"token":"a","expires_in":"1"}',
    "endless": b'{"token":"' + b"a" * 300_000 + b'"}',
}


@pytest.mark.parametrize("body", TOKENS.values(), ids=TOKENS)
def test_wrong_tokens_are_refused(body: bytes) -> None:
    """A token server's response is accepted only if it is a token."""
    with scripted_registry() as script:
        challenge = f'Bearer realm="http://{script.registry.host}/token"'
        script.say("GET", "/v2/", 401, headers={"WWW-Authenticate": challenge})
        script.say("GET", "/token.*", body=body)
        with RegistryClient(script.registry) as client, pytest.raises(ProtocolViolation):
            client.ping()
