"""Servers that are down, silent or send nonsense, and proxies in front of them."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import ConfigurationError, ProtocolViolation, RegistryError, RegistryUnreachable
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.http.address_guard import Origin
from delivery_chain.oci.http.connector import Connector
from support.oci_registry import free_port

if TYPE_CHECKING:
    from support.oci_scripted import Script

pytestmark = pytest.mark.integration


def test_an_address_that_is_not_allowed_gets_no_request(oci_script: Script) -> None:
    """The addresses of a name are checked before connecting."""
    connector = Connector(Registry(host="registry.invalid", plain_http=True), timeout=5)

    with pytest.raises(ProtocolViolation, match=r"which is 127\.0\.0\.1: not allowed"):
        connector.open(Origin.parse(f"http://{oci_script.registry.host}"))

    assert oci_script.seen == []


def test_a_dead_port_is_unreachable() -> None:
    """With no server there, the error is retryable and says what to check."""
    registry = Registry(host=f"127.0.0.1:{free_port()}", plain_http=True)
    with (
        RegistryClient(registry) as client,
        pytest.raises(RegistryUnreachable, match="Check that the registry runs"),
    ):
        client.ping()


def test_a_name_that_is_none_is_unreachable() -> None:
    """A host without an address is unreachable; the resolver's error does not escape."""
    with (
        RegistryClient(Registry(host="no-such-host.invalid", plain_http=True), timeout=5) as client,
        pytest.raises(RegistryUnreachable, match=r"no-such-host\.invalid"),
    ):
        client.ping()


SPEECH = {
    "silence": (b"", RegistryUnreachable),
    "closing": (None, RegistryUnreachable),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", ProtocolViolation),
    "headers without end": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200, ProtocolViolation),
    "half a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", RegistryUnreachable),
}


@pytest.mark.parametrize(("speech", "kind"), SPEECH.values(), ids=SPEECH)
def test_what_is_no_registry_is_found_out(speech: bytes | None, kind: type[RegistryError]) -> None:
    """Silence ends with the timeout, nonsense at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                if speech is not None:
                    connection.sendall(speech)
                    over.wait(10)

        thread = threading.Thread(target=speak)
        thread.start()
        registry = Registry(host=f"127.0.0.1:{server.getsockname()[1]}", plain_http=True)
        with RegistryClient(registry, timeout=0.3) as client, pytest.raises(RegistryError) as caught:
            client.get_manifest("a", "v1")
        over.set()
        thread.join()

    assert type(caught.value) is kind


def test_a_connection_that_was_closed_meanwhile_is_opened_again() -> None:
    """A server may close an idle connection at any time; the next request works nevertheless."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        registry = Registry(host=f"127.0.0.1:{server.getsockname()[1]}", plain_http=True)
        with RegistryClient(registry, timeout=5) as client:
            client.ping()
            client.ping()
        thread.join()


def test_a_proxy_is_used_where_the_worker_has_one(
    oci_script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Remote registries are reached through the proxy, with the proxy's login; this machine never is."""
    monkeypatch.setenv("http_proxy", f"http://me:p%40ss@{oci_script.registry.host}")
    monkeypatch.setenv("no_proxy", "direct.invalid")
    oci_script.say("GET", "http://registry.invalid/v2/")
    oci_script.say("GET", "/v2/")

    for host in ("registry.invalid", oci_script.registry.host):
        with RegistryClient(Registry(host=host, plain_http=True)) as client:
            client.ping()
    with (
        RegistryClient(Registry(host="direct.invalid", plain_http=True)) as client,
        pytest.raises(RegistryUnreachable),
    ):
        client.ping()

    assert oci_script.paths("GET") == ["http://registry.invalid/v2/", "/v2/"]


@pytest.mark.parametrize("proxy", ["https://proxy.test:1", "socks5://me:hunter2@proxy.test", "http://:1"])
def test_a_proxy_that_can_not_be_used_is_named(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A malformed proxy setting is a configuration error, and its password stays hidden."""
    monkeypatch.setenv("http_proxy", proxy)
    with (
        RegistryClient(Registry(host="registry.invalid", plain_http=True)) as client,
        pytest.raises(ConfigurationError, match="HTTP_PROXY") as caught,
    ):
        client.ping()

    assert "hunter2" not in str(caught.value)
