"""Authenticate anonymously, by Basic, or by a bearer token scoped to the repositories in use.

Source: RFC 7617; distribution "Token Authentication Specification".
"""

from __future__ import annotations

import base64
import re
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from delivery_chain.errors import ConfigurationError, ProtocolViolation, Unauthorized
from delivery_chain.oci import json_fields
from delivery_chain.oci.http.address_guard import Origin, check_target
from delivery_chain.oci.http.exchange import Request, Response
from delivery_chain.oci.http.wire import MAX_ERROR_BODY, Challenge, Refusal, error_from, redact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from delivery_chain.core.names.registry import Registry

MAX_TOKEN_BODY = 256 * 1024
"""Maximum size of a token response, in bytes: a token with many scopes takes a few KiB."""
DEFAULT_LIFE = 60.0
"""Default token lifetime in seconds, from the token spec."""
MARGIN = 15.0
"""Seconds before its expiry at which a token is renewed, since a request takes a while to arrive."""
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,65536}")

Scopes = tuple[str, ...]
"""Token scopes of one request, such as `("repository:shop/api:pull,push",)`."""


def repository_scope(name: str, actions: str) -> str:
    """Return the token scope for `actions` (`pull`, `pull,push`, `delete`) on one repository."""
    return f"repository:{name}:{actions}"


@dataclass(frozen=True, slots=True)
class _Realm:
    url: str
    service: str


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    until: float


class Authenticator:
    """Source of `Authorization` headers for one registry. Thread-safe."""

    def __init__(
        self, registry: Registry, send: Callable[[Request], Response], clock: Callable[[], float]
    ) -> None:
        """Start without a header: the registry's first 401 names the scheme.

        Args:
            registry: The registry. Its credentials go only to the registry itself and to its checked token realm.
            send: Sends the token request; redirects are not followed.
            clock: Returns seconds since the epoch.
        """
        self._registry = registry
        self._home = Origin.parse(registry.base_url)
        self._send = send
        self._clock = clock
        self._basic = False
        self._realm: _Realm | None = None
        self._tokens: dict[Scopes, _Token] = {}
        self._lock = threading.Lock()

    def header(self, scopes: Scopes) -> str | None:
        """Return the header for a request, or None if the registry has not asked for one.

        Raises:
            Unauthorized: The token server rejects the login.
        """
        with self._lock:
            if self._basic:
                return self._login()
            if self._realm is None:
                return None
            token = self._tokens.get(scopes)
            if token is None or token.until <= self._clock():
                token = self._tokens[scopes] = self._fetch(self._realm, scopes)
            return f"Bearer {token.value}"

    def answer(self, challenges: Sequence[Challenge], scopes: Scopes, sent: str | None) -> str:
        """Return the header for a retry after a 401.

        Args:
            challenges: Challenges in the 401 response.
            scopes: Scopes of the request. The scope in the challenge is ignored: with it, a registry could ask for
                access to a repository of another registry that shares its token server.
            sent: The header that was rejected; None if none was sent.

        Raises:
            Unauthorized: No login is configured, or the login was just rejected.
            ProtocolViolation: Credentials may not be sent to the realm.
        """
        bearer = next((c for c in challenges if c.scheme == "bearer"), None)
        with self._lock:
            if bearer is not None:
                self._realm = self._checked_realm(bearer)
                known = self._tokens.get(scopes)
                # Another thread may have fetched a new token since this request was sent.
                if known is None or sent == f"Bearer {known.value}" or known.until <= self._clock():
                    known = self._tokens[scopes] = self._fetch(self._realm, scopes)
                return f"Bearer {known.value}"
            if any(c.scheme == "basic" for c in challenges):
                return self._try_basic(sent)
        offered = ", ".join(sorted({c.scheme for c in challenges})) or "nothing"
        raise ProtocolViolation(
            f"{self._home}: expected a Basic or Bearer challenge with HTTP 401, found {offered}"
        )

    def _try_basic(self, sent: str | None) -> str:
        login = self._login()
        if not self._registry.username or sent == login:
            missing = "was rejected" if self._registry.username else "is missing"
            raise Unauthorized(
                f"{self._home}: the login {missing} (HTTP 401). Check login and password of the "
                f"connection for host {self._registry.host}",
                url=str(self._home),
                status=401,
            )
        self._basic = True
        return login

    def _login(self) -> str:
        username = self._registry.username
        if ":" in username:
            raise ConfigurationError(
                f"login of the connection for host {self._registry.host}: a user name can't hold ':'"
            )
        return f"Basic {base64.b64encode(f'{username}:{self._registry.password}'.encode()).decode()}"

    def _checked_realm(self, challenge: Challenge) -> _Realm:
        url = challenge.parameters.get("realm", "")
        check_target(self._home, Origin.parse(url), "token realm")
        return _Realm(url, challenge.parameters.get("service", ""))

    def _fetch(self, realm: _Realm, scopes: Scopes) -> _Token:
        pairs = [("service", realm.service)] if realm.service else []
        query = urlencode([*pairs, *(("scope", scope) for scope in scopes)], safe=":/,")
        url = f"{realm.url}{'&' if '?' in realm.url else '?'}{query}"
        headers = {"Accept": "application/json"}
        if self._registry.username:
            headers["Authorization"] = self._login()
        with self._send(Request("GET", url, headers)) as response:
            if response.status != HTTPStatus.OK:
                body = response.read(MAX_ERROR_BODY)
                refusal = Refusal("GET", url, response.status, dict(response.headers), body)
                raise self._refused(refusal, scopes)
            return self._read(response.read(MAX_TOKEN_BODY), url)

    def _refused(self, refusal: Refusal, scopes: Scopes) -> Exception:
        what = f"token for {' '.join(scopes) or 'no scope'}, as the registry {self._home} asks,"
        error = error_from(refusal, what=what, now=self._clock())
        if not isinstance(error, Unauthorized):
            return error
        return Unauthorized(
            f"{error}. The login is the one of the connection for host {self._registry.host}",
            method=error.method,
            url=error.url,
            status=error.status,
            codes=error.codes,
        )

    def _read(self, body: bytes, url: str) -> _Token:
        what = f"token from {redact(url)}"
        data = json_fields.load_object(body, what)
        value = json_fields.text(data, "token", what) or json_fields.text(
            data, "access_token", what, required=True
        )
        if not _TOKEN.fullmatch(value):
            raise ProtocolViolation(f"{what}: expected a token of [A-Za-z0-9._~+/=-], found other characters")
        life = (
            float(json_fields.number(data, "expires_in", what))
            if data.get("expires_in") is not None
            else DEFAULT_LIFE
        )
        return _Token(value, self._clock() + max(life - MARGIN, life / 2))
