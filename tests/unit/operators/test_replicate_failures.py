"""Replications to regions that are down, refuse requests or lose content, and kills at any request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.errors import (
    ContentMismatch,
    DeliveryChainError,
    RegistryUnreachable,
    TagConflict,
    Unauthorized,
)
from delivery_chain.operators.replicate import ReplicateOperator, TaskState
from support.chain_steps import NAME, chain
from support.replications import copied, published

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry


@pytest.mark.parametrize(("status", "error"), [(409, TagConflict), (403, Unauthorized)])
def test_a_registry_that_lets_no_tag_move(
    home: MemoryRegistry, west: MemoryRegistry, status: int, error: type[DeliveryChainError]
) -> None:
    """An immutable tag is the registry's own refusal: the task fails for good."""
    run, _ = published(home, tags=("v1.2",))
    west.fail("PUT", "/v2/shop/api/manifests/v1.2", status)
    with pytest.raises(error) as caught:
        copied(run)
    assert (type(caught.value), caught.value.retryable, west.tags) == (error, False, {})


def test_a_target_that_loses_a_part_is_not_believed(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """The registry says 201 for the manifest and does not hold it: no tag is set, and a retry sends it again."""
    run, digest = published(home)
    west.fail("PUT", "/v2/shop/api/manifests/sha256:.*", 201, times=1)
    with pytest.raises(ContentMismatch) as caught:
        copied(run)
    assert (caught.value.retryable, west.tags) == (True, {})
    copied(run)
    assert west.tags == {f"{NAME}:v1.2": digest, f"{NAME}:latest": digest}


def test_a_region_that_is_away_leaves_the_others_alone(
    home: MemoryRegistry, west: MemoryRegistry, east: MemoryRegistry
) -> None:
    """One region fails and may be tried again; the other holds the image."""
    spec = chain(replicate=[{"name": "to-west", "to": "west"}, {"name": "to-east", "to": "east"}])
    run, digest = published(home, "r1", spec)
    with west.dying(0), pytest.raises(RegistryUnreachable) as caught:
        copied(run)
    run.do(ReplicateOperator(task_id="replicate", slot=1), 1)
    assert (caught.value.retryable, west.tags) == (True, {})
    assert east.tags == {f"{NAME}:v1.2": digest, f"{NAME}:latest": digest}


@pytest.mark.parametrize("lost_answer", [False, True])
@pytest.mark.parametrize("where", ["home", "west"])
def test_a_kill_at_any_request_ends_the_same(
    home: MemoryRegistry, west: MemoryRegistry, where: str, *, lost_answer: bool
) -> None:
    """Cut off before or after any request, no tag is there too early, and the retry leaves a whole region."""
    held = {"home": home, "west": west}[where]
    run, digest = published(home)
    held.requests.clear()
    copied(run)
    whole, count = (dict(west.tags), dict(west.manifests), dict(west.blobs)), len(held.requests)
    ends = []
    for cut in range(count):
        for store in (west.tags, west.manifests, west.blobs):
            store.clear()
        with held.dying(cut, lost_answer=lost_answer), pytest.raises(DeliveryChainError) as caught:
            copied(run)
        assert caught.value.retryable
        assert not west.tags or set(west.manifests) == set(whole[1])
        ends.append((copied(run).digest, (dict(west.tags), dict(west.manifests), dict(west.blobs))))
    assert count > 2
    assert ends == [(digest, whole)] * count


def test_what_a_region_lost_is_sent_again(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """A region that still has the manifest and lost a blob below it is not taken for one that holds the image."""
    run, _ = published(home)
    copied(run)
    whole = dict(west.blobs)
    del west.blobs[min(west.blobs)]
    assert copied(run).copied == 1
    assert west.blobs == whole


def test_open_uploads_outlive_a_try(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """What a killed try had open is in the task's state for the next; a copy that ends well leaves nothing there."""
    run, _ = published(home)
    context = run.context("replicate", 0)
    TaskState(context).save({"http://west/shop/api@sha256:1": "http://west/v2/shop/api/blobs/uploads/1"})
    assert TaskState(context).load() == {
        "http://west/shop/api@sha256:1": "http://west/v2/shop/api/blobs/uploads/1"
    }
    TaskState(context).save({})
    copied(run)
    assert TaskState(context).load() == {}


@pytest.mark.parametrize("how", ["plain", "of another task"])
def test_addresses_that_somebody_else_wrote_are_not_asked(
    home: MemoryRegistry, west: MemoryRegistry, how: str
) -> None:
    """Airflow's task state can be edited over REST, and requests to these addresses carry the region's login."""
    run, _ = published(home)
    context = run.context("replicate", 0)
    uploads = {
        f"http://{west.registry.host}/{NAME}@{key.rpartition('@')[2]}": "/v2/other/app" for key in home.blobs
    }
    if how == "plain":
        context["task_state_store"].set("uploads", uploads)
    else:
        TaskState(run.context("replicate", 1)).save(uploads)
        run.stores["replicate", 0] = run.stores["replicate", 1]
    assert TaskState(run.context("replicate", 0)).load() == {}
    copied(run)
    assert [request for request in west.requests if "other" in str(request)] == []
