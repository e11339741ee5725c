"""Open connections: TLS with the registry's own CA, the worker's proxy settings, and forbidden addresses."""

from __future__ import annotations

import base64
import http.client
import io
import ssl
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from delivery_chain.errors import ConfigurationError
from delivery_chain.oci.http.address_guard import Origin
from delivery_chain.oci.http.resolver import Resolver, dial

if TYPE_CHECKING:
    from collections.abc import Mapping

    from delivery_chain.core.names.registry import Registry


class _Lines(io.BufferedReader):
    """Reader that remembers the last line it read."""

    last = b""

    def readline(self, size: int | None = -1, /) -> bytes:
        self.last = super().readline(size)
        return self.last


class WholeHead(http.client.HTTPResponse):
    """Response that requires a complete head; the standard library also accepts a truncated one."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.fp = _Lines(self.fp.detach())

    def begin(self) -> None:
        """Read the head.

        Raises:
            ConnectionResetError: The connection closed in the middle of the head.
        """
        lines = self.fp
        try:
            super().begin()
        except http.client.BadStatusLine as error:
            if isinstance(lines, _Lines) and lines.last and not lines.last.endswith(b"\n"):
                raise ConnectionResetError("the response's status line was cut short") from error
            raise
        if isinstance(lines, _Lines) and not lines.last.endswith(b"\n"):
            raise ConnectionResetError("the response's head was cut short")


class Connector:
    """Opener of connections to one registry and to the addresses it names."""

    def __init__(self, registry: Registry, *, timeout: float) -> None:
        """Read the current proxy settings `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.

        Args:
            registry: The registry. Its CA is the only one trusted for its own host; for others it is added to the
                usual ones.
            timeout: Seconds for a connect, and for each read.
        """
        self.home = Origin.parse(registry.base_url)
        self._timeout = timeout
        self._ca = registry.ca_certificate
        self._proxies = getproxies()
        self._resolver = Resolver(
            self.home, registry.private_hosts, proxied=self._proxy(self.home) is not None
        )
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def open(self, origin: Origin) -> http.client.HTTPConnection:
        """Open a new connection.

        Raises:
            OSError, http.client.HTTPException: The connection could not be opened; the caller translates the error.
            ProtocolViolation: The name resolves to an address that the registry may not name.
            ConfigurationError: The CA or the proxy setting can't be read.
        """
        proxy = self._proxy(origin)
        if proxy is None:
            # Resolve once, and check before connecting: the rejection must not reveal whether the port is open.
            found = self._resolver.look_up(origin)
        else:
            self._resolver.check_text(origin)
        connection = self._make(origin, proxy)
        if proxy is None:
            connection._create_connection = lambda *_: dial(found, self._timeout)  # type: ignore[attr-defined]  # noqa: SLF001
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def proxy_headers(self, origin: Origin) -> Mapping[str, str] | None:
        """Return the proxy headers of a plain-http request, or None without a proxy."""
        proxy = self._proxy(origin) if origin.scheme == "http" else None
        return _proxy_address(proxy)[2] if proxy is not None else None

    def _make(self, origin: Origin, proxy: str | None) -> http.client.HTTPConnection:
        host, port, headers = origin.host, origin.port, None
        if proxy is not None:
            host, port, headers = _proxy_address(proxy)
        if origin.scheme == "http":
            plain = http.client.HTTPConnection(host, port, timeout=self._timeout)
            plain.response_class = WholeHead
            return plain
        context = self._context(origin)
        secure = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=context)
        secure.response_class = WholeHead
        if headers is not None:
            secure.set_tunnel(origin.host, origin.port, headers)
        return secure

    def _proxy(self, origin: Origin) -> str | None:
        proxy = self._proxies.get(origin.scheme)
        if not proxy or origin.loopback or proxy_bypass(f"{origin.host}:{origin.port}"):
            return None
        return proxy

    def _context(self, origin: Origin) -> ssl.SSLContext:
        own = origin.host == self.home.host
        with self._lock:
            if own not in self._contexts:
                self._contexts[own] = _tls_context(self._ca, only=own, host=self.home.host)
            return self._contexts[own]


def _tls_context(ca: str, *, only: bool, host: str) -> ssl.SSLContext:
    if not ca:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"CA certificate of the connection for {host}: expected PEM text that begins with "
            "-----BEGIN CERTIFICATE-----, found something else. Paste the CA's certificate again"
        ) from error
    if not only:
        context.load_default_certs()
    return context


def _proxy_address(proxy: str) -> tuple[str, int, dict[str, str]]:
    """Parse a proxy setting into host, port and headers."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host = None
    if not host or parts.scheme != "http":
        # Do not show the setting itself: it may hold a password.
        raise ConfigurationError(
            "HTTP_PROXY or HTTPS_PROXY: expected http://[user:password@]host:port, found another form. "
            "Correct the environment of the worker"
        )
    if parts.username is None:
        return host, port, {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return host, port, {"Proxy-Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
