"""Airflow's public REST API from outside: one address, one login, plain requests. Needs no Airflow on this machine.

Secrets come from the environment, go into headers and bodies only, and are in no message.
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
"""Of a connection, of each silence, and of an answer's body as a whole."""
LARGEST_ANSWER = 8 * 1024 * 1024
"""Bytes. A page of 100 Dags has some 200 KB."""
SHOWN = 600
"""Characters of a server's own words in a message."""
UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 401, 403, 404
TOKEN, USER, PASSWORD = "AIRFLOW_API_TOKEN", "AIRFLOW_API_USERNAME", "AIRFLOW_API_PASSWORD"
WRONG_TOKEN = "Invalid JWT token"  # noqa: S105 - words of an answer
"""Airflow's words, with status 403, for a token that it has not made; for one that has expired it has status 401."""
_SECRET = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Login:
    """A token, or a user and password that are exchanged for one."""

    token: str = field(default="", repr=False)
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read `AIRFLOW_API_TOKEN`, else `AIRFLOW_API_USERNAME` and `AIRFLOW_API_PASSWORD`.

        Raises:
            ConfigurationError: None or half of them is set, or the token is none.
        """
        token = environment.get(TOKEN, "").strip()
        if token:
            # requests would show a header that it does not take.
            if not _SECRET.fullmatch(token):
                raise ConfigurationError(f"{TOKEN}: expected a token without blanks, found something else")
            return cls(token=token)
        user, password = environment.get(USER, ""), environment.get(PASSWORD, "")
        if user and password:
            return cls(user=user, password=password)
        missing = [name for name, value in ((USER, user), (PASSWORD, password)) if not value]
        if len(missing) == 1:
            raise ConfigurationError(f"{missing[0]} is not set, but its other half is")
        raise ConfigurationError(
            f"no login for Airflow: set {TOKEN}, or {USER} and {PASSWORD}, in the environment"
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    data: dict[str, Any]
    """The JSON object; empty where it is none."""
    text: str
    """The server's own reason, in at most 600 characters without control characters."""

    @property
    def ok(self) -> bool:
        """Whether the status tells of success."""
        return 200 <= self.status < 300  # noqa: PLR2004 - RFC 9110 section 15.3

    @property
    def unknown(self) -> bool:
        """Whether the token was not taken, whatever it may do."""
        return self.status == UNAUTHORIZED or (self.status == FORBIDDEN and self.text == WRONG_TOKEN)


