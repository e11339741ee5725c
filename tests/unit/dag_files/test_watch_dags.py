"""Dags that watch sources and images, and those for maintenance."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from airflow.serialization.serialized_objects import DagSerialization
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery_chain.core.events.watch_dags import images_dag_id, source_dag_id, watch_words
from delivery_chain.core.spec.model import Source
from delivery_chain.dag_files import factory
from support.dag_specs import FULL, IMAGES, edges, spec, waits


def test_a_watch_looks_again_within_a_minute() -> None:
    """Whatever failed it, a connection that was missing too."""
    (dag,) = factory.make_source_dags([spec()]).values()
    serialized = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert {max(waits(task)) for task in serialized.tasks} == {45}
    assert {task.retry_policy for task in dag.tasks} == {None}


def test_a_source_has_one_dag() -> None:
    """Two chains and two repositories that are built from one source share the Dag that watches it."""
    web = spec(
        name="web", scope=FULL["scope"] | {"repositories": ["web"]}, sources={"web": FULL["sources"]["api"]}
    )
    other = spec(name="other", sources={"api": {"connection": "git_shop", "url": "shop/other.git"}})
    dags = factory.make_source_dags([spec(), web, other])
    assert [sorted(dag.get_task("match").chains, key=str) for dag in dags.values()] == [
        sorted([(spec(), "api"), (web, "web")], key=str),
        [(other, "api")],
    ]
    assert [dag.dag_id for dag in dags.values()] == list(dags)


def test_images_have_one_dag_a_namespace() -> None:
    """Chains that build nothing share the Dag that watches their namespace; chains that build need none."""
    scope = IMAGES["scope"]
    some = spec(
        IMAGES, name="some", scope={"instance": "home", "namespace": "base", "repositories": ["a", "b"]}
    )
    rest = spec(IMAGES, name="rest", scope=scope | {"exclude": ["c"]})
    other = spec(IMAGES, name="other", scope=scope | {"namespace": "infra"})
    dags = factory.make_source_dags([some, rest, other])
    assert list(dags) == [images_dag_id("home", "base"), images_dag_id("home", "infra")]
    found = [(dag.get_task("watch"), dag.get_task("match")) for dag in dags.values()]
    assert [(w.connection, w.repositories, w.namespaces, w.exclude, w.cursor) for w, _ in found] == [
        ("home", ("base/a", "base/b"), ("base",), ("base/c",), images_dag_id("home", "base")),
        ("home", (), ("infra",), (), images_dag_id("home", "infra")),
    ]
    assert [(m.images_of, list(m.specs), m.cursor) for _, m in found] == [
        ("home", [some, rest], images_dag_id("home", "base")),
        ("home", [other], images_dag_id("home", "infra")),
    ]
    assert [dag.tags for dag in dags.values()] == [{"delivery-chain-images"}] * 2


def test_images_are_watched_as_sources_are() -> None:
    """The same steps in the same order, with the same cursor."""
    (dag,) = factory.make_source_dags([spec(IMAGES)]).values()
    assert edges(dag) == {"watch": ["match"], "match": ["start"], "start": ["remember"], "remember": []}
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    assert {dag.get_task(name).cursor for name in ("watch", "match", "remember")} == {dag.dag_id}


def test_the_dag_of_removed_chains() -> None:
    """It looks each minute while one of them may have runs, later for cleared ones; nobody would unpause it."""
    dags = [factory.make_removed_dag(["shop", "base"], unsettled=unsettled) for unsettled in (True, False)]
    assert [edges(dag) for dag in dags] == [{"settle-shop": [], "settle-base": []}] * 2
    assert [dag.schedule for dag in dags] == [timedelta(minutes=1), timedelta(minutes=5)]
    assert {dag.is_paused_upon_creation for dag in dags} == {False}


def test_the_dag_of_a_source() -> None:
    """It looks, starts runs, and remembers only after they were started; one run at a time, for ever."""
    (dag,) = factory.make_source_dags([spec()]).values()
    assert edges(dag) == {"watch": ["match"], "match": ["start"], "start": ["remember"], "remember": []}
    start = dag.get_task("start")
    assert start.partial_kwargs["skip_when_already_exists"] is True
    assert dag.get_task("remember").trigger_rule.value == "none_failed"
    assert (dag.max_active_runs, dag.catchup, dag.tags) == (1, False, {"delivery-chain-source"})
    assert {dag.get_task(name).cursor for name in ("watch", "match", "remember")} == {dag.dag_id}
    assert dag.start_date is not None


def test_just_the_wanted_source() -> None:
    """A task's own process makes the Dag that it is of, and no other."""
    other = spec(name="other", sources={"api": {"connection": "git_shop", "url": "shop/other.git"}})
    wanted = source_dag_id(Source(connection="git_shop", url="shop/other.git"))
    assert list(factory.make_source_dags([spec(), other], wanted)) == [wanted]
    assert factory.make_source_dags([spec(), other], "delivery-chain-source--nope-000000") == {}


