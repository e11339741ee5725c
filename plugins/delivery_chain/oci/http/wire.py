"""Interpret registry responses without I/O: errors, challenges, paging, `Retry-After`; redact URLs.

Source: OCI distribution spec 1.1, "Error Codes"; RFC 9110 sections 10.2.3 and 11.6.1; RFC 8288.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit

from delivery_chain.errors import (
    ContentMismatch,
    NotFound,
    ProtocolViolation,
    RegistryBusy,
    RegistryError,
    RegistryFailure,
    TagConflict,
    Unauthorized,
)
from delivery_chain.oci.http.address_guard import Origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_ERROR_BODY = 64 * 1024
"""Maximum number of bytes to read of an error body: real ones are far below 4 KiB."""
MAX_HEADER = 8 * 1024
"""Maximum number of characters of a `WWW-Authenticate` or `Link` header."""
MAX_WAIT = 3600.0
"""Upper limit of `Retry-After` in seconds, so that one response can't park a task for a day."""

_FULL = re.compile(r"quota|exceed\S*\s.*\blimit|insufficient.storage", re.IGNORECASE)
"""Wordings of an exhausted quota; Harbor's is `… will exceed the configured upper limit of …`."""
_SHOWN_KEYS = frozenset({"scope", "service", "mount", "from", "digest", "n", "last", "artifactType"})

_BY_CODE: Mapping[str, type[RegistryError]] = {
    "UNAUTHORIZED": Unauthorized,
    "DENIED": Unauthorized,
    "TOOMANYREQUESTS": RegistryBusy,
    "NAME_UNKNOWN": NotFound,
    "MANIFEST_UNKNOWN": NotFound,
    "BLOB_UNKNOWN": NotFound,
    "MANIFEST_BLOB_UNKNOWN": NotFound,
    "DIGEST_INVALID": ContentMismatch,
    "SIZE_INVALID": ContentMismatch,
    # The upload session has expired; a new one may work.
    "BLOB_UPLOAD_UNKNOWN": RegistryFailure,
    "BLOB_UPLOAD_INVALID": RegistryFailure,
    "TAG_CONFLICT": TagConflict,
    "TAG_IMMUTABLE": TagConflict,
    "TAG_ALREADY_EXISTS": TagConflict,
}
_BY_STATUS: Mapping[int, type[RegistryError]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    408: RegistryBusy,
    409: TagConflict,
    425: RegistryBusy,
    429: RegistryBusy,
    503: RegistryBusy,
}
_STATUS_FIRST = frozenset({401, 403, 429, 503})
"""Statuses with a fixed meaning, whatever the body says."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a 401."""

    scheme: str
    """Lowercase: `basic` or `bearer`; others are not supported."""
    parameters: Mapping[str, str]
    """Names in lowercase: `realm`, `service`, `scope`, `error`."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response with an unexpected status."""

    method: str
    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    """Start of the body, at most 64 KiB."""


def error_from(refusal: Refusal, *, what: str, now: float) -> RegistryError:
    """Map a response to an error; the one place where status and code decide whether a retry helps.

    Args:
        refusal: The response.
        what: Name of the requested resource: `manifest shop/api:v1`.
        now: Seconds since the epoch, for a `Retry-After` that is a date.
    """
    origin = Origin.parse(refusal.url)
    codes, message = _codes(refusal.body)
    kind = _kind(refusal, codes, message)
    found = (
        f"HTTP {refusal.status}"
        + (f" ({', '.join(codes)})" if codes else "")
        + (f": {message}" if message else "")
    )
    wait = parse_retry_after(refusal.headers.get("Retry-After", ""), now)
    return kind(
        f"{refusal.method} {what} at {origin}: {found}. {_advice(kind, refusal, codes, message, origin)}",
        method=refusal.method,
        url=redact(refusal.url),
        status=refusal.status,
        codes=codes,
        retry_after=wait if issubclass(kind, RegistryBusy | RegistryFailure) else None,
    )


