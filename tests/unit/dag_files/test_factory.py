from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.definitions._internal.expandinput import ListOfDictsExpandInput
from airflow.sdk.exceptions import AirflowSkipException
from airflow.serialization.serialized_objects import DagSerialization
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery_chain.core.events.event import Event
from delivery_chain.core.events.watch_dags import images_dag_id, source_dag_id, watch_words
from delivery_chain.core.spec import engines
from delivery_chain.core.spec.in_force import Entry, State
from delivery_chain.core.spec.model import ChainSpec, Source
from delivery_chain.core.spec.standing import Standing
from delivery_chain.core.steps import BEFORE
from delivery_chain.dag_files import factory

ROOT = Path(__file__).parents[3]
RULES = [
    {
        "name": "main",
        "branch": "main",
        "tags": [{"tag": "edge"}],
        "platforms": ["linux/arm64", "linux/amd64"],
    },
    {"name": "release", "tag": r"v(?<n>\d+)", "tags": [{"tag": "v${n}"}]},
]
FULL: dict[str, Any] = {
    "version": 1,
    "name": "shop",
    "description": "Builds the shop.",
    "scope": {"instance": "home", "namespace": "shop", "repositories": ["api"]},
    "sources": {"api": {"connection": "git_shop", "url": "shop/api.git"}},
    "build": {"rules": RULES},
    "scan": {"platforms": ["linux/386"]},
    "replicate": [{"name": "to-west", "to": "west"}, {"name": "to-east", "to": "east"}],
    "distribute": [{"name": "prod", "url_connection": "prod_hook"}],
}
IMAGES: dict[str, Any] = {
    "version": 1,
    "name": "base",
    "scope": {"instance": "home", "namespace": "base", "all": True},
}
BOTH_KINDS = pytest.mark.parametrize("body", [FULL, IMAGES])


def spec(body: dict[str, Any] | None = None, **changes: Any) -> ChainSpec:
    return ChainSpec.model_validate((body or FULL) | changes)


def edges(dag: Any) -> dict[str, list[str]]:
    return {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}


@BOTH_KINDS
def test_the_steps_and_their_order(body: dict[str, Any]) -> None:
    """Every chain has the same tasks: their ids are the record's column names."""
    assert edges(factory.make_chain_dag(spec(body))) == {
        "plan": ["assemble", "build"],
        "build": ["assemble"],
        "assemble": ["gate", "scan"],
        "scan": ["gate"],
        "gate": ["publish", "quarantine"],
        "publish": ["distribute", "replicate"],
        "quarantine": ["denied"],
        "denied": ["report"],
        "replicate": ["distribute"],
        "distribute": ["report"],
        "report": [],
    }


def test_each_step_waits_for_what_the_table_says() -> None:
    """By it a run that goes on knows what follows what is done again."""
    dag = factory.make_chain_dag(spec())
    found = {task.task_id: set(task.upstream_task_ids) for task in dag.tasks}
    assert {step: set(before) for step, before in BEFORE.items()} == {
        step: before for step, before in found.items() if step in BEFORE
    }
    assert set(found) - set(BEFORE) == {"plan", "denied", "report"}


def test_which_steps_run_after_a_failure() -> None:
    """Publish and replicate need all before them; the report runs whatever they did, and its state is the run's."""
    dag = factory.make_chain_dag(spec())
    assert {task.task_id: task.trigger_rule.value for task in dag.tasks} == {
        "plan": "all_success",
        "build": "all_success",
        "assemble": "none_failed_min_one_success",
        "scan": "all_success",
        "gate": "none_failed_min_one_success",
        "publish": "all_success",
        "quarantine": "all_success",
        "denied": "all_success",
        "replicate": "all_success",
        "distribute": "all_done",
        "report": "all_done_setup_success",
    }
    assert [task.task_id for task in dag.tasks if task.is_teardown] == ["report"]
    assert dag.get_task("report").on_failure_fail_dagrun is True


