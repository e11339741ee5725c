from __future__ import annotations

import base64
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.errors import ConfigurationError
from delivery_chain.hooks.webhook import WebhookHook
from delivery_chain.targets.webhook import WebhookTarget

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., WebhookHook]:
    def make(**fields: Any) -> WebhookHook:
        whole = {"conn_type": "delivery_webhook", "host": "https://deploy.example.com/hook?app=shop"} | fields
        monkeypatch.setenv("AIRFLOW_CONN_PROD", json.dumps(whole))
        return WebhookHook("prod")

    return make


def test_the_secret_part_joins_the_query(connect: Callable[..., WebhookHook]) -> None:
    """The called URL has it, the shown one has no value of the query at all."""
    extra = {"secret_query": "?token=hunter2-token", "timeout_seconds": "30"}
    assert connect(password=SECRET, extra=extra).target() == WebhookTarget(
        url="https://deploy.example.com/hook?app=shop&token=hunter2-token",
        shown_url="https://deploy.example.com/hook?app=***",
        secret=SECRET,
        ca_certificate="",
        timeout=30.0,
    )


def test_a_target_shows_no_secret(connect: Callable[..., WebhookHook]) -> None:
    """Its repr may be logged."""
    found = connect(password=SECRET, extra={"secret_query": "token=hunter2-token"}).target()
    assert repr(found) == "WebhookTarget(shown_url='https://deploy.example.com/hook?app=***', timeout=10.0)"


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("https://deploy.example.com/hook", 0, "https://deploy.example.com/hook"),
        ("https://deploy.example.com/hook", 443, "https://deploy.example.com/hook"),
        ("https://deploy.example.com/hook", 8443, "https://deploy.example.com:8443/hook"),
        ("http://deploy.example.com:8080/hook", 8080, "http://deploy.example.com:8080/hook"),
        ("http://[::1]/hook", 8080, "http://[::1]:8080/hook"),
    ],
)
def test_the_port_may_be_in_its_own_field(
    connect: Callable[..., WebhookHook], host: str, port: int, url: str
) -> None:
    """The URL has it once; Airflow's connection page sends 0 for no port."""
    assert connect(host=host, port=port).target().url == url


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"host": "deploy.example.com"}, "host"),
        ({"host": "https://deploy.example.com:8443/", "port": 443}, "port"),
        ({"host": "ftp://deploy.example.com"}, "host"),
        ({"host": "https://u:hunter2@deploy.example.com"}, "host"),
        ({"host": "https://deploy.example.com/#x"}, "host"),
        ({"host": "https://deploy.example.com:99999/"}, "host"),
        ({"host": "https://deploy.example.com/a b"}, "host"),
        ({"password": "hunter2"}, "password"),
        ({"password": "whsec_c2hvcnQ="}, "password"),
        ({"extra": {"secret_query": "token=hunter2 x"}}, "secret_query"),
        ({"extra": {"secret_query": "token=hunter2#x"}}, "secret_query"),
        ({"extra": {"ca_certificate": "/etc/ca.pem"}}, "ca_certificate"),
        ({"extra": {"timeout_seconds": 0}}, "timeout_seconds"),
        ({"extra": {"timeout_seconds": "soon"}}, "timeout_seconds"),
    ],
)
def test_wrong_connections_are_refused(
    connect: Callable[..., WebhookHook], fields: dict[str, Any], field: str
) -> None:
    """The error names the field, and repeats no credential."""
    with pytest.raises(ConfigurationError) as caught:
        connect(**fields).target()
    assert str(caught.value).startswith(f"connection 'prod', field {field}: expected ")
    assert "hunter2" not in str(caught.value)


def test_the_connection_test_sends_nothing(connect: Callable[..., WebhookHook]) -> None:
    """It connects and closes: the target sees no byte, so no redeploy starts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/hook"
        found = connect(host=url).test_connection()
        with server.accept()[0] as accepted:
            accepted.settimeout(5)
            assert accepted.recv(1) == b""
    assert found == (
        True,
        (
            f"{url} takes connections; no request was sent, it could start a redeploy; "
            "deliveries will NOT be signed (no secret)"
        ),
    )


def test_the_connection_test_says_who_does_not_answer(connect: Callable[..., WebhookHook]) -> None:
    """Errors come as text."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/hook"
    assert connect(host=url).test_connection() == (False, f"{url}: no connection: Connection refused")
