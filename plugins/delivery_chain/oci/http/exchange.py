"""One request and its response: bodies streamed both ways, bounded, with a deadline on every wait."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from delivery_chain.errors import DeliveryChainError, ProtocolViolation, RegistryUnreachable
from delivery_chain.oci.http.wire import redact

CHUNK = 1024 * 1024
"""Bytes per socket read: larger reads take more memory and gain nothing."""
SLOWEST = 1024
"""Bytes per second: a body slower than this for five timeouts in a row counts as stalled."""
_DRAIN = 64 * 1024
_REFUSED_EARLY = (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError)

Done = Callable[[bool], None]
"""Releases a connection; the argument says whether it can be reused."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request small enough to be sent again."""

    method: str
    url: str
    """Absolute."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


class Response:
    """A response with an unread body. Close it, or use it as a context manager."""

    def __init__(self, request: Request, raw: http.client.HTTPResponse, timeout: float, done: Done) -> None:
        self.method = request.method
        self.url = request.url
        self.status = raw.status
        self.headers = raw.headers
        self.length = raw.length
        """Bytes of the body; None if the server does not say."""
        self._raw = raw
        self._timeout = timeout
        self._done: Done | None = done
        self._seen = 0
        self._complete = self.length == 0
        self._started = time.monotonic()

    def readinto(self, view: memoryview) -> int:
        """Read available bytes of the body into `view`.

        Returns:
            Number of bytes read, at least one; 0 at the end of the body.

        Raises:
            RegistryUnreachable: The body broke off, ended early, stalled for the timeout, or arrives far too slowly.
        """
        if self._complete:
            return 0
        size = self._receive(view if self.length is None else view[: self.length - self._seen])
        late = time.monotonic() - self._started - 5 * self._timeout
        if late > 0 and self._seen < late * SLOWEST:
            raise self._unreachable(f"only {self._seen} bytes came in {late + 5 * self._timeout:.0f} s")
        return size

    def read(self, limit: int) -> bytes:
        """Read the whole body.

        Raises:
            ProtocolViolation: The body is longer than `limit` bytes.
            RegistryUnreachable: The connection broke or ended early, or the body took longer than the timeout.
        """
        if self.length is not None and self.length > limit:
            raise ProtocolViolation(
                f"{self.method} {redact(self.url)}: expected at most {limit} bytes, found {self.length}"
            )
        found = bytearray()
        buffer = memoryview(bytearray(min(_DRAIN, self.length or _DRAIN)))
        deadline = time.monotonic() + self._timeout
        while size := self.readinto(buffer):
            found += buffer[:size]
            if len(found) > limit:
                raise ProtocolViolation(
                    f"{self.method} {redact(self.url)}: expected at most {limit} bytes, found more"
                )
            if time.monotonic() > deadline:
                raise self._unreachable(f"the body took longer than {self._timeout:.0f} s")
        return bytes(found)

    def close(self) -> None:
        """Release the connection for reuse if the body was read to its end, otherwise close it."""
        if self._done is None:
            return
        done, self._done = self._done, None
        reusable = self._complete and not self._raw.will_close
        self._raw.close()
        done(reusable)

    def discard(self) -> None:
        """Close the response; if little of the body is left, drain it first, so that the connection can be reused."""
        buffer = memoryview(bytearray(min(_DRAIN, self.length or 4096)))
        try:
            while not self._complete and self._seen < _DRAIN and (self.length or 0) <= _DRAIN:
                self._receive(buffer)
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

    def _receive(self, view: memoryview) -> int:
        # One system call per read, so that the deadline is checked in between.
        try:
            if self._raw.chunked:
                piece = self._raw.read1(len(view))
                size = len(piece)
                view[:size] = piece
            else:
                size = self._raw.fp.readinto1(view)
        except http.client.HTTPException as error:
            raise self._short() from error
        except OSError as error:
            raise self._unreachable(str(error) or type(error).__name__) from error
        self._seen += size
        if not size and self.length is not None:
            raise self._short()
        self._complete = not size or self._seen == self.length
        return size

    def _short(self) -> RegistryUnreachable:
        expected = "more" if self.length is None else f"{self.length} bytes"
        return self._unreachable(f"expected {expected}, the connection ended after {self._seen} bytes")

    def _unreachable(self, reason: str) -> RegistryUnreachable:
        return unreachable(self.method, self.url, reason)


class Outgoing:
    """A request whose body is still being sent. End it with `answer` or `abort`."""

    def __init__(
        self, request: Request, connection: http.client.HTTPConnection, timeout: float, done: Done
    ) -> None:
        self._request = request
        self._connection = connection
        self._timeout = timeout
        self._done = done
        self._early: Response | None = None
        self._ended = False

    def write(self, piece: memoryview) -> bool:
        """Send bytes.

        Returns:
            False if the server responded before reading all of the body; `answer` returns its response.

        Raises:
            RegistryUnreachable: The connection broke, or accepted no bytes for the length of the timeout.
        """
        if self._early is not None:
            return False
        try:
            # Not `sendall`: its timeout covers all bytes, which is too short for slow links.
            while piece:
                piece = piece[self._connection.sock.send(piece) :]
        except _REFUSED_EARLY as error:
            self._early = self._early_answer(error)
            return False
        except OSError as error:
            self.abort()
            raise translate(error, self._request) from error
        return True

    def answer(self) -> Response:
        """Wait for the server's response.

        Raises:
            RegistryUnreachable: No response came.
            ProtocolViolation: The response is not HTTP.
        """
        if self._early is not None:
            return self._early
        try:
            return self._response(self._connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            self.abort()
            raise translate(error, self._request) from error

    def abort(self) -> None:
        """Close the connection, so that the server sees a truncated body."""
        if not self._ended:
            self._ended = True
            self._done(False)  # noqa: FBT003  # the only argument

    def _response(self, raw: http.client.HTTPResponse) -> Response:
        self._ended = True
        return Response(self._request, raw, self._timeout, self._done)

    def _early_answer(self, error: Exception) -> Response:
        # A server that rejects a request early stops reading the body; its response, if it arrived, says why.
        try:
            raw = self._connection.getresponse()
        except (OSError, http.client.HTTPException):
            self.abort()
            lost = ConnectionResetError("the connection was closed while the request was being sent")
            raise translate(lost, self._request) from error
        raw.will_close = True
        return self._response(raw)


def translate(error: Exception, request: Request) -> DeliveryChainError:
    """Map a failed exchange to an error of this project."""
    if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
        return ProtocolViolation(
            f"{request.method} {redact(request.url)}: expected an HTTP response, found {type(error).__name__}. "
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
    return unreachable(request.method, request.url, reason)


def unreachable(method: str, url: str, reason: str) -> RegistryUnreachable:
    """Build the error for a server that can't be reached."""
    return RegistryUnreachable(
        f"{method} {redact(url)}: {reason}. Check that the registry runs and can be reached from this worker",
        method=method,
        url=redact(url),
    )
