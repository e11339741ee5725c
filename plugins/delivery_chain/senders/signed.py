"""Verifies signatures of the Standard Webhooks specification, which cover id, time and body.

The header `webhook-signature` has one or more `v1,<base64 of HMAC-SHA256>`, separated by spaces, over
`<webhook-id>.<webhook-timestamp>.<body>`. The time is in whole Unix seconds. A secret that starts with `whsec_` is
base64; any other is used verbatim. Source: standardwebhooks.com.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from standardwebhooks import Webhook

from delivery_chain.senders.base import same

if TYPE_CHECKING:
    from delivery_chain.senders.base import Request

PREFIX = "whsec_"
WINDOW = 300
"""Seconds before and after its time for which a signature is valid, as in the specification's libraries."""
_TIME = re.compile(r"[1-9][0-9]{0,11}")
MOST_SIGNATURES = 20


def standard_signature(request: Request, secret: str, now: datetime) -> bool:
    """Whether one of the request's signatures is valid for this secret and within the time window."""
    message_id = request.headers.get("webhook-id", "")
    time = request.headers.get("webhook-timestamp", "")
    given = request.headers.get("webhook-signature", "").split(" ")[:MOST_SIGNATURES]
    if not message_id or not _TIME.fullmatch(time) or abs(int(time) - now.timestamp()) > WINDOW:
        return False
    try:
        # The library's `verify` reads the clock itself, and raises arbitrary errors for malformed headers.
        signer = Webhook(_key(secret))
        expected = signer.sign(message_id, datetime.fromtimestamp(int(time), UTC), request.body.decode())
    except (ValueError, RuntimeError):
        return False
    # All are compared, so that timing reveals nothing.
    return True in [same(signature, expected) for signature in given]


def _key(secret: str) -> bytes:
    """Decode a secret to the signing key.

    Raises:
        ValueError: The part after `whsec_` is empty or not base64.
    """
    if not secret.startswith(PREFIX):
        return secret.encode()
    text = secret.removeprefix(PREFIX)
    # Some senders show their secrets without padding.
    key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    if not key:
        raise ValueError("an empty secret")
    return key
