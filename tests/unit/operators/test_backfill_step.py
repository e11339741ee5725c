from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.events.event import Event
from delivery_chain.errors import UsageError
from delivery_chain.operators import backfill
from delivery_chain.operators.backfill import ExistingOperator
from delivery_chain.operators.publish import PublishOperator
from delivery_chain.operators.replicate import ReplicateOperator
from support.chain_steps import Run, build_plan, chain, judged

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry

SPEC = chain(
    replicate=[{"name": "to-west", "to": "west"}, {"name": "releases", "to": "east", "tags": r"v1\.\d"}]
)
TAGS = ("v1.10", "v1.2", "edge")


def release(home: MemoryRegistry, *tags: str) -> Run:
    run, _ = judged(home.registry, SPEC, build_plan(tags=tags, run_id=tags[0]), seed=tags[0])
    run.do(PublishOperator(task_id="publish"))
    return run


def look(run_id: str = "asked", **params: str | None) -> list[dict[str, Any]]:
    context = {
        "params": {"chain": "shop", "rule": None, "tags": None} | params,
        "dag_run": SimpleNamespace(run_id=run_id),
    }
    found: list[dict[str, Any]] = ExistingOperator(task_id="look", specs=[SPEC]).execute(context)
    return found


def tags_of(runs: list[dict[str, Any]]) -> list[str]:
    return [Event.from_conf(run["conf"]).tag for run in runs]


def test_every_image_that_a_region_lacks_is_a_run(
    home: MemoryRegistry, west: MemoryRegistry, east: MemoryRegistry
) -> None:
    """One run a tag, in natural order, pinned to the digest that was seen, and nobody is told of it."""
    for tag in TAGS:
        release(home, tag)
    found = look()
    assert [Event.from_conf(run["conf"]) for run in found] == [
        Event(
            repository="api", tag=tag, digest=home.tags[f"shop/api:{tag}"], sender="existing", announce=False
        )
        for tag in ("edge", "v1.2", "v1.10")
    ]
    assert {run["trigger_dag_id"] for run in found} == {"shop"}


def test_what_is_there_starts_nothing(
    home: MemoryRegistry, west: MemoryRegistry, east: MemoryRegistry
) -> None:
    """A tag that every region of its rules holds is left alone; one that moved since is not."""
    run, _ = release(home, "edge"), release(home, "v1.10")
    run.do(ReplicateOperator(task_id="replicate", slot=0), 0)
    assert tags_of(look()) == ["v1.10"]
    west.tags["shop/api:edge"] = "sha256:" + "9" * 64
    assert tags_of(look()) == ["edge", "v1.10"]


@pytest.mark.parametrize(
    ("params", "tags"),
    [
        ({"rule": "releases"}, ["v1.2"]),
        ({"rule": "to-west", "tags": "v.*"}, ["v1.2", "v1.10"]),
        ({"tags": "v"}, []),
    ],
)
def test_rule_and_tags_narrow_it(
    home: MemoryRegistry, west: MemoryRegistry, east: MemoryRegistry, params: dict[str, str], tags: list[str]
) -> None:
    """Patterns match whole tags, the rule's own and the one that was asked for."""
    for tag in TAGS:
        release(home, tag)
    assert tags_of(look(**params)) == tags


def test_asked_again_it_makes_new_runs_and_a_retry_the_same(
    home: MemoryRegistry, west: MemoryRegistry, east: MemoryRegistry
) -> None:
    """Airflow makes one run of an id; who asks twice means it."""
    release(home, "v1.2")
    first, retry, second = look("a"), look("a"), look("b")
    assert first == retry
    assert first[0]["trigger_run_id"] != second[0]["trigger_run_id"]
    assert first[0]["trigger_run_id"].startswith("existing__api__v1.2__")


def test_no_more_than_airflow_starts_at_once(
    home: MemoryRegistry, west: MemoryRegistry, east: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is found by the next time."""
    monkeypatch.setattr(backfill, "MOST_RUNS", 2)
    for tag in TAGS:
        release(home, tag)
    assert tags_of(look()) == ["edge", "v1.2"]


def test_staging_tags_are_no_images(home: MemoryRegistry, west: MemoryRegistry, east: MemoryRegistry) -> None:
    """What a run on its way keeps in the registry is not sent."""
    judged(home.registry, SPEC, build_plan())
    assert look() == []


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"chain": "gone"}, "expected the name of a chain, found 'gone'"),
        ({"chain": None}, "expected the name of a chain, found None"),
        (
            {"rule": "lost"},
            "chain 'shop': expected a replication rule, found 'lost'; it has to-west, releases",
        ),
    ],
)
def test_what_is_not_there_is_named(
    home: MemoryRegistry, west: MemoryRegistry, east: MemoryRegistry, params: dict[str, Any], message: str
) -> None:
    """A wrong name is refused with those that exist."""
    with pytest.raises(UsageError) as caught:
        look(**params)
    assert str(caught.value) == message
