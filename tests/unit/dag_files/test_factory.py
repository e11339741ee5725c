"""The Dag of a chain: its steps, their upstream tasks, its form, and the status of its version."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.definitions._internal.expandinput import ListOfDictsExpandInput
from airflow.serialization.serialized_objects import DagSerialization

from delivery_chain.core.events.event import Event
from delivery_chain.core.spec import engines
from delivery_chain.core.spec.in_force import Entry, State
from delivery_chain.core.spec.model import ChainSpec
from delivery_chain.core.spec.standing import Standing
from delivery_chain.core.steps import BEFORE
from delivery_chain.dag_files import factory
from support.dag_specs import FULL, IMAGES, edges, spec, waits

BOTH_KINDS = pytest.mark.parametrize("body", [FULL, IMAGES])


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


def test_every_step_waits_for_what_is_away() -> None:
    """Whoever decides, task or scheduler: over an hour for each step, and for the plan two weeks at 10 minutes each."""
    dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(factory.make_chain_dag(spec())))
    lasting = {task.task_id: sum(waits(task)) / 60 for task in dag.tasks}
    assert lasting.pop("plan") > 14 * 24 * 60
    assert all(minutes > 60 for minutes in lasting.values()), lasting
    assert {task.task_id: max(waits(task)) for task in dag.tasks if task.task_id == "plan"} == {"plan": 600}
    assert {task.retry_delay.total_seconds() for task in dag.tasks} == {10}


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
