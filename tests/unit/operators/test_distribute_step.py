from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from standardwebhooks import Webhook

from delivery_chain.errors import (
    ConfigurationError,
    DeliveryChainError,
    DeliveryFailed,
    DeliveryUnavailable,
    Unjudged,
)
from delivery_chain.targets.order import delivery_id
from support.chain_steps import NAME, verdict
from support.distributions import OTHER, SECRET, everywhere, fire, fired, published
from support.webhook_target import Target, answer

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry


def test_a_target_is_told_of_each_tag(home: MemoryRegistry, west: MemoryRegistry, target: Target) -> None:
    """One signed delivery per tag, in ACR's form with the regions that hold the image."""
    run, digest = everywhere(home)
    found = fire(run)
    bodies = [Webhook(SECRET).verify(got.body, got.headers) for got in target.got]
    common = {
        "date_created": "2026-05-20 20:00:00",
        "name": "api",
        "namespace": "shop",
        "region": "cn-hangzhou",
        "repo_authentication_type": "NO_CERTIFIED",
        "repo_full_name": NAME,
        "repo_origin_type": "NO_CERTIFIED",
        "repo_type": "PRIVATE",
    }
    assert bodies == [
        {
            "push_data": {"digest": digest, "pushed_at": "2026-05-20 20:00:00", "tag": tag},
            "repository": common,
            "delivery_chain": {
                "chain": "shop",
                "run_id": "r1",
                "image": f"{home.registry.host}/{NAME}:{tag}@{digest}",
                "pushed_at": "2026-05-20T12:00:00+00:00",
                "regions": {"to-west": f"{west.registry.host}/{NAME}@{digest}"},
            },
        }
        for tag in ("v1.2", "latest")
    ]
    assert [got.headers["webhook-id"] for got in target.got] == [
        delivery_id(chain="shop", run_id="r1", trigger="prod", tag=tag, digest=digest)
        for tag in ("v1.2", "latest")
    ]
    assert (found.trigger, found.url, found.delivered) == ("prod", target.url, ("v1.2", "latest"))
    assert [(one.tag, one.status, one.answer) for one in found.attempts] == [
        ("v1.2", 200, "ok"),
        ("latest", 200, "ok"),
    ]


@pytest.mark.parametrize(
    ("trigger", "tags", "told"),
    [
        ("prod", ("v1.2", "latest"), ["v1.2", "latest"]),
        ("releases", ("v1.2", "latest"), ["v1.2"]),
        ("edge", ("edge", "edge2", "latest"), ["edge"]),
    ],
)
def test_a_trigger_fires_for_its_tags(
    home: MemoryRegistry,
    west: MemoryRegistry,
    target: Target,
    trigger: str,
    tags: tuple[str, ...],
    told: list[str],
) -> None:
    """All tags, those that match as a whole, or those that are listed."""
    run, _ = everywhere(home, tags=tags)
    fire(run, trigger)
    assert [json.loads(got.body)["push_data"]["tag"] for got in target.got] == told


def test_a_trigger_that_is_not_for_the_image_is_skipped(
    home: MemoryRegistry, west: MemoryRegistry, target: Target
) -> None:
    """The instance is skipped with its reason, and nothing is sent."""
    reason = "trigger 'edge' selects no tag of this image"
    run, _ = everywhere(home)
    with pytest.raises(AirflowSkipException) as caught:
        fire(run, "edge")
    assert (str(caught.value), target.got) == (reason, [])


def test_a_run_without_triggers_tells_nobody(
    home: MemoryRegistry, west: MemoryRegistry, target: Target
) -> None:
    """A run may be started so that it fires no trigger."""
    run, _ = everywhere(home, announce=False)
    with pytest.raises(AirflowSkipException) as caught:
        fire(run, "edge")
    assert (str(caught.value), target.got) == ("this run was started without triggers", [])


def test_a_tag_that_a_newer_push_holds_is_not_told(
    home: MemoryRegistry, west: MemoryRegistry, target: Target
) -> None:
    """A trigger is about tags that are the run's own."""
    run, _ = everywhere(home)
    publish = run.left("publish")
    publish["tags"][1] |= {"state": "kept", "digest": OTHER}
    run.leave("publish", publish)
    assert fire(run).delivered == ("v1.2",)