@pytest.mark.parametrize(
    ("body", "mapped"),
    [
        (
            FULL,
            {
                "build": {"slot": [0, 1]},
                "scan": {"slot": [0, 1, 2, 3]},
                "replicate": {"slot": [0, 1]},
                "distribute": {"slot": [0]},
            },
        ),
        (
            IMAGES,
            {
                "build": {"slot": []},
                "scan": {"slot": [0, 1, 2]},
                "replicate": {"slot": []},
                "distribute": {"slot": []},
            },
        ),
    ],
)
def test_steps_are_mapped_over_what_the_spec_says(body: dict[str, Any], mapped: dict[str, Any]) -> None:
    """Over how many there are, never over which: the plan says what an instance is about, and its name."""
    dag = factory.make_chain_dag(spec(body))
    found = {task.task_id: task for task in dag.tasks if task.is_mapped}
    assert {name: task.expand_input.value for name, task in found.items()} == mapped
    assert {name: task.partial_kwargs["map_index_template"] for name, task in found.items()} == dict.fromkeys(
        mapped, "{{ task.about(ti) }}"
    )


def test_scans_are_mapped_over_engines_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each platform with each engine."""
    monkeypatch.setattr(engines, "SCAN_ENGINES", ("trivy", "other"))
    body = FULL | {"scan": FULL["scan"] | {"engine": ["trivy", "other"]}}
    dag = factory.make_chain_dag(spec(body))
    assert dag.get_task("scan").expand_input.value == {"slot": list(range(8))}


def test_every_task_can_be_started() -> None:
    """A task's process goes through its inlets before anything of ours runs: a mapped task without any can't start."""
    tasks = factory.make_chain_dag(spec()).task_dict.values()
    assert {task.task_id: (task.inlets, task.outlets) for task in tasks} == {
        task.task_id: ([], []) for task in tasks
    }


def test_the_dag_of_a_chain() -> None:
    """It is found by its tags, runs when something is pushed, and publishes one image at a time."""
    dag = factory.make_chain_dag(spec())
    assert (dag.dag_id, dag.description, dag.tags) == ("shop", "Builds the shop.", {"delivery-chain", "shop"})
    assert (dag.schedule, dag.catchup, dag.max_active_runs) == (None, False, 64)
    assert dag.get_task("publish").max_active_tis_per_dag == 1
    assert {task.owner for task in dag.tasks} == {"delivery-chain"}
    assert {type(task.retry_policy).__name__ for task in dag.tasks} == {"ChainRetryPolicy"}
    assert {task.weight_rule for task in dag.tasks} == {"upstream"}


def waits(task: Any) -> list[float]:
    """Seconds from each try to the next one, where the scheduler alone decides: at the least."""
    longest = task.max_retry_delay.total_seconds()
    first, factor = task.retry_delay.total_seconds(), task.retry_exponential_backoff
    return [min(first * factor ** min(number, 30), longest) for number in range(task.retries)]


def test_every_step_waits_for_what_is_away() -> None:
    """Whoever decides, task or scheduler: over an hour for each step, and for the plan two weeks at 10 minutes each."""
    dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(factory.make_chain_dag(spec())))
    lasting = {task.task_id: sum(waits(task)) / 60 for task in dag.tasks}
    assert lasting.pop("plan") > 14 * 24 * 60
    assert all(minutes > 60 for minutes in lasting.values()), lasting
    assert {task.task_id: max(waits(task)) for task in dag.tasks if task.task_id == "plan"} == {"plan": 600}
    assert {task.retry_delay.total_seconds() for task in dag.tasks} == {10}


def test_a_watch_looks_again_within_a_minute() -> None:
    """Whatever failed it, a connection that was missing too."""
    (dag,) = factory.make_source_dags([spec()]).values()
    serialized = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert {max(waits(task)) for task in serialized.tasks} == {45}
    assert {task.retry_policy for task in dag.tasks} == {None}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (FULL, {"ref", "rule", "repository", "tag", "digest", "announce"}),
        (IMAGES, {"repository", "tag", "digest"}),
    ],
)
def test_the_form_asks_for_an_event(body: dict[str, Any], fields: set[str]) -> None:
    """Every field is one of an event's and may be left out; a chain that builds nothing asks for no ref."""
    params = factory.make_chain_dag(spec(body)).params
    assert set(params) == fields
    assert fields <= set(Event.model_fields)
    assert Event.from_conf(params.dump()) == Event()


