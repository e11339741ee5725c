from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delivery_chain.core.results import Published, TagMove
from delivery_chain.errors import ConfigurationError, DeliveryChainError, Unjudged
from delivery_chain.oci.client import RegistryClient
from delivery_chain.operators import verdict as judging
from delivery_chain.operators.publish import PublishOperator
from support.chain_steps import DAY, NAME, Run, build_plan, chain, image_plan, judged, verdict

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry

SPEC = chain()
OTHER = "sha256:" + "9" * 64
SECOND = timedelta(seconds=1)
ENOUGH = 1000
"""Requests; more than one try makes."""


def out(run: Run) -> Published:
    return Published.from_xcom(run.do(PublishOperator(task_id="publish")))


def earlier(home: MemoryRegistry, pushed_at: str) -> str:
    """What the tag v1.2 holds before the run: an image that says it was pushed then."""
    plan = build_plan(tags=("v1.2",), run_id="earlier")
    _, digest = judged(home.registry, SPEC, plan, seed=pushed_at)
    kind, raw = home.manifests[f"{NAME}@{digest}"]
    raw = raw.replace(DAY.isoformat().encode(), pushed_at.encode())
    with RegistryClient(home.registry) as client:
        return client.put_manifest(NAME, "v1.2", raw, kind)


@pytest.mark.parametrize(
    ("pushed_at", "state"),
    [
        ("2026-05-20T11:59:59+00:00", "moved"),
        ("2026-05-20T12:00:00+00:00", "moved"),
        ("2026-05-20T12:00:00.000001+00:00", "kept"),
        ("2026-05-20T12:00:01+00:00", "kept"),
        ("2026-05-20T20:00:01+08:00", "kept"),
        ("2026-05-20T19:59:59+08:00", "moved"),
        ("2020-01-01T00:00:00", "moved"),
        ("", "moved"),
        ("yesterday", "moved"),
        # The future proves nothing; 2026-05-20 is long past where this runs.
        ("2999-01-01T00:00:00Z", "moved"),
        ("9999-12-31T23:59:59-14:00", "moved"),
        ("0001-01-01T00:00:00+14:00", "moved"),
    ],
)
def test_a_tag_never_goes_back(home: MemoryRegistry, pushed_at: str, state: str) -> None:
    """A tag that holds a newer push is kept; an equal, older or unknown one is moved."""
    before = earlier(home, pushed_at)
    run, digest = judged(home.registry, SPEC, build_plan(tags=("v1.2",)))
    holds = digest if state == "moved" else before
    assert out(run) == Published(
        digest=digest, tags=(TagMove(tag="v1.2", state=state, digest=holds, previous=before),)
    )
    assert home.user_tags(NAME) == {"v1.2": holds}


@pytest.mark.parametrize(("ahead", "state"), [(4, "kept"), (6, "moved")])
def test_clocks_may_differ_by_minutes(home: MemoryRegistry, ahead: int, state: str) -> None:
    """An image of a builder whose clock is a little ahead is a newer push; one that is far ahead proves nothing."""
    earlier(home, (datetime.now(UTC) + timedelta(minutes=ahead)).isoformat())
    run, _ = judged(home.registry, SPEC, build_plan(tags=("v1.2",)))
    assert [move.state for move in out(run).tags] == [state]


def test_tags_that_are_new_or_right(home: MemoryRegistry) -> None:
    """The first publish makes every tag of the rule; the second finds them and writes nothing."""
    run, digest = judged(home.registry, SPEC, build_plan())
    moved = tuple(TagMove(tag=tag, state="moved", digest=digest) for tag in ("v1.2", "latest"))
    assert out(run) == Published(digest=digest, tags=moved)
    home.requests.clear()
    same = tuple(
        TagMove(tag=t, state="unchanged", digest=digest, previous=digest) for t in ("v1.2", "latest")
    )
    assert (out(run), home.writes()) == (Published(digest=digest, tags=same), [])


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.integers(0, 4), min_size=1, max_size=9))
def test_latest_is_the_newest_push_in_whatever_order(home: MemoryRegistry, order: list[int]) -> None:
    """After each publish, first, late or repeated, `latest` is the newest image that was let out so far."""
    home.tags.clear()
    digests = {}
    for number in order:
        plan = build_plan(tags=("latest",), run_id=f"r{number}", pushed_at=DAY + number * SECOND)
        run, digests[number] = judged(home.registry, SPEC, plan, seed=str(number))
        out(run)
        assert home.user_tags(NAME) == {"latest": digests[max(digests)]}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tries=st.lists(
        st.tuples(st.integers(0, 4), st.none() | st.integers(0, 8), st.booleans()), min_size=1, max_size=9
    )
)
def test_latest_never_goes_back_whatever_ends_a_try(
    home: MemoryRegistry, tries: list[tuple[int, int | None, bool]]
) -> None:
    """Of pushes by number: published late, cancelled after some requests, tried again, and built anew."""
    home.tags.clear()
    runs: dict[int, Run] = {}
    pushed = {"": -1}
    held = -1
    for count, (number, cancelled_after, anew) in enumerate(tries):
        if anew or number not in runs:
            plan = build_plan(tags=("latest",), run_id=f"r{number}", pushed_at=DAY + number * SECOND)
            runs[number], digest = judged(home.registry, SPEC, plan, seed=str(count))
            pushed[digest] = number
        done = False
        after = ENOUGH if cancelled_after is None else cancelled_after
        with home.dying(after), suppress(DeliveryChainError):
            out(runs[number])
            done = True
        before, held = held, pushed[home.user_tags(NAME).get("latest", "")]
        assert held in {before, number}
        assert held >= max(before, number if done else -1)


