from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from standardwebhooks import Webhook

from delivery_chain.core.results import Attempt, DeliveryResult
from delivery_chain.errors import (
    ConfigurationError,
    DeliveryChainError,
    DeliveryFailed,
    DeliveryUnavailable,
    Unjudged,
)
from delivery_chain.operators import distribute
from delivery_chain.operators.distribute import DistributeOperator
from delivery_chain.operators.publish import PublishOperator
from delivery_chain.operators.replicate import ReplicateOperator
from delivery_chain.targets.order import delivery_id
from support.chain_steps import DAY, NAME, Run, build_plan, chain, judged, verdict
from support.webhook_target import Target, answer, webhook_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.oci_memory import MemoryRegistry

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
OTHER = "sha256:" + "9" * 64
PROD = {"name": "prod", "url_connection": "prod_hook"}
SPEC = chain(
    replicate=[{"name": "to-west", "to": "west"}, {"name": "betas", "to": "west", "tags": "beta.*"}],
    distribute=[
        PROD,
        {**PROD, "name": "releases", "on": {"regexp": "v.*"}},
        {**PROD, "name": "edge", "on": {"tags": ["edge"]}},
        {**PROD, "name": "at-once", "after": []},
        {**PROD, "name": "redeploy", "method": "GET", "after": []},
    ],
)


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """What the connection `prod_hook` leads to, with a secret in its query and one to sign with."""
    with webhook_target() as running:
        fields = {
            "conn_type": "delivery_webhook",
            "host": running.url,
            "password": SECRET,
            "extra": {"secret_query": "token=hunter2-token", "timeout_seconds": 2},
        }
        monkeypatch.setenv("AIRFLOW_CONN_PROD_HOOK", json.dumps(fields))
        yield running


def published(home: MemoryRegistry, spec: Any = SPEC, **fields: Any) -> tuple[Run, str]:
    run, digest = judged(home.registry, spec, build_plan(**fields))
    run.do(PublishOperator(task_id="publish"))
    return run, digest


def everywhere(home: MemoryRegistry, **fields: Any) -> tuple[Run, str]:
    run, digest = published(home, **fields)
    run.do(ReplicateOperator(task_id="replicate", slot=0), 0)
    return run, digest


def fire(run: Run, trigger: str = "prod") -> DeliveryResult:
    slot = [one.name for one in run.spec.distribute].index(trigger)
    return DeliveryResult.from_xcom(run.do(DistributeOperator(task_id="distribute", slot=slot), slot))


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


def fired(run: Run, target: Target) -> list[bytes]:
    fire(run)
    return [got.body for got in target.got]


def test_a_get_tells_nothing_but_that(home: MemoryRegistry, west: MemoryRegistry, target: Target) -> None:
    """A redeploy address gets one signed request per tag, without a body."""
    run, _ = published(home)
    fire(run, "redeploy")
    assert [(got.method, got.path, got.body) for got in target.got] == [
        ("GET", "/hook?token=hunter2-token", b"")
    ] * 2


def test_a_retry_has_the_same_id(home: MemoryRegistry, west: MemoryRegistry, target: Target) -> None:
    """A target that keeps ids takes two tries for one delivery; both are in the record."""
    run, _ = everywhere(home, tags=("v1.2",))
    target.replies = [answer(500, b"oops")]
    with pytest.raises(DeliveryUnavailable):
        fire(run)
    assert [(one["tag"], one["status"]) for one in run.left("distribute", "attempts", 0)] == [("v1.2", 500)]
    found = fire(run)
    assert len({got.headers["webhook-id"] for got in target.got}) == 1
    assert [got.body for got in target.got] == [target.got[0].body] * 2
    assert [one.status for one in found.attempts] == [500, 200]
    assert [Attempt.from_xcom(one) for one in run.left("distribute", "attempts", 0)] == list(found.attempts)