@pytest.mark.parametrize(
    ("source", "dag_id"),
    [
        ({"connection": "git_shop", "url": "shop/api.git"}, "delivery-chain-source--git_shop--shop-api-"),
        ({"connection": "git_shop"}, "delivery-chain-source--git_shop-"),
        (
            {"connection": "g", "url": "ssh://git@x.org:22/a b.git"},
            "delivery-chain-source--g--ssh-git-x.org-22-a-b-",
        ),
    ],
)
def test_the_id_of_a_source_is_readable(source: dict[str, str], dag_id: str) -> None:
    """Connection and address can be read in it, and six more characters keep alike ones apart."""
    found = source_dag_id(Source.model_validate(source))
    assert (found[:-6], len(found) - len(dag_id)) == (dag_id, 6)


TEXTS = st.text(st.sampled_from("abcXYZ019/._- :~é"), max_size=120).filter(
    lambda text: not text.startswith("-")
)
CONNECTIONS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,60}", fullmatch=True)


@settings(deadline=None)
@given(connection=CONNECTIONS, url=TEXTS)
def test_every_id_of_a_source_is_one_that_airflow_takes(connection: str, url: str) -> None:
    """Short, of the characters of Dag ids; and its words are in every spec that has the source."""
    source = Source(connection=connection, url=url)
    found = source_dag_id(source)
    assert len(found) <= 120
    assert not set(found) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
    text = f"{connection} {url}"
    assert [word for word in watch_words(found) if word not in text] == []


@settings(deadline=None)
@given(one=st.tuples(CONNECTIONS, TEXTS), two=st.tuples(CONNECTIONS, TEXTS))
def test_two_sources_have_two_ids(one: tuple[str, str], two: tuple[str, str]) -> None:
    """Also where what can be read is the same."""
    ids = {source_dag_id(Source(connection=name, url=url)) for name, url in (one, two)}
    assert len(ids) == len({one, two})


def test_maintenance_has_a_task_per_chain() -> None:
    """Each chain is swept apart from the others, once a day."""
    dag = factory.make_maintenance_dag([spec(), spec(IMAGES)])
    assert edges(dag) == {"sweep-shop": [], "sweep-base": []}
    assert (dag.dag_id, dag.schedule, dag.max_active_runs) == ("delivery-chain-maintenance", "@daily", 1)


def test_a_watch_that_no_chain_needs_ends_its_last_run() -> None:
    """Whatever it was about: it waited, or was to look."""
    (dag,) = factory.make_over_dags(["delivery-chain-source--git--old-0123ab"]).values()
    watch = dag.get_task("watch")
    assert (dag.dag_id, dag.schedule, dag.task_ids) == (
        "delivery-chain-source--git--old-0123ab",
        None,
        ["watch"],
    )
    for do in (lambda: watch.execute({}), lambda: watch.resume_execution("looked", {"event": {}}, {})):
        with pytest.raises(AirflowSkipException, match="no chain in force"):
            do()
