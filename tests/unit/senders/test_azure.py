from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from delivery_chain.core.events.notification import Notification
from delivery_chain.core.events.push import Push
from delivery_chain.senders.table import SENDERS
from support.webhook_samples import NOW, SECRET, edited, read, sample, why_not, with_headers

A, B, C = (
    "9836a96a253cce25d17988fcf41b8c4205cf779f",
    "4522cbcefc20728a5b72b3a86af35e608622c514",
    "6dcb09b5b57875f334f61aebed695e2e4193db5e",
)
TAG = "d9b1d2a4c5e6f708192a3b4c5d6e7f8091a2b3c4"
HOOK = "9c4b2f4e-6f0e-4c1c-8f1b-2a5d7e9f0b11"
ID = "03c164c2-8912-4d5e-8009-3707d5f8370"


def test_many_refs() -> None:
    """One push with a moved and a deleted branch, an annotated tag (by its tag object) and a deleted tag."""
    assert read("azure", sample("azure", "push-many")) == Notification(
        event="git.push",
        delivery_id=ID + "1",
        hook=HOOK,
        repositories=("web/api", "https://shop@dev.azure.com/shop/web/_git/api"),
        pushes=(
            Push(ref="refs/heads/main", before=A, after=B),
            Push(ref="refs/heads/wip", before=C, after=""),
            Push(ref="refs/tags/v1.2.0", before="", after=TAG, peeled=False),
            Push(ref="refs/tags/v0.9", before=A, after=""),
        ),
        actor="Mona L.",
        pushed_at=datetime(2024, 5, 31, 16, 48, 37, 330958, tzinfo=UTC),
    )


def test_ignored() -> None:
    """Pull requests, and events of which nothing is known, say why nothing is run."""
    request = sample("azure", "pull-request")
    expected = Notification(
        event="git.pullrequest.created",
        delivery_id=ID + "3",
        hook=HOOK,
        ignored="pull requests start no chain",
    )
    assert read("azure", request) == expected
    assert (
        read("azure", edited(request, eventType="build.complete")).ignored
        == "'build.complete' events start no chain"
    )


def test_a_retry_and_a_second_subscription() -> None:
    """A retry is the same event; another subscription reports the same event under its own name."""
    request = sample("azure", "push-many")
    found = read("azure", request)
    assert read("azure", edited(request, notificationId=2)) == found
    assert read("azure", edited(request, subscriptionId="s2")) == found.model_copy(update={"hook": "s2"})


@pytest.mark.parametrize(
    ("authorization", "token", "expected"),
    [
        ("Basic " + base64.b64encode(f":{SECRET}".encode()).decode(), "", True),
        ("basic " + base64.b64encode(f"a:{SECRET}".encode()).decode(), "", True),
        ("Bearer " + SECRET, "", True),
        (SECRET, "", True),
        ("", SECRET, True),
        ("Basic x", SECRET, True),
        ("", "", False),
        ("Basic", "", False),
        ("Basic " + base64.b64encode(f"{SECRET}:a".encode()).decode(), "", False),
        ("Basic " + base64.b64encode(SECRET.encode()).decode(), "", False),
        ("Basic " + base64.b64encode(b":\xff").decode(), "", False),
        ("Basic é", "", False),
        ("Basic ====", "", False),
        ("Bearer", "x", False),
        ("\ud800", "\udfff", False),
    ],
)
def test_proofs(authorization: str, token: str, expected: object) -> None:
    """The secret as Basic's password, as a bearer's token, as the header's value or in the address."""
    request = with_headers(sample("azure", "push-many"), {"authorization": authorization})
    found = type(request)(headers=request.headers, body=request.body, token=token)
    assert SENDERS["azure"].authentic(found, SECRET, NOW) is expected


def resource(**changes: Any) -> dict[str, Any]:
    """The sample's resource with other values."""
    return {"resource": json.loads(sample("azure", "push-many").body)["resource"] | changes}


@pytest.mark.parametrize("date", [None, 7, "2024-05-31T16:48:37", "x", {}])
def test_other_times(date: object) -> None:
    """A date without its zone, or of another kind, is no time."""
    assert read("azure", edited(sample("azure", "push-many"), **resource(date=date))).pushed_at is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"id": None}, "400 the payload has no `eventType` or no `id`: not a service hook's payload"),
        ({"eventType": 7}, "400 the payload has no `eventType` or no `id`: not a service hook's payload"),
        ({"resource": None}, "400 the push names no refs: let the service hook send all resource details"),
        (resource(refUpdates={}), "400 expected a list at `resource.refUpdates`, found dict"),
        (resource(refUpdates=["x"]), "400 expected objects only in the list `resource.refUpdates`"),
        (
            resource(refUpdates=[{"name": "-x"}]),
            "400 expected a full git ref such as refs/heads/main, found '-x'",
        ),
        (
            resource(refUpdates=[{"name": "refs/heads/x"}]),
            "400 the payload is not valid for this sender: pushes.0.after",
        ),
        (resource(repository=None), "400 the payload names no repository"),
    ],
)
def test_refusals(changes: dict[str, Any], why: str) -> None:
    """What Azure DevOps does not send is refused whole, in one line that says what was wrong."""
    assert why_not("azure", edited(sample("azure", "push-many"), **changes)).startswith(why)


def test_minimal_details() -> None:
    """The response to a subscription that sends no details says what to change."""
    why = "400 the push names no refs: let the service hook send all resource details"
    assert why_not("azure", sample("azure", "push-minimal")) == why