@pytest.mark.parametrize(
    ("left", "error", "message"),
    [
        ({"gate": None}, Unjudged, "no gate of this run judged"),
        ({"gate": verdict(OTHER)}, Unjudged, "the gate judged sha256:999999999999"),
        ({"gate": "refused"}, Unjudged, "the gate refused"),
        ({"publish": None}, ConfigurationError, "is not published: clear the task `publish`"),
        ({"publish": {"digest": OTHER, "tags": []}}, ConfigurationError, "is not published"),
        ({"publish": None, "gate": None}, AirflowSkipException, "nothing was published"),
        ({"publish": None, "gate": "refused"}, AirflowSkipException, "nothing was published"),
        ({"plan": None}, ConfigurationError, "clear the task `plan`"),
    ],
)
def test_without_a_pass_nobody_is_told(
    home: MemoryRegistry,
    west: MemoryRegistry,
    target: Target,
    left: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    """The verdict for exactly this digest and its publication are asked for, whatever the states say."""
    run, digest = everywhere(home)
    for task, value in left.items():
        run.xcoms.pop((task, -1, "return_value"))
        if value is not None:
            run.leave(task, verdict(digest, passed=False) if value == "refused" else value)
    with pytest.raises(error) as caught:
        fire(run)
    assert (type(caught.value), message in str(caught.value), target.got) == (error, True, [])


def test_a_region_that_failed_is_waited_for(
    home: MemoryRegistry, west: MemoryRegistry, target: Target
) -> None:
    """An image that is missing from its region is not announced; the error says what to clear."""
    run, _ = published(home)
    with pytest.raises(ConfigurationError, match="waits for 'to-west', which lacks the image"):
        fire(run)
    assert target.got == []


def test_a_region_is_asked_for_the_digest_itself(
    home: MemoryRegistry, west: MemoryRegistry, target: Target
) -> None:
    """A replicate that is marked as done, or an image that was removed since, is seen; a retry may find it."""
    run, digest = everywhere(home)
    del west.manifests[f"{NAME}@{digest}"]
    with pytest.raises(DeliveryUnavailable, match="no longer holds sha256:") as caught:
        fire(run)
    assert (caught.value.retryable, target.got) == (True, [])


def test_a_trigger_that_waits_for_no_region(
    home: MemoryRegistry, west: MemoryRegistry, target: Target
) -> None:
    """With `after: []` it fires as soon as the image is at home, and names no region."""
    run, _ = published(home)
    fire(run, "at-once")
    assert [json.loads(got.body)["delivery_chain"]["regions"] for got in target.got] == [{}, {}]


def test_a_region_that_is_not_for_the_image_is_not_waited_for(
    home: MemoryRegistry, west: MemoryRegistry, target: Target
) -> None:
    """The rule for betas left nothing, and that is right."""
    run, _ = everywhere(home)
    assert list(json.loads(fired(run, target)[0])["delivery_chain"]["regions"]) == ["to-west"]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (answer(404, b"no POST /hook?token=hunter2-token here, secret " + SECRET.encode()), DeliveryFailed),
        (answer(500, b"token=hunter2-token"), DeliveryUnavailable),
        (answer(302, Location="http://x/?token=hunter2-token"), DeliveryFailed),
        (b"", DeliveryUnavailable),
    ],
)
def test_no_secret_is_shown(
    home: MemoryRegistry,
    west: MemoryRegistry,
    target: Target,
    capfd: pytest.CaptureFixture[str],
    reply: bytes,
    error: type[DeliveryChainError],
) -> None:
    """Neither in the error, nor in XComs, the task's state or the log."""
    run, _ = everywhere(home)
    target.replies = [reply]
    with pytest.raises(error) as caught:
        fire(run)
    shown = f"{caught.value} {run.xcoms} {run.stores} {''.join(capfd.readouterr())}"
    assert [part for part in ("hunter2", SECRET.removeprefix("whsec_")) if part in shown] == []
    assert f"trigger 'prod': {target.url} did not accept the delivery of v1.2" in str(caught.value)