def test_the_form_offers_what_there_is() -> None:
    """Rules and repositories are chosen from a list, with nothing as the first choice."""
    params = factory.make_chain_dag(spec()).params
    choices = {name: params.get_param(name).schema.get("enum") for name in params}
    assert choices == {
        "ref": None,
        "rule": [None, "main", "release"],
        "repository": [None, "api"],
        "tag": None,
        "digest": None,
        "announce": None,
    }


def test_a_task_has_no_form_of_its_own() -> None:
    """Else each task would carry a copy, and a Dag would take many times as long to serialise."""
    dag = factory.make_chain_dag(spec())
    assert {len(task.params) for task in dag.tasks if not task.is_mapped} == {0}


@BOTH_KINDS
def test_a_dag_survives_airflows_database(body: dict[str, Any]) -> None:
    """What the scheduler reads back has the same tasks and edges, and serialises to the same text."""
    dag = factory.make_chain_dag(spec(body))
    text = DagSerialization.serialize_dag(dag)
    again = DagSerialization.deserialize_dag(json.loads(json.dumps(text)))
    assert edges(again) == edges(dag)
    assert DagSerialization.serialize_dag(factory.make_chain_dag(spec(body))) == text


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


def test_a_dag_carries_its_spec() -> None:
    """The receiver of webhooks finds it in what Airflow stores, and it is the chain's own."""
    stored = DagSerialization.serialize_dag(factory.make_chain_dag(spec()))
    (plan,) = (task["__var"] for task in stored["tasks"] if task["__var"]["task_id"] == "plan")
    assert ChainSpec.model_validate_json(plan["doc_json"]) == spec()


ENTRY = Entry(number=3, fingerprint="0123456789abcdef", file="team/shop.yaml", slots={})


def standing(state: State, **fields: Any) -> Standing:
    return Standing.of(ENTRY.model_copy(update={"state": state, **fields}))


@pytest.mark.parametrize(
    ("state", "tags", "begins"),
    [
        (State.CURRENT, set(), "# shop"),
        (State.ABSENT, set(), "# shop"),
        (
            State.INVALID,
            {"invalid spec"},
            "**The spec is invalid.** This is version 3 (01234567), the last valid one;",
        ),
        (
            State.NO_FILES,
            {"no spec files"},
            "**The specs folder has no spec.** This is version 3 (01234567)",
        ),
        (State.REMOVED, {"removed chain"}, "**This chain was removed** from the specs (`team/shop.yaml`)."),
    ],
)
def test_a_dag_says_how_its_version_stands(state: State, tags: set[str], begins: str) -> None:
    """As its first words and as a tag, where there is something to say; the number always."""
    dag = factory.make_chain_dag(spec(), standing=standing(state))
    assert dag.tags - {"delivery-chain", "shop"} == tags
    assert dag.doc_md.startswith(begins)
    assert "Version 3 (01234567) of the spec." in dag.doc_md


def test_a_dag_has_room_for_what_its_earlier_versions_had() -> None:
    """So that runs which were planned with them lose no region."""
    dag = factory.make_chain_dag(
        spec(), standing=standing(State.CURRENT, wide={"replicate": 5, "distribute": 0})
    )
    found = {task.task_id: len(task.expand_input.value["slot"]) for task in dag.tasks if task.is_mapped}
    assert found == {"build": 2, "scan": 4, "replicate": 5, "distribute": 1}


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