def _kind(refusal: Refusal, codes: tuple[str, ...], message: str) -> type[RegistryError]:
    status = refusal.status
    if status < HTTPStatus.BAD_REQUEST:
        return ProtocolViolation
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _BY_STATUS.get(status, RegistryFailure)
    of_tag = refusal.method in {"PUT", "DELETE"} and "/manifests/" in urlsplit(refusal.url).path
    if of_tag and _says_immutable(codes, message):
        return TagConflict
    if status in _STATUS_FIRST:
        return _BY_STATUS[status]
    # A 409 for an upload has nothing to do with tags.
    fallback = RegistryFailure if status == HTTPStatus.CONFLICT and not of_tag else _BY_STATUS.get(status)
    return next((_BY_CODE[code] for code in codes if code in _BY_CODE), fallback or RegistryError)


def _says_immutable(codes: tuple[str, ...], message: str) -> bool:
    said = " ".join((*codes, message)).lower()
    return "immutab" in said or "tag_conflict" in said or "alreadyexists" in said


def _advice(
    kind: type[RegistryError], refusal: Refusal, codes: tuple[str, ...], message: str, origin: Origin
) -> str:
    host = f"host {origin.host}:{origin.port}"
    # The message of a rate limit may mention a limit, too.
    if kind is not RegistryBusy and _FULL.search(" ".join((*codes, message))):
        return f"The quota of {host} is exhausted: remove images there, or have the quota raised"
    if kind is Unauthorized and refusal.status != HTTPStatus.FORBIDDEN:
        return f"Check login and password of the connection for {host}"
    if kind is NotFound and "MANIFEST_BLOB_UNKNOWN" in codes:
        return "The registry lacks a blob or child of this manifest. Run the copy again: it sends what is missing"
    return {
        Unauthorized: f"The login of the connection for {host} lacks this right. Ask the registry's owner",
        NotFound: "Check repository, tag or digest, and that the connection's user may see them",
        RegistryBusy: "The registry asks to slow down. A retry waits as long as it asks",
        RegistryFailure: f"The registry failed. A retry may work; if it keeps failing, check the log of {host}",
        ContentMismatch: "The bytes did not arrive intact. A retry sends them again",
        TagConflict: "TAG_CONFLICT: the registry protects this tag. Use another one, or lift its protection",
        ProtocolViolation: f"The OCI distribution spec has no such response. Check that {host} is a registry",
    }.get(kind, "The registry rejected this request; nothing was changed")


def _codes(body: bytes) -> tuple[tuple[str, ...], str]:
    try:
        entries = json.loads(body[:MAX_ERROR_BODY])["errors"]
        found = [entry for entry in entries if isinstance(entry, dict)][:10]
    except (ValueError, RecursionError, TypeError, KeyError):
        return (), ""
    codes = tuple(str(entry["code"])[:60] for entry in found if isinstance(entry.get("code"), str))
    messages = [_printable(entry.get("message")) for entry in found]
    return tuple(_printable(code) for code in codes), "; ".join(message for message in messages if message)[
        :400
    ]


def _printable(value: Any) -> str:
    # Registry text goes to logs and pages, so strip control characters and limit its length.
    return (
        "".join(char if char.isprintable() else " " for char in value[:200]) if isinstance(value, str) else ""
    )


def parse_retry_after(value: str, now: float) -> float | None:
    """Return the seconds to wait, from 0 to 3600, or None if the header is missing or malformed.

    Args:
        value: Whole seconds, or an HTTP date.
        now: Seconds since the epoch.

    Source: RFC 9110 section 10.2.3.
    """
    text = value.strip()[:100]
    if re.fullmatch(r"[0-9]+", text):
        return min(float(text), MAX_WAIT)
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(moment - now, 0.0), MAX_WAIT)


