"""Turns a connection of type `oci_registry` into a registry's address, a client, and links to its web pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

from airflow.sdk import BaseHook

from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import ConfigurationError, DeliveryChainError
from delivery_chain.hooks.connection import read_connection

if TYPE_CHECKING:
    from delivery_chain.core.connection_fields import ConnectionFields
    from delivery_chain.oci.client import RegistryClient

TIMEOUT = 60.0
"""Timeout in seconds of a connect, and of each read."""
TEST_TIMEOUT = 10.0
"""Shorter timeout for the connection test, because a person is waiting for it."""
HTTP_PORT, HTTPS_PORT = 80, 443
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAMES = ("host", "namespace", "repository", "tag", "digest")
_TEMPLATE = re.compile(r"https?://[^/\s\\{}]+(?:/[^\s\\]*)?")


class OciRegistryHook(BaseHook):
    """Airflow connection to one OCI registry."""

    conn_name_attr: ClassVar[str] = "conn_id"
    default_conn_name: ClassVar[str] = "oci_registry_default"
    conn_type: ClassVar[str] = "oci_registry"
    hook_name: ClassVar[str] = "OCI registry"

    def __init__(self, conn_id: str = default_conn_name) -> None:
        """Create the hook; reads nothing yet.

        Args:
            conn_id: Airflow's connection id.
        """
        super().__init__()
        self.conn_id = conn_id

    def registry(self) -> Registry:
        """Return the registry's address and login.

        Raises:
            ConfigurationError: The connection is missing or wrong. Not retryable.
        """
        return registry_of(read_connection(self.conn_id, self.conn_type))

    def client(self, *, timeout: float = TIMEOUT) -> RegistryClient:
        """Return a client for the registry, to be used as a context manager.

        Args:
            timeout: Seconds for a connect, and for each read.

        Raises:
            ConfigurationError: The connection is missing or wrong. Not retryable.
        """
        from delivery_chain.oci.client import RegistryClient  # noqa: PLC0415 - keeps HTTP out of a Dag parse

        return RegistryClient(self.registry(), timeout=timeout)

    def ui_url(self, namespace: str, repository: str, tag: str, digest: str) -> str:
        """Return the URL of an image's page by the connection's template; without one, the URL of its manifest.

        Args:
            namespace: Namespace as in the spec.
            repository: Repository without the namespace.
            tag: Tag; may be empty.
            digest: `sha256:…`.

        Raises:
            ConfigurationError: The connection is missing or wrong. Not retryable.
        """
        fields = read_connection(self.conn_id, self.conn_type)
        registry, template = registry_of(fields), fields.text("ui_url").strip()
        if not template:
            name = quote(f"{namespace}/{repository}")
            return f"{registry.base_url}/v2/{name}/manifests/{quote(digest, safe=':')}"
        values = dict(zip(_NAMES, (registry.host, namespace, repository, tag, digest), strict=True))
        return _PLACEHOLDER.sub(
            lambda found: quote(values[found[1]], safe=":@"), checked_template(fields, template)
        )

    def test_connection(self) -> tuple[bool, str]:
        """Check that the host is a registry and accepts the login. Called by Airflow's "Test" button."""
        try:
            return True, try_registry(self.registry())
        except DeliveryChainError as error:
            # Airflow tests a copy of the connection under a random name, which means nothing to the user.
            return False, str(error).replace(f"connection {self.conn_id!r}", "this connection")


def try_registry(registry: Registry) -> str:
    """Check that a host is a registry and accepts the login; return a sentence about the result.

    Raises:
        RegistryError: The check failed.
    """
    from delivery_chain.oci.client import RegistryClient  # noqa: PLC0415 - keeps HTTP out of a Dag parse

    with RegistryClient(registry, timeout=TEST_TIMEOUT) as client:
        client.ping()
    who = f"as {registry.username!r}" if registry.username else "anonymously"
    region = f" in region {registry.region}" if registry.region else ""
    return f"{registry.host}{region} is an OCI registry and grants access {who}"


def registry_of(fields: ConnectionFields) -> Registry:
    """Build a registry from the fields of a connection.

    Raises:
        ConfigurationError: A field is wrong. Not retryable.
    """
    # Airflow's connection page sends 0 if no port was given.
    usual = HTTP_PORT if fields.flag("plain_http") else HTTPS_PORT
    host = f"{fields.host}:{fields.port}" if fields.port and fields.port != usual else fields.host
    if not _HOST.fullmatch(host):
        raise fields.wrong("host", "host or host:port without https:// and path", repr(host[:200]))
    if bool(fields.login) != bool(fields.password):
        raise ConfigurationError(
            f"connection {fields.conn_id!r}: expected a username and a password, or neither for anonymous "
            f"access, found only a {'username' if fields.login else 'password'}; "
            "correct it under Admin > Connections"
        )
    return Registry(
        host=host,
        username=fields.login,
        password=fields.password,
        plain_http=fields.flag("plain_http"),
        ca_certificate=fields.certificate(),
        region=fields.text("region").strip(),
        private_hosts=tuple(fields.text("private_hosts").lower().replace(",", " ").split()),
    )


def checked_template(fields: ConnectionFields, template: str) -> str:
    """Validate the template of an image's page: http(s), a fixed host, only known placeholders."""
    host_and_path = _PLACEHOLDER.sub("x", template)
    unknown = sorted(set(_PLACEHOLDER.findall(template)) - set(_NAMES))
    if unknown:
        raise fields.wrong(
            "ui_url", f"only {', '.join(f'{{{name}}}' for name in _NAMES)}", f"{{{unknown[0][:40]}}}"
        )
    if not _TEMPLATE.fullmatch(host_and_path) or "@" in host_and_path.split("/", 3)[2]:
        raise fields.wrong("ui_url", "a URL that begins with https://", "other text")
    return template
