"""HTTP over the standard library with connection reuse; each connection serves one thread at a time."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from delivery_chain.errors import RegistryUnreachable
from delivery_chain.oci.http.address_guard import Origin
from delivery_chain.oci.http.connector import Connector
from delivery_chain.oci.http.exchange import Outgoing, Request, Response, translate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from delivery_chain.core.names.registry import Registry
    from delivery_chain.oci.http.exchange import Done

IDLE_CONNECTIONS = 8
"""Maximum number of idle connections per host."""


class Transport:
    """Connection pool for one registry and the addresses it names. Thread-safe."""

    def __init__(self, registry: Registry, *, timeout: float) -> None:
        """Create a pool; connections are opened on first use.

        Args:
            registry: The registry. Its CA is the only one trusted for its own host; for others it is added to the
                usual ones.
            timeout: Seconds for a connect, and for each read.
        """
        self._connector = Connector(registry, timeout=timeout)
        self._timeout = timeout
        self._idle: dict[Origin, list[http.client.HTTPConnection]] = {}
        self._busy: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def abort(self) -> None:
        """Break the connections in use, so that threads waiting on them fail."""
        with self._lock:
            busy = list(self._busy)
        for connection in busy:
            with contextlib.suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def send(self, request: Request) -> Response:
        """Send one request and wait for the response head. Redirects are not followed here.

        Raises:
            RegistryUnreachable: The connection could not be opened, or broke. Retryable.
            ProtocolViolation: The response is not HTTP, or the address is forbidden.
        """
        origin = Origin.parse(request.url)
        connection = self._take(origin)
        if connection is not None:
            try:
                return self._exchange(connection, origin, request)
            except RegistryUnreachable as error:
                # The server may close an idle connection at any time. That is not an error: open a new one.
                if not isinstance(error.__cause__, ConnectionError | ssl.SSLEOFError):
                    raise
        return self._exchange(self._connect(origin, request), origin, request)

    def open(self, request: Request) -> Outgoing:
        """Send a request head, with a `Content-Length` among its headers; the caller streams the body.

        Raises:
            RegistryUnreachable: The connection could not be opened, or broke. Retryable.
        """
        origin = Origin.parse(request.url)
        connection = self._take(origin) or self._connect(origin, request)
        outgoing = Outgoing(request, connection, self._timeout, self._taker(connection, origin))
        try:
            proxy = self._connector.proxy_headers(origin)
            connection.putrequest(request.method, _target(request, proxy), skip_accept_encoding=True)
            for name, value in {**request.headers, **(proxy or {})}.items():
                connection.putheader(name, value)
            connection.endheaders()
        except (OSError, http.client.HTTPException) as error:
            outgoing.abort()
            raise translate(error, request) from error
        except BaseException:
            outgoing.abort()
            raise
        return outgoing

    def _take(self, origin: Origin) -> http.client.HTTPConnection | None:
        with self._lock:
            idle = self._idle.get(origin)
            connection = idle.pop() if idle else None
            if connection is not None:
                self._busy.add(connection)
            return connection

    def _taker(self, connection: http.client.HTTPConnection, origin: Origin) -> Done:
        def take_back(reusable: bool) -> None:  # noqa: FBT001  # one caller
            with self._lock:
                self._busy.discard(connection)
                idle = self._idle.setdefault(origin, [])
                if reusable and len(idle) < IDLE_CONNECTIONS:
                    idle.append(connection)
                    return
            connection.close()

        return take_back

    def _exchange(self, connection: http.client.HTTPConnection, origin: Origin, request: Request) -> Response:
        done = self._taker(connection, origin)
        try:
            raw = _speak(connection, request, self._connector.proxy_headers(origin))
        except (OSError, http.client.HTTPException) as error:
            done(False)  # noqa: FBT003  # the only argument
            raise translate(error, request) from error
        except BaseException:
            done(False)  # noqa: FBT003
            raise
        return Response(request, raw, self._timeout, done)

    def _connect(self, origin: Origin, request: Request) -> http.client.HTTPConnection:
        try:
            connection = self._connector.open(origin)
        except (OSError, http.client.HTTPException) as error:
            raise translate(error, request) from error
        with self._lock:
            self._busy.add(connection)
        return connection


def _target(request: Request, proxy: Mapping[str, str] | None) -> str:
    if proxy is not None:
        return request.url
    parts = urlsplit(request.url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _speak(
    connection: http.client.HTTPConnection, request: Request, proxy: Mapping[str, str] | None
) -> http.client.HTTPResponse:
    headers = {**request.headers, **(proxy or {})}
    try:
        connection.request(request.method, _target(request, proxy), body=request.body, headers=headers)
    except (BrokenPipeError, ConnectionResetError):
        # A server that rejects a request early stops reading the body; its response, if it arrived, says why.
        try:
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionResetError(
                "the connection was closed while the request was being sent"
            ) from error
        answer.will_close = True
        return answer
    return connection.getresponse()