_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # RFC 9110's word for a word
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))')
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+|(?=,)|$)")
_GAP = re.compile(r"[ \t,]*")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Parse the `WWW-Authenticate` headers of one response.

    Args:
        headers: Raw values, each at most 8 KiB; one may hold several challenges.

    Returns:
        The challenges in the order sent; a duplicate parameter keeps its first value.

    Raises:
        ProtocolViolation: A header is too long, or malformed. Not retryable.

    Source: RFC 9110 section 11.6.1.
    """
    found: list[Challenge] = []
    for header in headers:
        if len(header) > MAX_HEADER:
            raise ProtocolViolation(
                f"WWW-Authenticate: expected at most {MAX_HEADER} characters, found {len(header)}"
            )
        found.extend(_challenges(header))
    return tuple(found)


def _challenges(header: str) -> list[Challenge]:
    found: list[tuple[str, dict[str, str]]] = []
    at = _skip(header, 0)
    while at < len(header):
        if found and (match := _PARAMETER.match(header, at)):
            quoted = match[2]
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else match[3]
            found[-1][1].setdefault(match[1].lower(), value)
        elif match := _SCHEME.match(header, at):
            found.append((match[1].lower(), {}))
            if blob := _TOKEN68.match(header, match.end()):
                match = blob if not _SCHEME.match(header, match.end()) or "=" in blob[0] else match
        else:
            raise ProtocolViolation(
                f"WWW-Authenticate: expected a scheme and its parameters, found {header[:120]!r}"
            )
        at = _skip(header, match.end())
    return [Challenge(scheme, parameters) for scheme, parameters in found]


def _skip(header: str, at: int) -> int:
    match = _GAP.match(header, at)
    return match.end() if match else at


_LINK = re.compile(r'[ \t,]*<([^<>]*)>((?:[ \t]*;[ \t]*[^\s;,="]+(?:[ \t]*=[ \t]*(?:"[^"]*"|[^\s;,"]*))?)*)')
_NEXT = re.compile(r';[ \t]*rel[ \t]*=[ \t]*(?:"(?:[^"]* )?next(?: [^"]*)?"|next(?=[ \t;]|$))', re.IGNORECASE)


def next_page(link: str, url: str) -> str | None:
    """Return the absolute URL of the next page from a `Link` header, or None on the last page.

    Args:
        link: Raw header; empty if absent.
        url: The requested URL, to resolve a relative link against.

    Raises:
        ProtocolViolation: The header is too long, or the page is on another origin than `url`. Not retryable.

    Source: RFC 8288; OCI distribution spec, "Listing Tags".
    """
    if len(link) > MAX_HEADER:
        raise ProtocolViolation(f"Link: expected at most {MAX_HEADER} characters, found {len(link)}")
    at = 0
    while match := _LINK.match(link, at):
        if _NEXT.search(match[2]):
            return _same_origin(match[1], url)
        at = match.end()
    return None


def _same_origin(target: str, url: str) -> str:
    absolute = resolve(url, target)
    here, there = Origin.parse(url), Origin.parse(absolute)
    if here != there:
        raise ProtocolViolation(f"Link: expected a next page at {here}, found one at {there}")
    return absolute


def resolve(url: str, target: str) -> str:
    """Resolve `target`, which may be relative, to an absolute URL without a fragment.

    Raises:
        ProtocolViolation: `target` is not a URL. Not retryable.
    """
    try:
        return urljoin(url, target).partition("#")[0]
    except ValueError as error:
        raise ProtocolViolation(f"expected a URL from {redact(url)}, found something else") from error


def with_digest(location: str, digest: str) -> str:
    """Add `digest` to an upload location, keeping the registry's own query unchanged."""
    return f"{location}{'&' if '?' in location else '?'}digest={quote(digest, safe=':')}"


def redact(url: str) -> str:
    """Redact a URL for logs: drop user info, the fragment, and the values of query keys that are not allowlisted."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(unreadable URL)"
    host = f"[{host}]" if ":" in host else host
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = urlencode(
        [(key, value if key in _SHOWN_KEYS else "REDACTED") for key, value in pairs], safe=":/,"
    )
    return f"{parts.scheme}://{host}{port}{parts.path}" + (f"?{query}" if query else "")
