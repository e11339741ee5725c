"""Client for Airflow's public REST API: one address, one login, plain requests. Needs no local Airflow.

Secrets come from the environment and are sent only in headers and bodies; they never appear in messages.
"""

from __future__ import annotations

import ipaddress
import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

import requests
from urllib3.exceptions import HTTPError

from delivery_chain.errors import AirflowUnreachable, ConfigurationError, ToolError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_SECONDS = 30.0
"""Seconds for a connect, for each read, and for a whole response body."""
LARGEST_ANSWER = 8 * 1024 * 1024
"""Maximum size of a response, in bytes. A page of 100 Dags takes some 200 KB."""
SHOWN = 600
"""Maximum number of characters of server text in a message."""
UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 401, 403, 404
TOKEN, USER, PASSWORD = "AIRFLOW_API_TOKEN", "AIRFLOW_API_USERNAME", "AIRFLOW_API_PASSWORD"
WRONG_TOKEN = "Invalid JWT token"  # noqa: S105 - text of a response
"""Airflow's message, with status 403, for a token that it did not issue; an expired one gets status 401."""
_SECRET = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Login:
    """A token, or a user and password to exchange for one."""

    token: str = field(default="", repr=False)
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read `AIRFLOW_API_TOKEN`, or else `AIRFLOW_API_USERNAME` and `AIRFLOW_API_PASSWORD`.

        Raises:
            ConfigurationError: None of them is set, only one of user and password is, or the token is malformed.
        """
        token = environment.get(TOKEN, "").strip()
        if token:
            # Check it here: the error of requests for an invalid header would show the token.
            if not _SECRET.fullmatch(token):
                raise ConfigurationError(f"{TOKEN}: expected a token without spaces, found something else")
            return cls(token=token)
        user, password = environment.get(USER, ""), environment.get(PASSWORD, "")
        if user and password:
            return cls(user=user, password=password)
        missing = [name for name, value in ((USER, user), (PASSWORD, password)) if not value]
        if len(missing) == 1:
            raise ConfigurationError(f"{missing[0]} is not set: user and password are needed together")
        raise ConfigurationError(
            f"no login for Airflow: set {TOKEN}, or {USER} and {PASSWORD}, in the environment"
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """Response of the server."""

    status: int
    data: dict[str, Any]
    """The JSON object; empty if the body is not one."""
    text: str
    """The server's reason, at most 600 characters, without control characters."""

    @property
    def ok(self) -> bool:
        """Whether the status means success."""
        return 200 <= self.status < 300  # noqa: PLR2004 - RFC 9110 section 15.3

    @property
    def unknown(self) -> bool:
        """Whether the server rejected the token itself, rather than its permissions."""
        return self.status == UNAUTHORIZED or (self.status == FORBIDDEN and self.text == WRONG_TOKEN)