def test_what_arrived_is_not_sent_again(home: MemoryRegistry, west: MemoryRegistry, target: Target) -> None:
    """The second tag failed: the retry is about that one alone."""
    run, _ = everywhere(home)
    target.replies = [answer(200), answer(503)]
    with pytest.raises(DeliveryUnavailable):
        fire(run)
    found = fire(run)
    assert [json.loads(got.body)["push_data"]["tag"] for got in target.got] == ["v1.2", "latest", "latest"]
    assert (found.delivered, [one.status for one in found.attempts]) == (("v1.2", "latest"), [200, 503, 200])


def test_a_clear_sends_again(home: MemoryRegistry, west: MemoryRegistry, target: Target) -> None:
    """All of it, under the same ids, and the record keeps the earlier attempts, too."""
    run, _ = everywhere(home)
    fire(run)
    run.clear("distribute", 0)
    found = fire(run)
    ids = [got.headers["webhook-id"] for got in target.got]
    assert (ids[:2], len(set(ids))) == (ids[2:], 2)
    assert (found.delivered, [one.status for one in found.attempts]) == (("v1.2", "latest"), [200] * 4)


def test_a_retry_after_a_clear_sends_what_did_not_arrive(
    home: MemoryRegistry, west: MemoryRegistry, target: Target
) -> None:
    """What arrived before the clear does not count, what arrived after it does."""
    run, _ = everywhere(home)
    target.replies = [answer(200), answer(503), answer(200), answer(503)]
    for cleared in (False, True):
        if cleared:
            run.clear("distribute", 0)
        with pytest.raises(DeliveryUnavailable):
            fire(run)
    found = fire(run)
    told = [json.loads(got.body)["push_data"]["tag"] for got in target.got]
    assert told == ["v1.2", "latest", "v1.2", "latest", "latest"]
    assert [one.status for one in found.attempts] == [200, 503, 200, 503, 200]


def test_the_attempts_of_many_clears_are_bounded(
    home: MemoryRegistry, west: MemoryRegistry, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest are kept, and what arrived since the clear still counts."""
    monkeypatch.setattr(distribute, "MOST_ATTEMPTS", 3)
    run, _ = everywhere(home)
    fire(run)
    run.clear("distribute", 0)
    target.replies = [answer(200), answer(503)]
    with pytest.raises(DeliveryUnavailable):
        fire(run)
    assert [(one.tag, one.status) for one in fire(run).attempts] == [
        ("v1.2", 200),
        ("latest", 503),
        ("latest", 200),
    ]


def test_a_repeat_of_all_has_the_same_ids(home: MemoryRegistry, west: MemoryRegistry, target: Target) -> None:
    """Also where the task's state is lost: the ids come from what the delivery is about."""
    run, _ = everywhere(home)
    fire(run)
    run.stores.clear()
    fire(run)
    ids = [got.headers["webhook-id"] for got in target.got]
    assert (ids[:2], len(set(ids))) == (ids[2:], 2)


def test_an_attempt_that_somebody_else_wrote_does_not_count(
    home: MemoryRegistry, west: MemoryRegistry, target: Target
) -> None:
    """Airflow's task state can be edited over REST: a delivery that never was is sent."""
    run, _ = everywhere(home)
    done = Attempt(at=DAY, tag="v1.2", seconds=1.0, status=200).to_xcom()
    run.context("distribute", 0)["task_state_store"].set("attempts", [done])
    assert fire(run).delivered == ("v1.2", "latest")
    assert len(target.got) == 2


def test_another_run_trigger_or_image_has_another_id() -> None:
    """No two deliveries are taken for one."""
    base = {"chain": "shop", "run_id": "r1", "trigger": "prod", "tag": "v1", "digest": OTHER}
    ids = {delivery_id(**(base | {key: f"{value}x"})) for key, value in base.items()}
    assert len(ids | {delivery_id(**base)}) == len(base) + 1


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
