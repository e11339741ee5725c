"""HTTP session with one registry: authentication, redirects, errors and paging."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

from delivery_chain import __version__
from delivery_chain.errors import ProtocolViolation, RegistryUnreachable, Unauthorized
from delivery_chain.oci.http.address_guard import Origin, check_target
from delivery_chain.oci.http.auth import Authenticator, Scopes
from delivery_chain.oci.http.exchange import Outgoing, Request, Response
from delivery_chain.oci.http.transport import Transport
from delivery_chain.oci.http.wire import (
    MAX_ERROR_BODY,
    MAX_HEADER,
    Refusal,
    error_from,
    next_page,
    parse_challenges,
    redact,
    resolve,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from delivery_chain.core.names.registry import Registry

MAX_REDIRECTS = 5
"""Maximum redirects of one request: external blob storage takes one, a mirror in front of the registry another."""
MAX_PAGES = 1000
"""Maximum number of pages of one list: at 100 entries a page, more tags than a usable repository has."""
LIST_SECONDS = 180.0
"""Time limit in seconds for all pages of one list; each page also has the timeout of a request."""
PAGE_BYTES = 4 * 1024 * 1024
"""Maximum size of one page, in bytes: 1000 of the longest tags take a thirtieth of it."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Session:
    """A registry's address, login and connections. Thread-safe; close it when done."""

    def __init__(self, registry: Registry, *, timeout: float) -> None:
        """Create a session; connections are opened on first use.

        Args:
            registry: Address and login.
            timeout: Seconds for a connect, and for each read.
        """
        self.registry = registry
        self._home = Origin.parse(registry.base_url)
        self._transport = Transport(registry, timeout=timeout)
        self._auth = Authenticator(registry, self._transport.send, time.time)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def abort(self) -> None:
        """Break the connections in use: threads waiting on them get RegistryUnreachable."""
        self._transport.abort()

    def call(
        self,
        method: str,
        target: str,
        *,
        what: str,
        expect: frozenset[int],
        scopes: Scopes = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        follow: bool = False,
    ) -> Response:
        """Send one request, authenticate if the registry asks for it, and return an expected response.

        Args:
            method: `GET`, `HEAD`, `POST`, `PUT`, `PATCH` or `DELETE`.
            target: Path from `/v2/` on, or an absolute URL that the registry gave.
            what: Name of the resource for messages: `manifest shop/api:v1`.
            expect: Statuses of responses to return; all others are raised as errors.
            scopes: Token scopes of the request.
            headers: In addition to `Authorization` and `User-Agent`.
            body: Request body; use `stream` for more than fits into memory.
            follow: Whether to follow redirects; needed for blobs.

        Raises:
            RegistryError: The status is unexpected (see `wire.error_from`), or the connection failed
                (RegistryUnreachable).
        """
        url = f"{self._home}{target}" if target.startswith("/") else target
        request = Request(method, url, dict(headers or {}), body)
        login = self._auth.header(scopes) if self._is_home(url) else None
        response = self._send(request, login, follow=follow)
        if response.status == HTTPStatus.UNAUTHORIZED and self._is_home(response.url):
            refusal = _refusal(response)
            challenges = parse_challenges(response.headers.get_all("WWW-Authenticate") or ())
            try:
                login = self._auth.answer(challenges, scopes, login)
            except Unauthorized as error:
                # The error of the request names the resource; the error of the token does not.
                raise error_from(refusal, what=what, now=time.time()) from error
            response = self._send(request, login, follow=follow)
        return judged(response, what, expect)

    def stream(self, method: str, url: str, *, scopes: Scopes, headers: Mapping[str, str]) -> Outgoing:
        """Begin a request whose body is streamed. Pass its response to `judged`.

        The request can't be sent twice, so an expired login is an error here; the preceding request renews it.

        Args:
            method: `PUT` or `PATCH`.
            url: Absolute URL, as returned by `location`.
            scopes: Token scopes of the request.
            headers: Headers, including `Content-Length`.

        Raises:
            RegistryUnreachable: The connection could not be opened. Retryable.
        """
        login = self._auth.header(scopes) if self._is_home(url) else None
        return self._transport.open(Request(method, url, self._headers(headers, login)))

    def pages(self, path: str, *, what: str, scopes: Scopes, headers: Mapping[str, str]) -> Iterator[bytes]:
        """Yield the pages of a list, each at most 4 MiB; a page is requested when the previous one is consumed.

        Raises:
            ProtocolViolation: A page repeats or is on another origin, or the list has more than 1000 pages.
            RegistryUnreachable: The list took longer than 180 s. Retryable.
        """
        url: str | None = f"{self._home}{path}"
        seen: set[str] = set()
        until = time.monotonic() + LIST_SECONDS
        while url is not None:
            if seen and time.monotonic() >= until:
                raise RegistryUnreachable(
                    f"{what} at {self._home}: expected the whole list within {LIST_SECONDS:g} s, found it unfinished "
                    f"after {len(seen)} pages. Check whether the registry is slow, or sends an endless list",
                    url=str(self._home),
                )
            if url in seen or len(seen) >= MAX_PAGES:
                raise ProtocolViolation(
                    f"{what} at {self._home}: expected at most {MAX_PAGES} pages, each once, found more, or one twice"
                )
            seen.add(url)
            with self.call(
                "GET", url, what=what, expect=frozenset({HTTPStatus.OK}), scopes=scopes, headers=headers
            ) as response:
                page = response.read(PAGE_BYTES)
            yield page
            url = next_page(response.headers.get("Link", "")[: MAX_HEADER + 1], url)

    def location(self, response: Response, what: str) -> str:
        """Return the checked absolute URL of a `Location` header, where an upload continues.

        Raises:
            ProtocolViolation: The header is missing, or holds an address that the registry may not name.
        """
        value = response.headers.get("Location", "")
        if not value:
            raise ProtocolViolation(f"{what} at {self._home}: expected a Location header, found none")
        return self.checked(resolve(response.url, value))

    def checked(self, url: str) -> str:
        """Return `url` if this registry may name it.

        Raises:
            ProtocolViolation: The registry may not name this address.
        """
        check_target(self._home, Origin.parse(url), "location")
        return url

    def _is_home(self, url: str) -> bool:
        return Origin.parse(url) == self._home

    def _send(self, request: Request, login: str | None, *, follow: bool) -> Response:
        url = request.url
        for _ in range(MAX_REDIRECTS + 1):
            headers = self._headers(request.headers, login if self._is_home(url) else None)
            response = self._transport.send(Request(request.method, url, headers, request.body))
            if not follow or response.status not in _REDIRECTS:
                return response
            url = self._redirect(response, url)
        raise ProtocolViolation(
            f"{redact(request.url)}: expected at most {MAX_REDIRECTS} redirects, found more"
        )

    def _headers(self, headers: Mapping[str, str], login: str | None) -> dict[str, str]:
        named = {"User-Agent": f"airflow-delivery-chain/{__version__}", **headers}
        return named if login is None else {**named, "Authorization": login}

    def _redirect(self, response: Response, url: str) -> str:
        with response:
            target = self.location(response, "redirect")
        if Origin.parse(url).scheme == "https" and Origin.parse(target).scheme == "http":
            raise ProtocolViolation(f"{redact(url)}: expected a redirect to https, found one to plain http")
        return target


def judged(response: Response, what: str, expect: frozenset[int]) -> Response:
    """Return the response if its status was expected.

    Raises:
        RegistryError: The status is another one, see `wire.error_from`.
    """
    if response.status in expect:
        return response
    raise error_from(_refusal(response), what=what, now=time.time())


def _refusal(response: Response) -> Refusal:
    """Read a response with an unexpected status into a value; at most 64 KiB of the body are read."""
    with response:
        body = (
            b"" if response.method == "HEAD" or (response.length or 0) > MAX_ERROR_BODY else _some(response)
        )
    return Refusal(response.method, response.url, response.status, dict(response.headers), body)


def _some(response: Response) -> bytes:
    try:
        return response.read(MAX_ERROR_BODY)
    except ProtocolViolation:
        return b""
