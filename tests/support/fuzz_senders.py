"""Fuzzes every kind of sender for some minutes: none crashes, and none accepts anything without a proof.

    python tests/support/fuzz_senders.py [minutes] [seed]

Each round takes a sample of tests/samples/webhooks, changes its bytes, its JSON or its headers, and passes it to every
sender three times: without a proof, with a damaged one, and with a valid one. It prints its figures, and exits with 1
and the offending request if the outcome is neither a delivery nor a refusal with 400 or 401.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import time
import traceback
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent / "plugins")]

from delivery_chain.core.events.notification import Notification  # noqa: E402 - after the path is set
from delivery_chain.errors import WebhookRefused  # noqa: E402
from delivery_chain.senders.base import Request, receive  # noqa: E402
from delivery_chain.senders.table import SENDERS  # noqa: E402
from support.webhook_samples import NOW, SAMPLES, hex_of, standard_of  # noqa: E402

SECRET = "the-secret-of-the-fuzzer-0123456789"
STAMP = str(int(NOW.timestamp()))
WORDS: list[Any] = [
    None, True, False, 0, -1, 2**70, 1e308, 0.5, "", "x" * 3000, "\ud800", "\x00", "\n", "refs/heads/x", "refs/tags/v1",
    "-x", "..", "a" * 40, "0" * 40, "0" * 64, f"sha256:{'1' * 64}", "push", "latest", "../..", "2024-13-45T99:99:99Z",
    "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", [], {}, [[]], [{}], {"": ""},
]  # fmt: skip
PROOFS = (
    "authorization",
    "x-hub-signature",
    "x-hub-signature-256",
    "x-gitlab-token",
    "x-gitea-signature",
    "x-forgejo-signature",
    "x-gogs-signature",
    "x-pagure-signature-256",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
)


def samples() -> list[Request]:
    """All samples, of all senders."""
    return [_sample(body.parent) for body in sorted(SAMPLES.glob("*/*/body.json"))]


def _sample(folder: Path) -> Request:
    told = json.loads((folder / "headers.json").read_text("utf-8"))
    told = told.get("headers", told)
    headers = {str(name).lower(): str(value) for name, value in told.items()}
    return Request(
        headers={
            name: value for name, value in headers.items() if name not in PROOFS or name == "webhook-id"
        },
        body=(folder / "body.json").read_bytes(),
    )


def proven(request: Request) -> Request:
    """The request with a valid proof for every kind of sender."""
    body, key = request.body, SECRET.encode()
    event_id = request.headers.get("webhook-id", "") or "event"
    hexed = hex_of(body, SECRET)
    headers = {
        "authorization": "Basic " + base64.b64encode(b"hook:" + key).decode(),
        "x-hub-signature": f"sha256={hexed}",
        "x-hub-signature-256": f"sha256={hexed}",
        "x-gitlab-token": SECRET,
        "x-gitea-signature": hexed,
        "x-forgejo-signature": hexed,
        "x-gogs-signature": hexed,
        "x-pagure-signature-256": hexed,
        "webhook-id": event_id,
        "webhook-timestamp": STAMP,
        "webhook-signature": standard_of(event_id, body, key=key),
    }
    return replace(request, headers={**request.headers, **headers}, token=SECRET)


def damaged(request: Request, dice: random.Random) -> Request:
    """A proven request whose proofs are for another secret or body, or are truncated."""
    good = proven(request)
    match dice.randrange(4):
        case 0:
            return replace(good, body=b"", headers={**request.headers, **_cut(good, dice)}, token="")
        case 1:
            return replace(
                good, headers={**good.headers, **_cut(good, dice)}, token=SECRET[: dice.randrange(34)]
            )
        case 2:
            return replace(good, headers={**good.headers, **dict.fromkeys(PROOFS, "")}, token="")
        case _:
            junk = "".join(chr(dice.randrange(1, 256)) for _ in range(dice.randrange(80)))
            return replace(good, headers={**good.headers, **dict.fromkeys(PROOFS, junk)}, token=junk)


def _cut(good: Request, dice: random.Random) -> dict[str, str]:
    """Truncate each proof, which invalidates it."""
    return {
        name: good.headers[name][: dice.randrange(max(1, len(good.headers[name]) // 2))] for name in PROOFS
    }


def changed(request: Request, dice: random.Random) -> Request:
    """A request with a change in its bytes, its JSON or its headers."""
    headers = dict(request.headers)
    if dice.random() < 0.3 and headers:
        headers[dice.choice(sorted(headers))] = str(dice.choice(WORDS))[:200]
    if dice.random() < 0.1 and headers:
        del headers[dice.choice(sorted(headers))]
    return replace(request, headers=headers, body=_body(request.body, dice))


def _body(body: bytes, dice: random.Random) -> bytes:
    if dice.random() < 0.2:
        data = bytearray(body)
        for _ in range(dice.randrange(1, 8)):
            place = dice.randrange(len(data) + 1)
            data[place : place + dice.randrange(3)] = dice.randbytes(dice.randrange(3))
        return bytes(data)
    try:
        value = json.loads(body)
    except ValueError:
        return body
    for _ in range(dice.randrange(1, 4)):
        value = _mutated(value, dice)
    return json.dumps(value).encode()


def _mutated(value: Any, dice: random.Random) -> Any:
    if isinstance(value, dict) and value and dice.random() < 0.85:
        key = dice.choice(list(value))
        if dice.random() < 0.15:
            return {name: inner for name, inner in value.items() if name != key}
        return value | {key: _mutated(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.85:
        place = dice.randrange(len(value))
        if dice.random() < 0.1:
            return value * 3
        return [*value[:place], _mutated(value[place], dice), *value[place + 1 :]]
    if dice.random() < 0.02:
        for _ in range(300):
            value = [value]
        return value
    return dice.choice(WORDS)


def outcome(kind: str, request: Request) -> str:
    """`taken`, `ignored`, or the refusal's status.

    Raises:
        AssertionError: Neither.
    """
    try:
        found = receive(SENDERS[kind], request, (SECRET,), NOW)
    except WebhookRefused as error:
        status, reason = error.status, str(error)
    else:
        assert isinstance(found, Notification)
        assert bool(found.pushes) is not bool(found.ignored), found
        return "ignored" if found.ignored else "taken"
    assert status in {400, 401}, status
    assert "\n" not in reason, reason
    assert len(reason) < 1000, len(reason)
    return str(status)


def fuzz(seconds: float, seed: int) -> Counter[tuple[str, str, str]]:
    """Fuzz until the time is up; return how often each outcome occurred, by sender and proof.

    Raises:
        AssertionError: Another outcome occurred; its notes have the request.
    """
    dice, found, all_of_them = random.Random(seed), Counter[tuple[str, str, str]](), samples()  # noqa: S311
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        request = changed(dice.choice(all_of_them), dice)
        tries = {"none": request, "damaged": damaged(request, dice), "right": proven(request)}
        for kind in SENDERS:
            for proof, one in tries.items():
                try:
                    what = outcome(kind, one)
                    # Some senders sign only text, or a form: a valid proof may be refused, an invalid one must be.
                    assert what == "401" or proof == "right", what
                except Exception as error:
                    error.add_note(f"{kind}, proof {proof}: {one!r}"[:20_000])
                    raise
                found[kind, proof, what] += 1
    return found


def main() -> int:
    """Run the program; see the module."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(datetime.now(UTC).timestamp())
    try:
        found = fuzz(minutes * 60, seed)
    except Exception:  # noqa: BLE001 - whatever it is, it is a finding
        print(f"seed {seed}\n{traceback.format_exc()}")  # noqa: T201 - a program
        return 1
    for kind in SENDERS:
        told = {f"{proof} {what}": n for (name, proof, what), n in sorted(found.items()) if name == kind}
        print(kind, ", ".join(f"{what}: {count}" for what, count in told.items()))  # noqa: T201
    print(f"seed {seed}, {minutes:g} minutes, {found.total()} requests, nothing found")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
