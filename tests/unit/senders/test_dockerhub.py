from __future__ import annotations

from datetime import UTC, datetime

import pytest

from delivery_chain.core.events.notification import Notification
from delivery_chain.core.events.push import Push
from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import Request, receive
from delivery_chain.senders.dockerhub import DOCKERHUB
from support.registry_samples import NOW, SECRET, changed, sample


def read(request: Request) -> Notification:
    return receive(DOCKERHUB, request, [SECRET], NOW)


def test_a_push() -> None:
    """As documented. There is no digest and no id: one is made of what was pushed when."""
    assert read(sample("dockerhub", "push")) == Notification(
        event="push",
        delivery_id="sha256:f49f8223454a708129e609e2b07d26b8ff15ab10674cfc60b34fe7cddf11fed3",
        pushes=(Push.of_image(name="svendowideit/testhook", tag="latest"),),
        actor="trustedbuilder",
        pushed_at=datetime(2014, 12, 3, 0, 22, 41, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    "change",
    [{"repository__star_count": 8}, {"callback_url": None}, {"push_data__pushed_at": 1.417566161e9}],
    ids=["stars", "callback", "float"],
)
def test_a_redelivery_with_other_bytes_has_the_same_id(change: dict[str, object]) -> None:
    """Counters change between two requests for one push."""
    assert (
        read(changed("dockerhub", "push", **change)).delivery_id
        == read(sample("dockerhub", "push")).delivery_id
    )


def test_another_push_has_another_id() -> None:
    """Another tag, time, person or repository."""
    ids = {
        read(changed("dockerhub", "push", **change)).delivery_id
        for change in (
            {},
            {"push_data__tag": "v1"},
            {"push_data__pushed_at": 1417566162},
            {"push_data__pusher": "x"},
            {"repository__repo_name": "svendowideit/other"},
        )
    }
    assert len(ids) == 5


def test_without_a_time_there_is_no_id() -> None:
    """A later push of the tag would look the same."""
    found = read(changed("dockerhub", "push", push_data__pushed_at=None))
    assert (found.delivery_id, found.pushed_at, len(found.pushes)) == ("", None, 1)


def test_a_signature_starts_nothing() -> None:
    """Cosign pushes its signatures as tags."""
    found = read(changed("dockerhub", "push", push_data__tag="sha256-ab.sig"))
    assert (found.pushes, found.pushed_at, found.ignored) == (
        (),
        None,
        "the tag sha256-ab.sig is a referrer's or the chain's own",
    )


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("push_data", None, "expected a text at push_data.tag, found nothing"),
        ("push_data__tag", "", "expected a text at push_data.tag, found nothing"),
        ("push_data__tag", 1, "expected a text at push_data.tag, found int"),
        ("repository", [], "expected a text at repository.repo_name, found nothing"),
        (
            "push_data__tag",
            "../x",
            (
                "the payload names no valid image: Value error, tag '../x': expected 1 to 128 characters of "
                "[A-Za-z0-9_.-], the first not . or -"
            ),
        ),
    ],
)
def test_other_shapes_are_refused(path: str, value: object, message: str) -> None:
    """One clear line says what is missing or wrong."""
    with pytest.raises(WebhookRefused) as refused:
        read(changed("dockerhub", "push", **{path: value}))
    assert (refused.value.status, str(refused.value)) == (400, message)
