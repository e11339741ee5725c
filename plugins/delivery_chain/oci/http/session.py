"""One registry, spoken to: a request goes out, an answer or an error comes back."""

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
"""Registries that keep blobs elsewhere send one, mirrors in front of them another."""
MAX_PAGES = 1000
"""Pages of one list: at 100 entries a page, more tags than a repository can have and still be usable."""
LIST_SECONDS = 180.0
"""Seconds that one list may take, all its pages together; the page under way has its own timeout."""
PAGE_BYTES = 4 * 1024 * 1024
"""Bytes of one page: 1000 of the longest tags are a thirtieth of it."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Session:
    """A registry's address, login and connections. Safe to use from threads; close it when done."""

    def __init__(self, registry: Registry, *, timeout: float) -> None:
        """Open nothing yet.

        Args:
            registry: Where to, and with which login.
            timeout: Seconds for a connect, and for each wait for bytes.
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
        """Close the kept connections."""
        self._transport.close()

    def abort(self) -> None:
        """Break the connections in use: threads that wait for them get RegistryUnreachable."""
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
        """Send one request, log in where the registry asks for it, and give an answer that was expected.

        Args:
            method: `GET`, `HEAD`, `POST`, `PUT`, `PATCH` or `DELETE`.
            target: Path from `/v2/` on, or an absolute URL that the registry gave.
            what: The thing that is asked for, for messages: `manifest shop/api:v1`.
            expect: Statuses that are answers; all others are raised as errors.
            scopes: The rights a token needs for this.
            headers: Beyond `Authorization` and `User-Agent`.
            body: What is sent; `stream` is for more than fits into memory.
            follow: Whether redirects are followed, for blobs.

        Raises:
            RegistryError: See `wire.error_from`; connections that fail are RegistryUnreachable.
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
                # The registry's own words say which thing it was about.
                raise error_from(refusal, what=what, now=time.time()) from error
            response = self._send(request, login, follow=follow)
        return judged(response, what, expect)

    def stream(self, method: str, url: str, *, scopes: Scopes, headers: Mapping[str, str]) -> Outgoing:
        """Begin a request whose body follows piece by piece. Its answer goes through `judged`.

        It can't be sent twice, so a login that is over now is an error; the request before it renews the login.

        Args:
            method: `PUT` or `PATCH`.
            url: Absolute; a checked `location`.
            scopes: The rights a token needs for this.
            headers: With `Content-Length`.

        Raises:
            RegistryUnreachable: No connection. Retryable.
        """
        login = self._auth.header(scopes) if self._is_home(url) else None
        return self._transport.open(Request(method, url, self._headers(headers, login)))

    def pages(self, path: str, *, what: str, scopes: Scopes, headers: Mapping[str, str]) -> Iterator[bytes]:
        """The pages of a list, each at most 4 MiB; the next is asked for when the one before was used.

        Raises:
            ProtocolViolation: A page comes twice, lies elsewhere, or there are more than 1000.
            RegistryUnreachable: The list took longer than 180 s. Retryable.
        """
        url: str | None = f"{self._home}{path}"
        seen: set[str] = set()
        until = time.monotonic() + LIST_SECONDS
        while url is not None:
            if seen and time.monotonic() >= until:
                raise RegistryUnreachable(
                    f"{what} at {self._home}: expected the whole list within {LIST_SECONDS:g} s, found it still going "
                    f"on after {len(seen)} pages. Look whether the registry is slow, or its list without an end",
                    url=str(self._home),
                )
            if url in seen or len(seen) >= MAX_PAGES:
                raise ProtocolViolation(
                    f"{what} at {self._home}: expected at most {MAX_PAGES} pages, found more, or one twice"
                )
            seen.add(url)
            with self.call(
                "GET", url, what=what, expect=frozenset({HTTPStatus.OK}), scopes=scopes, headers=headers
            ) as response:
                page = response.read(PAGE_BYTES)
            yield page
            url = next_page(response.headers.get("Link", "")[: MAX_HEADER + 1], url)

    def location(self, response: Response, what: str) -> str:
        """The absolute URL of a `Location` header, checked: where an upload goes on.

        Raises:
            ProtocolViolation: Missing, or an address that the registry may not send us to.
        """
        value = response.headers.get("Location", "")
        if not value:
            raise ProtocolViolation(f"{what} at {self._home}: expected a Location header, found none")
        return self.checked(resolve(response.url, value))

    def checked(self, url: str) -> str:
        """`url`, if it is one that this registry may send us to.

        Raises:
            ProtocolViolation: It is not.
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
    """The answer, if its status is one that was expected.

    Raises:
        RegistryError: See `wire.error_from`.
    """
    if response.status in expect:
        return response
    raise error_from(_refusal(response), what=what, now=time.time())


def _refusal(response: Response) -> Refusal:
    """The answer as a value; what is beyond 64 KiB of an error's body is not waited for."""
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