def check_address(url: str, *, allow_http: bool = False) -> str:
    """Return an Airflow address without a trailing slash or `/api/v2`.

    Raises:
        UsageError: The address is not http(s), carries a login or query, or would expose the login to the network.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in {"http", "https"} or not host or re.search(r"[\x00-\x20\x7f]", url):
        # A malformed address may hold a password anywhere.
        found = "" if "@" in url else f", found {url[:200]!r}"
        raise UsageError(f"Airflow's address: expected one such as https://airflow.example.com{found}")
    if "@" in parts.netloc:
        raise UsageError(
            f"Airflow's address at {host}: expected no login in it; set {TOKEN} in the environment instead"
        )
    if parts.query or parts.fragment:
        raise UsageError(f"Airflow's address at {host}: expected no query and no fragment")
    if parts.scheme == "http" and not allow_http and not is_loopback(host):
        raise UsageError(
            f"{parts.scheme}://{parts.netloc}: the login would cross the network in the clear; use https, "
            "or --allow-http on a trusted network"
        )
    return url.rstrip("/").removesuffix("/api/v2").rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host name or address denotes this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def part(text: str) -> str:
    """Quote a string as one path segment."""
    return quote(text, safe="")


class AirflowServer:
    """Session with one Airflow server. Use it as a context manager."""

    def __init__(self, address: str, login: Login, *, timeout: float = TIMEOUT_SECONDS) -> None:
        """Create a session; nothing is sent yet.

        Args:
            address: From `check_address`.
            login: Without a token, one is requested before the first request.
            timeout: Timeout in seconds, see `TIMEOUT_SECONDS`.
        """
        self.address = address
        self._login = login
        self._token = login.token
        self._timeout = timeout
        self._session = requests.Session()
        # No compression: it would allow zip bombs, and decoders wait for more input than has arrived.
        self._session.headers["Accept-Encoding"] = "identity"
        # Never use the environment's proxies for this machine itself.
        host = urlsplit(address).hostname or ""
        self._proxies = {"no_proxy": host} if is_loopback(host) else None
        # Without this, a login from ~/.netrc would replace the token.
        self._session.auth = self._sign

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def log_in(self) -> bool:
        """Request a token if there is none yet; return whether one was requested.

        Raises:
            AirflowUnreachable: The server did not answer.
            ToolError: The login gets no token, or the server is not Airflow.
        """
        fresh = not self._token
        if fresh:
            self._token = self._new_token()
        return fresh

    def call(
        self,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        query: Mapping[str, str | int] | None = None,
        below: str = "/api/v2",
    ) -> Answer:
        """Send one request to a path `below` Airflow's REST API, or to another path of its server.

        An expired token is renewed once.

        Raises:
            AirflowUnreachable: The server did not answer.
            ToolError: The response is a redirect or too large, TLS is not trusted, or the login was rejected.
        """
        fresh = self.log_in()
        answer = self._send(method, below + path, body, query)
        if answer.unknown and self._login.user and not fresh:
            self._token = self._new_token()
            answer = self._send(method, below + path, body, query)
        if answer.unknown:
            raise ToolError(self._not_taken(answer), tool="airflow")
        return answer

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def _new_token(self) -> str:
        self._token = ""
        body = {"username": self._login.user, "password": self._login.password}
        answer = self._send("POST", "/auth/token", body, None)
        token = answer.data.get("access_token")
        if answer.ok and isinstance(token, str) and _SECRET.fullmatch(token):
            return token
        where = f"{self.address}/auth/token"
        if answer.status in {UNAUTHORIZED, FORBIDDEN}:
            raise ToolError(
                f"{where}: Airflow rejects {USER} and {PASSWORD} (status {answer.status}); "
                "try them in the UI's login form",
                tool="airflow",
            )
        raise ToolError(
            f"{where}: expected a token for {USER} and {PASSWORD}, found status {answer.status}; if this Airflow's "
            f"auth manager issues tokens in another way, set {TOKEN}",
            tool="airflow",
        )

    def _not_taken(self, answer: Answer) -> str:
        if self._login.user:
            return (
                f"{self.address}: Airflow rejects the token that it issued (status {answer.status}: {answer.text}); "
                "check that its API servers share one [api_auth] jwt_secret"
            )
        return (
            f"{self.address}: Airflow rejects {TOKEN} (status {answer.status}: {answer.text}); the token has "
            f"expired, or belongs to another server. Get a new one from POST /auth/token with a user and password, or "
            f"set {USER} and {PASSWORD}"
        )

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None, query: Mapping[str, str | int] | None
    ) -> Answer:
        url = self.address + path
        try:
            with self._session.request(
                method,
                url,
                json=body,
                params=query,
                timeout=self._timeout,
                proxies=self._proxies,
                # A redirect would send the login to whatever address the response names.
                allow_redirects=False,
                stream=True,
            ) as response:
                return self._read(response, url)
        except requests.Timeout as error:
            raise AirflowUnreachable(
                f"{url}: no answer within {self._timeout:g} s", tool="airflow"
            ) from error
        except requests.exceptions.SSLError as error:
            raise ToolError(
                f"{url}: no trusted TLS connection: {_innermost(error)}; if the server has a private CA, "
                "name its PEM file in REQUESTS_CA_BUNDLE",
                tool="airflow",
            ) from error
        except (requests.RequestException, HTTPError, UnicodeError) as error:
            raise AirflowUnreachable(
                f"{url}: no answer from Airflow: {_innermost(error)}", tool="airflow"
            ) from error

    def _read(self, response: requests.Response, url: str) -> Answer:
        until = time.monotonic() + self._timeout
        content = b""
        # `read1` returns whatever is available. `iter_content` would wait for a whole chunk, and a slow server could
        # stretch that to one timeout per byte.
        while chunk := response.raw.read1(65536, decode_content=True):
            content += chunk
            if len(content) > LARGEST_ANSWER:
                raise ToolError(
                    f"{url}: expected an answer of at most {LARGEST_ANSWER} bytes, found more", tool="airflow"
                )
            if time.monotonic() > until:
                raise AirflowUnreachable(
                    f"{url}: the answer was not complete after {self._timeout:g} s", tool="airflow"
                )
        if response.is_redirect:
            goal = urlsplit(response.headers.get("Location", ""))
            raise ToolError(
                f"{url}: redirects to {clean(f'{goal.scheme}://{goal.netloc}{goal.path}')}, but the login is not sent "
                "there; give the final address",
                tool="airflow",
            )
        return _answer(response.status_code, content)


def _answer(status: int, content: bytes) -> Answer:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    data = found if isinstance(found, dict) else {}
    return Answer(
        status, data, clean(_reason(data.get("detail")) if data else content.decode(errors="replace"))
    )


def _reason(detail: Any) -> str:
    """Format Airflow's `detail`: a string, an object with a reason, or FastAPI's list of invalid fields."""
    if isinstance(detail, list):
        return "; ".join(_reason(one) for one in detail)
    if isinstance(detail, dict):
        place = detail.get("loc")
        words = str(detail.get("msg") or detail.get("reason") or "")
        return f"{'.'.join(map(str, place))}: {words}" if isinstance(place, list) else words
    return "" if detail is None else str(detail)


def clean(text: str, longest: int = SHOWN) -> str:
    """Cut text from a server to `longest` characters, and drop characters that a terminal would interpret."""
    words = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text[:longest])
    return words.strip()


def _innermost(error: BaseException) -> str:
    """Return the innermost message of an error, because requests and urllib3 wrap it several times."""
    for _ in range(8):
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((one for one in error.args if isinstance(one, BaseException)), error.__cause__)
        if inner is None:
            break
        error = inner
    words = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error)
    return clean(str(words)) or type(error).__name__
