"""Shared by all senders: the raw request, its refusal, proofs in headers, and access to JSON."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from pydantic import ValidationError
from pydantic_core import from_json

from delivery_chain.core.events.notification import Notification
from delivery_chain.errors import Unproven, WebhookRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

MEBIBYTE = 1024 * 1024
NO_COMMIT = frozenset({"0" * 40, "0" * 64})
"""Git's null object ids in SHA-1 and SHA-256 repositories. Source: githooks(5), post-receive."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as received, not yet authenticated."""

    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    token: str = ""
    """Query parameter `token` of the address, for senders that can set no header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """A kind of sender."""

    title: str
    """Name for people."""
    authentic: Callable[[Request, str, datetime], bool]
    """Whether the request proves knowledge of the secret at this time. Reads raw bytes, compares in constant time."""
    parse: Callable[[Request], Notification]
    """Parses an authentic request.

    Raises:
        WebhookRefused: 400: it is not a request of this sender.
    """
    largest: int = MEBIBYTE
    """Maximum size of a body in bytes."""
    proves_id: bool = True
    """Whether the proof also covers the delivery id. If not, a captured request could be replayed under another id, so
    the digest of the body becomes the id."""


def receive(sender: Sender, request: Request, secrets: Sequence[str], now: datetime) -> Notification:
    """Verify a request, then parse it: see `verify` and `parse`."""
    verify(sender, request, secrets, now)
    return parse(sender, request)


def verify(sender: Sender, request: Request, secrets: Sequence[str], now: datetime) -> None:
    """Verify that a request proves knowledge of a secret.

    Args:
        sender: From `SENDERS`.
        request: The request as received.
        secrets: All valid secrets: two during a rotation.
        now: The current time, for senders that sign one.

    Raises:
        Unproven: 401: it does not, or no secret is set.
    """
    # All are tried, so that timing does not reveal which one matches.
    proofs = [sender.authentic(request, secret, now) for secret in secrets if secret]
    if not any(proofs):
        raise Unproven


def parse(sender: Sender, request: Request) -> Notification:
    """Parse an authentic request.

    Raises:
        WebhookRefused: 400 if malformed; 413 if larger than this sender's requests are.
    """
    if len(request.body) > sender.largest:
        raise WebhookRefused(413, f"expected at most {sender.largest} bytes")
    found = sender.parse(request)
    if sender.proves_id:
        return found
    return found.model_copy(update={"delivery_id": f"sha256:{hashlib.sha256(request.body).hexdigest()}"})


def same(found: str, expected: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(found.encode(errors="surrogatepass"), expected.encode(errors="surrogatepass"))


def hmac_hex(request: Request, header: str, secret: str, *, prefix: str = "") -> bool:
    """Whether a header holds the HMAC-SHA256 of the body in hex, after `prefix`."""
    expected = prefix + hmac.new(secret.encode(), request.body, hashlib.sha256).hexdigest()
    return same(request.headers.get(header, ""), expected)


def bearer(request: Request, secret: str) -> bool:
    """Whether the secret is in `Authorization` (Bearer, Basic password, or bare) or in the address."""
    given = request.headers.get("authorization", "")
    scheme, _, rest = given.partition(" ")
    if scheme.lower() == "bearer":
        given = rest.strip()
    elif scheme.lower() == "basic":
        given = _basic_password(rest.strip())
    # Both are always compared, so that timing reveals nothing.
    in_header, in_address = same(given, secret), same(request.token, secret)
    return in_header or in_address


def _basic_password(text: str) -> str:
    try:
        pair = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
    return pair.partition(":")[2]


def written(request: Request) -> bytes:
    """The JSON as the sender wrote it: the body, or the only field of a form, `payload`.

    Raises:
        WebhookRefused: 400 for a form with any other field: signed JSON that is replayed with a form's content type
            must not be parsed as fields that an attacker put into a commit message.
    """
    if not request.headers.get("content-type", "").lower().startswith("application/x-www-form-urlencoded"):
        return request.body
    name, _, value = request.body.partition(b"=")
    if name != b"payload" or b"&" in value:
        raise WebhookRefused(400, "the body is not a form with the one field `payload`")
    return unquote_to_bytes(value.replace(b"+", b" "))


def json_object(request: Request) -> dict[str, object]:
    """Parse the body, or a form's field `payload`, as a JSON object. The parser limits nesting.

    Raises:
        WebhookRefused: 400.
    """
    try:
        found = from_json(written(request), allow_inf_nan=False)
    except ValueError as error:
        raise WebhookRefused(400, f"the body is not JSON: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise WebhookRefused(400, f"expected a JSON object, found {type(found).__name__}")
    return found


def fields(data: object, path: str) -> object:
    """The value at a path such as `repository.full_name`; None if a part is missing or of another type."""
    for key in path.split("."):
        data = data.get(key) if isinstance(data, dict) else None
    return data


def text(data: object, path: str, *, longest: int = 200) -> str:
    """The text at a path, truncated to `longest` characters; empty if missing or of another type."""
    found = fields(data, path)
    return found[:longest] if isinstance(found, str) else ""


def notification(**known: object) -> Notification:
    """Build a Notification from the facts of a payload.

    Raises:
        WebhookRefused: 400, with the first invalid field.
    """
    try:
        return Notification(**known)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        where = ".".join(map(str, wrong["loc"]))
        raise WebhookRefused(
            400, f"the payload is not valid for this sender: {where}: {wrong['msg'][:300]}"
        ) from None


def commit(value: str) -> str:
    """Normalize a commit id: empty for git's zeros."""
    return "" if value in NO_COMMIT else value
