from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import ConfigurationError
from delivery_chain.hooks.registry import OciRegistryHook

if TYPE_CHECKING:
    from collections.abc import Callable

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
DIGEST = f"sha256:{'0' * 64}"
FOUND = "correct it under Admin > Connections"
FIELD = "connection 'sing', field"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., OciRegistryHook]:
    def make(**fields: Any) -> OciRegistryHook:
        whole = {"conn_type": "oci_registry", "host": "registry.example.com"} | fields
        monkeypatch.setenv("AIRFLOW_CONN_SING", json.dumps(whole))
        return OciRegistryHook("sing")

    return make


def test_all_fields_are_read(connect: Callable[..., OciRegistryHook]) -> None:
    """Login, port and extras make one registry; flags may be texts, as URIs have them."""
    hook = connect(
        host="registry.example.com",
        port=5000,
        login="robot",
        password="hunter2-token",
        extra={"plain_http": "true", "ca_certificate": PEM, "region": "ap-southeast-1"},
    )
    assert hook.registry() == Registry(
        host="registry.example.com:5000",
        username="robot",
        password="hunter2-token",
        plain_http=True,
        ca_certificate=f"{PEM}\n",
        region="ap-southeast-1",
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"conn_type": "docker"}, f"{FIELD} conn_type: expected type oci_registry, found 'docker'; {FOUND}"),
        (
            {"host": "https://registry.example.com"},
            (
                f"{FIELD} host: expected host or host:port without https:// and path, "
                f"found 'https://registry.example.com'; {FOUND}"
            ),
        ),
        (
            {"host": ""},
            f"{FIELD} host: expected host or host:port without https:// and path, found ''; {FOUND}",
        ),
        (
            {"login": "robot"},
            (
                "connection 'sing': expected a username and a password, or neither for anonymous access, "
                f"found only a username; {FOUND}"
            ),
        ),
        (
            {"extra": {"plain_http": "maybe"}},
            f"{FIELD} plain_http: expected true or false, found 'maybe'; {FOUND}",
        ),
        (
            {"extra": {"ca_certificate": "/etc/ca.pem"}},
            (
                f"{FIELD} ca_certificate: expected PEM text that begins with -----BEGIN CERTIFICATE-----, "
                f"found other text; {FOUND}"
            ),
        ),
        ({"extra": {"region": 7}}, f"{FIELD} region: expected a text, found int; {FOUND}"),
        (
            {"extra": '["secret"'},
            f"connection 'sing', extra: expected a JSON object, found something else; {FOUND}",
        ),
    ],
)
def test_wrong_connections_are_refused(
    connect: Callable[..., OciRegistryHook], fields: dict[str, Any], message: str
) -> None:
    """The error names the connection, the field, what it takes and the next step."""
    with pytest.raises(ConfigurationError) as caught:
        connect(**fields).registry()
    assert str(caught.value) == message


def test_a_missing_connection_says_how_to_add_it() -> None:
    """Airflow's own exception never reaches the user."""
    with pytest.raises(ConfigurationError) as caught:
        OciRegistryHook("nowhere").registry()
    assert str(caught.value) == (
        "connection 'nowhere' is missing: add it under Admin > Connections with type oci_registry, or with "
        "`delivery-chain connect registry nowhere HOST`"
    )


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("", f"https://registry.example.com/v2/shop/api/manifests/{DIGEST}"),
        (
            "https://harbor.example.com/{namespace}/{repository}/{digest}?tag={tag}",
            f"https://harbor.example.com/shop/api/{DIGEST}?tag=v1%26x",
        ),
        ("https://{host}/ui/{repository}", "https://registry.example.com/ui/api"),
    ],
)
def test_links(connect: Callable[..., OciRegistryHook], template: str, url: str) -> None:
    """A template gives the registry's own page, none gives the manifest; values can't leave their place."""
    assert connect(extra={"ui_url": template}).ui_url("shop", "api", "v1&x", DIGEST) == url


@pytest.mark.parametrize(
    "template", ["javascript:alert(1)", "//x/{tag}", "https://u:p@x/", "https://x/{password}", "https://x/{}"]
)
def test_links_that_no_browser_should_follow(connect: Callable[..., OciRegistryHook], template: str) -> None:
    """Only http and https, no credentials, only names that are known."""
    with pytest.raises(ConfigurationError, match="field ui_url: expected"):
        connect(extra={"ui_url": template}).ui_url("shop", "api", "v1", DIGEST)


def test_the_connection_test_says_what_is_wrong(connect: Callable[..., OciRegistryHook]) -> None:
    """Errors come as text, as Airflow's form shows them."""
    assert connect(host="https://x").test_connection() == (
        False,
        f"{FIELD} host: expected host or host:port without https:// and path, found 'https://x'; {FOUND}".replace(
            "connection 'sing'", "this connection"
        ),
    )


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ({"port": 0}, "registry.example.com"),
        ({"port": 443}, "registry.example.com"),
        ({"port": 80}, "registry.example.com:80"),
        ({"port": 80, "extra": {"plain_http": True}}, "registry.example.com"),
        ({"port": 443, "extra": {"plain_http": True}}, "registry.example.com:443"),
        ({"host": "registry.example.com:5000"}, "registry.example.com:5000"),
    ],
)
def test_a_usual_port_is_no_part_of_the_name(
    connect: Callable[..., OciRegistryHook], fields: dict[str, Any], host: str
) -> None:
    """Images are named as people name them; Airflow's connection page sends 0 for no port."""
    assert connect(**fields).registry().host == host


def test_the_password_is_masked(connect: Callable[..., OciRegistryHook]) -> None:
    """After the first read Airflow's logs show stars."""
    from airflow.sdk._shared.secrets_masker import redact  # noqa: PLC0415 - what Airflow's logs use

    connect(login="robot", password="a-most-secret-token").registry()
    assert redact("found a-most-secret-token here") == "found *** here"