@pytest.mark.parametrize(
    ("left", "error", "message"),
    [
        ({"plan": None}, ConfigurationError, "this run has no plan: clear the task `plan`"),
        ({"assemble": None}, ConfigurationError, "this run has no image yet: clear the task `assemble`"),
        ({"gate": None}, Unjudged, "no gate of this run judged sha256:"),
        (
            {"gate": verdict(OTHER)},
            Unjudged,
            "the gate judged sha256:999999999999, this run's image is sha256:",
        ),
        ({"gate": "refused"}, Unjudged, "the gate refused sha256:"),
        ({"gate": verdict(OTHER, passed=False)}, Unjudged, "the gate judged sha256:999999999999"),
    ],
)
def test_without_a_pass_nothing_is_let_out(
    home: MemoryRegistry, left: dict[str, Any], error: type[DeliveryChainError], message: str
) -> None:
    """The verdict is asked for exactly this digest, whatever the tasks' states say; not retryable, nothing written."""
    run, digest = judged(home.registry, SPEC, build_plan())
    for task, value in left.items():
        run.xcoms.pop((task, -1, "return_value"))
        if value is not None:
            run.leave(task, verdict(digest, passed=False) if value == "refused" else value)
    home.requests.clear()
    with pytest.raises(error) as caught:
        out(run)
    assert message in str(caught.value)
    assert (type(caught.value), caught.value.retryable, home.requests) == (error, False, [])


def test_an_image_that_was_pushed_by_others_is_left_alone(home: MemoryRegistry) -> None:
    """Its tag is there: publish says so, and asks the registry nothing."""
    run = Run(SPEC, image_plan(OTHER, "v7"))
    run.leave("assemble", {"digest": OTHER, "media_type": "x", "size": 1})
    run.leave("gate", verdict(OTHER))
    assert out(run) == Published(digest=OTHER, tags=(TagMove(tag="v7", state="unchanged", digest=OTHER),))
    assert home.requests == []


def test_the_button_leads_to_the_image(home: MemoryRegistry) -> None:
    """The task leaves the address of the manifest for its link."""
    run, digest = judged(home.registry, SPEC, build_plan())
    out(run)
    assert (
        run.left("publish", "registry_url") == f"http://{home.registry.host}/v2/shop/api/manifests/{digest}"
    )


@pytest.mark.parametrize("lost_answer", [False, True])
def test_a_kill_at_any_request_ends_the_same(home: MemoryRegistry, *, lost_answer: bool) -> None:
    """Cut off before or after any request, the second try leaves the tags of a run that was not cut off."""
    run, _ = judged(home.registry, SPEC, build_plan())
    staged = dict(home.tags)
    home.requests.clear()
    out(run)
    wanted, count = dict(home.tags), len(home.requests)
    ends = []
    for cut in range(count):
        home.tags = dict(staged)
        with home.dying(cut, lost_answer=lost_answer), pytest.raises(DeliveryChainError) as caught:
            out(run)
        assert caught.value.retryable
        ends.append((out(run).held, dict(home.tags)))
    assert count > 5
    assert ends == [(("v1.2", "latest"), wanted)] * count


def test_the_verdict_is_read_from_the_task_gate_of_this_run() -> None:
    """Steps ask the gate's own return value, not that of one of its mapped instances or keys."""
    run = Run(SPEC, build_plan())
    run.leave("assemble", {"digest": OTHER, "media_type": "x", "size": 1})
    run.leave("gate", verdict(OTHER))
    true = run.xcoms.pop(("gate", -1, "return_value"))
    run.xcoms["gate", 0, "return_value"] = true
    run.xcoms["gate", -1, "skipmixin_key"] = true
    with pytest.raises(Unjudged):
        judging.passed(run.context("publish")["ti"])


def test_a_pass_comes_with_plan_spec_and_image() -> None:
    """What a step is given is what earlier steps left."""
    plan = build_plan()
    run = Run(SPEC, plan)
    run.leave("assemble", {"digest": OTHER, "media_type": "x", "size": 1})
    run.leave("gate", verdict(OTHER))
    found = judging.passed(run.context("publish")["ti"])
    assert (found[0], found[1], found[2].digest, found[3]) == (
        plan,
        SPEC,
        OTHER,
        verdict(OTHER, judged=run.judged()),
    )
