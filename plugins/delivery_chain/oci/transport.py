"""HTTP as the standard library speaks it: kept connections, streaming both ways, bounds and deadlines."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from delivery_chain.errors import (
    ContentMismatch,
    DeliveryChainError,
    ProtocolViolation,
    RegistryUnreachable,
)
from delivery_chain.oci.connect import Connector
from delivery_chain.oci.origin import Origin
from delivery_chain.oci.wire import redact

if TYPE_CHECKING:
    from types import TracebackType

    from delivery_chain.core.registry import Registry

CHUNK = 1024 * 1024
"""Bytes asked of a socket at a time: larger ones cost memory and win nothing."""
SLOWEST = 1024
"""Bytes a second: a body that is slower than this for five timeouts on end counts as stuck."""
IDLE_CONNECTIONS = 8
"""Connections kept per host when nobody uses them."""
_DRAIN = 64 * 1024

Body = bytes | Iterable[bytes] | None


@dataclass(frozen=True, slots=True)
class Request:
    """One request. A body that is not bytes can be sent only once."""

    method: str
    url: str
    """Absolute."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Body = field(default=None, repr=False)
    """With a `Content-Length` header where it is not bytes."""

    @property
    def replayable(self) -> bool:
        """Whether it can be sent again."""
        return self.body is None or isinstance(self.body, bytes)


