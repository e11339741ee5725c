"""Signatures after the Standard Webhooks specification: the id, the time and the body are signed together.

The header `webhook-signature` holds one or more of `v1,<base64 of HMAC-SHA256>`, parted by spaces, over
`<webhook-id>.<webhook-timestamp>.<body>`. The time is in whole Unix seconds. A secret that begins with `whsec_` is
base64; any other one is taken as the text that it is. Source: standardwebhooks.com.
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
"""Seconds that a signature is good for, before and after its time. The specification's libraries have the same."""
_TIME = re.compile(r"[1-9][0-9]{0,11}")
MOST_SIGNATURES = 20


def standard_signature(request: Request, secret: str, now: datetime) -> bool:
    """Whether one of the request's signatures is made with this secret, over what came, within the window."""
    message_id = request.headers.get("webhook-id", "")
    time = request.headers.get("webhook-timestamp", "")
    given = request.headers.get("webhook-signature", "").split(" ")[:MOST_SIGNATURES]
    if not message_id or not _TIME.fullmatch(time) or abs(int(time) - now.timestamp()) > WINDOW:
        return False
    try:
        # The library's own `verify` has its own clock, and fails with whatever a malformed header brings about.
        signer = Webhook(_key(secret))
        expected = signer.sign(message_id, datetime.fromtimestamp(int(time), UTC), request.body.decode())
    except (ValueError, RuntimeError):
        return False
    # All are compared, so that the time tells nothing.
    return True in [same(signature, expected) for signature in given]


def _key(secret: str) -> bytes:
    """The bytes to sign with.

    Raises:
        ValueError: What follows `whsec_` is not base64, or nothing.
    """
    if not secret.startswith(PREFIX):
        return secret.encode()
    text = secret.removeprefix(PREFIX)
    # Some show their secrets without the padding.
    key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    if not key:
        raise ValueError("an empty secret")
    return key
