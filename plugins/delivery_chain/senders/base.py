"""What all senders share: the raw request, the refusal, and the proofs that come in a header."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from pydantic import ValidationError
from pydantic_core import from_json

from delivery_chain.core.events.notification import Notification
from delivery_chain.errors import WebhookRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

NO_PROOF = "the request carries no valid signature or token"
MEBIBYTE = 1024 * 1024
NO_COMMIT = frozenset({"0" * 40, "0" * 64})
"""How git writes "no object" in SHA-1 and SHA-256 repositories. Source: githooks(5), post-receive."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came, before anybody believes it."""

    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    token: str = ""
    """What the address carries as `token=…`, for senders that can set no header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """One kind of sender."""

    title: str
    """For people."""
    authentic: Callable[[Request, str, datetime], bool]
    """Whether the request proves to know this secret, now. Looks at raw bytes only; compares in constant time."""
    parse: Callable[[Request], Notification]
    """Reads an authentic request.

    Raises:
        WebhookRefused: With status 400: it is not what this sender sends.
    """
    largest: int = MEBIBYTE
    """Bytes of a body."""
    proves_id: bool = True
    """Whether the proof covers the delivery id, too. If not, whoever saw a request could send it again under another
    one; so the body's digest is the id."""


def receive(sender: Sender, request: Request, secrets: Sequence[str], now: datetime) -> Notification:
    """Verify, then read.

    Args:
        sender: From `SENDERS`.
        request: As it came.
        secrets: Each one that is valid: two while a secret is being changed.
        now: For senders that sign a time.

    Raises:
        WebhookRefused: 401 without proof, also where no secret is set; 400 for what can't be read.
    """
    # All are tried, so that the time tells nothing about which one fits.
    proofs = [sender.authentic(request, secret, now) for secret in secrets if secret]
    if not any(proofs):
        raise WebhookRefused(401, NO_PROOF)
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
    """Whether the secret is in `Authorization` (Bearer, Basic's password, or as it is) or in the address."""
    given = request.headers.get("authorization", "")
    scheme, _, rest = given.partition(" ")
    if scheme.lower() == "bearer":
        given = rest.strip()
    elif scheme.lower() == "basic":
        given = _basic_password(rest.strip())
    # Both are compared, whichever is there: the time tells nothing.
    in_header, in_address = same(given, secret), same(request.token, secret)
    return in_header or in_address


def _basic_password(text: str) -> str:
    try:
        pair = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
    return pair.partition(":")[2]


def written(request: Request) -> bytes:
    """The JSON as its sender wrote it: the body, or what is in a form's only field, `payload`.

    Raises:
        WebhookRefused: 400. A form with anything else in it is refused: signed JSON that is sent once more under a
            form's type must not be read as fields that somebody put into a commit's message.
    """
    if not request.headers.get("content-type", "").lower().startswith("application/x-www-form-urlencoded"):
        return request.body
    name, _, value = request.body.partition(b"=")
    if name != b"payload" or b"&" in value:
        raise WebhookRefused(400, "the body is not a form with the one field `payload`")
    return unquote_to_bytes(value.replace(b"+", b" "))


def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object, also out of a form's field `payload`. Nesting is bounded by the parser.

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


def fields(data: Any, path: str) -> Any:
    """The value at `repository.full_name`, or None wherever something is missing or of another type."""
    for key in path.split("."):
        data = data.get(key) if isinstance(data, dict) else None
    return data


def text(data: Any, path: str, *, longest: int = 200) -> str:
    """A text at a path, cut to `longest` characters; empty if there is none."""
    found = fields(data, path)
    return found[:longest] if isinstance(found, str) else ""


def notification(**known: Any) -> Notification:
    """The Notification from what a payload says.

    Raises:
        WebhookRefused: 400, with what is wrong.
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
    """A commit id as a sender writes it; empty for git's zeros."""
    return "" if value in NO_COMMIT else value