class Response:
    """An answer whose body has not been read yet. Close it, or use it as a context manager."""

    def __init__(
        self, request: Request, raw: http.client.HTTPResponse, timeout: float, done: Callable[[bool], None]
    ) -> None:
        self.method = request.method
        self.url = request.url
        self.status = raw.status
        self.headers = raw.headers
        self.length = raw.length
        """Bytes of the body; None where the server does not say."""
        self._raw = raw
        self._timeout = timeout
        self._done: Callable[[bool], None] | None = done
        self._seen = 0
        self._complete = self.length == 0

    def chunks(self) -> Iterator[bytes]:
        """The body in pieces of at most 1 MiB.

        Raises:
            ContentMismatch: The connection ended before the announced length.
            RegistryUnreachable: It broke, stood still for the timeout, or was too slow to ever end.
        """
        started = time.monotonic()
        while not self._complete:
            piece = self._piece(CHUNK)
            if piece:
                yield piece
            late = time.monotonic() - started - 5 * self._timeout
            if late > 0 and self._seen < late * SLOWEST:
                raise self._unreachable(f"only {self._seen} bytes came in {late + 5 * self._timeout:.0f} s")

    def read(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            ProtocolViolation: It is longer than `limit` bytes.
            ContentMismatch: It ended early.
            RegistryUnreachable: The connection broke, or the body took longer than the timeout.
        """
        if self.length is not None and self.length > limit:
            raise ProtocolViolation(
                f"{self.method} {redact(self.url)}: expected at most {limit} bytes, found {self.length}"
            )
        parts: list[bytes] = []
        deadline = time.monotonic() + self._timeout
        while not self._complete:
            parts.append(self._piece(min(CHUNK, limit - self._seen + 1)))
            if self._seen > limit:
                raise ProtocolViolation(
                    f"{self.method} {redact(self.url)}: expected at most {limit} bytes, found more"
                )
            if time.monotonic() > deadline:
                raise self._unreachable(f"the body took longer than {self._timeout:.0f} s")
        return b"".join(parts)

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else end it."""
        if self._done is None:
            return
        done, self._done = self._done, None
        reusable = self._complete and not self._raw.will_close
        self._raw.close()
        done(reusable)

    def discard(self) -> None:
        """Read what is left if it is little, so that the connection can be kept, and close."""
        try:
            while not self._complete and self._seen < _DRAIN and (self.length or 0) <= _DRAIN:
                self._piece(_DRAIN)
        except DeliveryChainError:
            self._complete = False
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.discard()
        else:
            self.close()

    def _piece(self, size: int) -> bytes:
        # read1 gives what is there, so a deadline can be looked at between two pieces. Up to Python 3.11 it
        # does not count `length` down: without the bound it would wait for bytes of the next answer.
        left = size if self.length is None else min(size, self.length - self._seen)
        try:
            piece = self._raw.read1(left)
        except http.client.HTTPException as error:
            raise self._short() from error
        except OSError as error:
            raise self._unreachable(str(error) or type(error).__name__) from error
        self._seen += len(piece)
        if not piece:
            if self.length is not None:
                raise self._short()
            self._complete = True
        elif self._seen == self.length:
            self._complete = True
        return piece

    def _short(self) -> ContentMismatch:
        expected = "more" if self.length is None else f"{self.length} bytes"
        return ContentMismatch(
            f"{self.method} {redact(self.url)}: expected {expected}, the connection ended after "
            f"{self._seen} bytes. A retry fetches them again",
            method=self.method,
            url=redact(self.url),
            status=self.status,
        )

    def _unreachable(self, reason: str) -> RegistryUnreachable:
        return _unreachable(self.method, self.url, reason)


class Transport:
    """Connections for one registry and for the addresses that it sends us to. Safe to use from threads."""

    def __init__(self, registry: Registry, *, timeout: float) -> None:
        """Open nothing yet.

        Args:
            registry: Its CA is the only one trusted for its own host, and one more for other hosts.
            timeout: Seconds for a connect, and for each wait for bytes.
        """
        self._connector = Connector(registry, timeout=timeout)
        self._timeout = timeout
        self._idle: dict[Origin, list[http.client.HTTPConnection]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def send(self, request: Request) -> Response:
        """Send one request and wait for the answer's head. Redirects are not followed here.

        Raises:
            RegistryUnreachable: No connection, or it broke. Retryable.
            ProtocolViolation: What answers is not HTTP, or the address must not be used.
        """
        origin = Origin.parse(request.url)
        connection = self._take(origin)
        if connection is not None:
            try:
                return self._exchange(connection, origin, request)
            except RegistryUnreachable as error:
                # A kept connection that the server closed meanwhile says nothing about the server.
                if not request.replayable or not isinstance(
                    error.__cause__, ConnectionError | ssl.SSLEOFError
                ):
                    raise
        return self._exchange(self._connect(origin, request), origin, request)

    def _take(self, origin: Origin) -> http.client.HTTPConnection | None:
        with self._lock:
            idle = self._idle.get(origin)
            return idle.pop() if idle else None

    def _give_back(self, origin: Origin, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            idle = self._idle.setdefault(origin, [])
            if len(idle) < IDLE_CONNECTIONS:
                idle.append(connection)
                return
        connection.close()

    def _exchange(self, connection: http.client.HTTPConnection, origin: Origin, request: Request) -> Response:
        def done(reusable: bool) -> None:  # noqa: FBT001  # one caller
            if reusable:
                self._give_back(origin, connection)
            else:
                connection.close()

        try:
            raw = _speak(connection, request, self._connector.proxy_headers(origin))
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _translate(error, request) from error
        except BaseException:
            connection.close()
            raise
        return Response(request, raw, self._timeout, done)

    def _connect(self, origin: Origin, request: Request) -> http.client.HTTPConnection:
        try:
            return self._connector.open(origin)
        except (OSError, http.client.HTTPException) as error:
            raise _translate(error, request) from error


def _speak(
    connection: http.client.HTTPConnection, request: Request, proxy: Mapping[str, str] | None
) -> http.client.HTTPResponse:
    parts = urlsplit(request.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {**request.headers, **(proxy or {})}
    try:
        connection.request(
            request.method, target if proxy is None else request.url, body=request.body, headers=headers
        )
    except (BrokenPipeError, ConnectionResetError):
        # A server that refuses early stops reading; its answer says why, if it is still there.
        try:
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionResetError("the connection was closed while the request was sent") from error
        answer.will_close = True
        return answer
    return connection.getresponse()


def _translate(error: Exception, request: Request) -> DeliveryChainError:
    if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
        return ProtocolViolation(
            f"{request.method} {redact(request.url)}: expected an HTTP answer, found {type(error).__name__}. "
            "Check the host and port of the connection"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"its certificate can't be trusted ({error.verify_message}). Put its CA into the connection"
    elif isinstance(error, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(error):
        reason = "it does not speak TLS. If it is a plain-http registry, say so in the connection"
    elif isinstance(error, TimeoutError):
        reason = "no answer within the timeout"
    else:
        reason = (
            (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        )
    return _unreachable(request.method, request.url, reason)


def _unreachable(method: str, url: str, reason: str) -> RegistryUnreachable:
    return RegistryUnreachable(
        f"{method} {redact(url)}: {reason}. Check that the registry runs and can be reached from this worker",
        method=method,
        url=redact(url),
    )