LIGHT = """
import sys, runpy
import airflow.sdk
from airflow.providers.standard.operators.branch import BaseBranchOperator
from airflow.sdk import BaseHook
BaseHook.get_connection = None  # a call would raise
before = set(sys.modules)
found = {}
for file in sys.argv[1:]:
    found |= runpy.run_path(file)
new = set(sys.modules) - before
print(sorted(name for name, value in found.items() if type(value).__name__ == "DAG"))
print(sorted(name for name in new if name.startswith(HEAVY)))
"""
HEAVY = (
    "requests",
    "urllib3",
    "kubernetes",
    "docker",
    "standardwebhooks",
    "delivery_chain.oci",
    "delivery_chain.tools",
    "delivery_chain.hooks",
    "delivery_chain.triggers",
    "delivery_chain.web",
    "airflow.providers.git",
    "airflow.providers.cncf",
    "airflow.providers.docker",
)


def parse(*files: str, wanted: str = "") -> list[list[str]]:
    """What a fresh process makes of Dag files: names of Dags, and heavy modules that it imported for them."""
    env = os.environ | {
        "PYTHONPATH": str(ROOT / "plugins"),
        "AIRFLOW__DELIVERY_CHAIN__SPECS_FOLDER": str(ROOT / "chain_specs"),
    }
    if wanted:
        env["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = wanted
    # Airflow's own operator that starts runs imports its models.
    heavy = HEAVY if "delivery_chain_sources.py" in files else (*HEAVY, "airflow.models")
    code = LIGHT.replace("HEAVY", repr(heavy))
    paths = [str(ROOT / "dags" / file) for file in files]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], env=env, capture_output=True, text=True, check=True, timeout=120
    )
    return [json.loads(line.replace("'", '"')) for line in done.stdout.splitlines()[-2:]]


def test_a_parse_is_light() -> None:
    """No tool, HTTP client or provider is imported for a Dag, and no connection is read."""
    found = parse("delivery_chains.py", "delivery_chain_sources.py", "delivery_chain_errors.py")
    assert (len(found[0]), found[1]) == (8, [])
    assert {"shop-api", "shop-web", "base-images", "maintenance", "existing"} <= set(found[0])


@pytest.mark.parametrize(
    ("file", "wanted", "made"),
    [
        ("delivery_chains.py", "shop-web", ["shop-web"]),
        ("delivery_chains.py", "delivery-chain-maintenance", ["maintenance"]),
        ("delivery_chain_sources.py", "delivery-chain-existing", ["existing"]),
    ],
)
def test_a_task_makes_its_own_dag_alone(file: str, wanted: str, made: list[str]) -> None:
    """Its start costs the same in an installation of any size."""
    assert parse(file, wanted=wanted) == [made, []]


@pytest.mark.parametrize(
    "make", [factory.make_source_dags, lambda specs: {"x": factory.make_existing_dag(specs)}]
)
def test_what_comes_from_outside_is_no_template(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A branch may be called `{{conn.home.password}}`, and Airflow renders what it expands from an XCom."""
    seen = {
        "trigger_dag_id": "shop",
        "trigger_run_id": "branch__{{7*7}}",
        "conf": {"ref": "refs/heads/{{7*7}}", "commit": "{{ conn.home.password }}"},
    }
    wanted = json.loads(json.dumps(seen))
    (dag,) = make([spec()]).values()
    task = dag.get_task("start")
    monkeypatch.setattr(ListOfDictsExpandInput, "resolve", lambda *_: (seen, set()))
    context: dict[str, Any] = {
        "ti": SimpleNamespace(task=task),
        "dag": dag,
        "dag_run": SimpleNamespace(conf={"chain": "shop"}),
    }
    monkeypatch.setattr("airflow.sdk.definitions.param.process_params", lambda *_, **__: {})
    task.render_template_fields(context)
    made = context["task"]
    assert {key: getattr(made, key) for key in wanted} == wanted


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