def check_address(url: str, *, allow_http: bool = False) -> str:
    """The address of an Airflow without a slash or `/api/v2` at its end.

    Raises:
        UsageError: It is no http(s) address, carries a login or query, or would show the login to the network.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in {"http", "https"} or not host or re.search(r"[\x00-\x20\x7f]", url):
        # An address that can't be read may hold a password anywhere.
        found = "" if "@" in url else f", found {url[:200]!r}"
        raise UsageError(f"Airflow's address: expected one such as https://airflow.example.com{found}")
    if "@" in parts.netloc:
        raise UsageError(
            f"Airflow's address at {host}: carries a login; set {TOKEN} in the environment instead"
        )
    if parts.query or parts.fragment:
        raise UsageError(f"Airflow's address at {host}: expected no query and no fragment")
    if parts.scheme == "http" and not allow_http and not is_loopback(host):
        raise UsageError(
            f"{parts.scheme}://{parts.netloc}: the login would cross the network in the clear; use https, "
            "or --allow-http where the way is safe"
        )
    return url.rstrip("/").removesuffix("/api/v2").rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def part(text: str) -> str:
    """A text as one part of a path."""
    return quote(text, safe="")


class AirflowServer:
    """One login at one Airflow. A context manager."""

    def __init__(self, address: str, login: Login, *, timeout: float = TIMEOUT_SECONDS) -> None:
        """Nothing is sent yet.

        Args:
            address: From `check_address`.
            login: The token is asked for with the first request, where it is not given.
            timeout: Seconds, see `TIMEOUT_SECONDS`.
        """
        self.address = address
        self._login = login
        self._token = login.token
        self._timeout = timeout
        self._session = requests.Session()
        # Neither a zip bomb nor a decoder that waits for more.
        self._session.headers["Accept-Encoding"] = "identity"
        # The environment's proxies are not asked for this machine itself.
        host = urlsplit(address).hostname or ""
        self._proxies = {"no_proxy": host} if is_loopback(host) else None
        # A login of ~/.netrc would replace ours otherwise.
        self._session.auth = self._sign

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def log_in(self) -> bool:
        """Get a token, where there is none yet; whether it is a new one.

        Raises:
            AirflowUnreachable: No answer.
            ToolError: There is no token for this login, or the server is none of Airflow's.
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
        """Send one request `below` Airflow's REST API, or another path of its server.

        A token that has expired is exchanged for a new one, once.

        Raises:
            AirflowUnreachable: No answer.
            ToolError: A redirect, no trusted TLS, an endless answer, or the login is not taken.
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
                f"{where}: Airflow does not take {USER} and {PASSWORD} (status {answer.status}); "
                "try them in the UI's login form",
                tool="airflow",
            )
        raise ToolError(
            f"{where}: expected a token for {USER} and {PASSWORD}, found status {answer.status}; where this Airflow's "
            f"auth manager gives tokens in another way, set {TOKEN}",
            tool="airflow",
        )

    def _not_taken(self, answer: Answer) -> str:
        if self._login.user:
            return (
                f"{self.address}: Airflow gave a token and does not take it (status {answer.status}: {answer.text}); "
                "do its API servers share one [api_auth] jwt_secret?"
            )
        return (
            f"{self.address}: Airflow does not take {TOKEN} (status {answer.status}: {answer.text}); it has "
            f"expired or is of another server. POST /auth/token with a user and password gives a new one, or set "
            f"{USER} and {PASSWORD}"
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
                # The login would go along to whatever the answer names.
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
                f"{url}: no trusted TLS connection: {_innermost(error)}; where the server's CA is your own, "
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
        # `read1` gives what has come; `iter_content` would wait for a whole chunk, a timeout for each byte of it.
        while chunk := response.raw.read1(65536, decode_content=True):
            content += chunk
            if len(content) > LARGEST_ANSWER:
                raise ToolError(
                    f"{url}: expected an answer of at most {LARGEST_ANSWER} bytes", tool="airflow"
                )
            if time.monotonic() > until:
                raise AirflowUnreachable(
                    f"{url}: the answer was not whole after {self._timeout:g} s", tool="airflow"
                )
        if response.is_redirect:
            goal = urlsplit(response.headers.get("Location", ""))
            raise ToolError(
                f"{url}: redirects to {clean(f'{goal.scheme}://{goal.netloc}{goal.path}')}, which the login does not "
                "follow; give the address that answers by itself",
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
    """Airflow's `detail`: a text, an object with a reason, or FastAPI's list of wrong fields."""
    if isinstance(detail, list):
        return "; ".join(_reason(one) for one in detail)
    if isinstance(detail, dict):
        place = detail.get("loc")
        words = str(detail.get("msg") or detail.get("reason") or "")
        return f"{'.'.join(map(str, place))}: {words}" if isinstance(place, list) else words
    return "" if detail is None else str(detail)


def clean(text: str, longest: int = SHOWN) -> str:
    """A server's words, cut to `longest` characters, without what a terminal would obey."""
    words = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text[:longest])
    return words.strip()


def _innermost(error: BaseException) -> str:
    """What the system said: requests and urllib3 wrap it several times."""
    for _ in range(8):
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((one for one in error.args if isinstance(one, BaseException)), error.__cause__)
        if inner is None:
            break
        error = inner
    words = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error)
    return clean(str(words)) or type(error).__name__
