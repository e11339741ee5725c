"""Cancelled runs that are cleared, on both databases: what Airflow's own cancel and clear leave, and what resumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest
from sqlalchemy import text

from delivery_chain.airflow_db import listener, outcomes
from delivery_chain.core.plan import Planned
from delivery_chain.core.results import Published, Subject, TagMove
from support.stored_run import DIGEST, PASSED, Chain, listening, plan_of, spec_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.webhook_store import Stored

pytestmark = pytest.mark.integration
OURS = "delivery-chain"
AFTER_GATE = "publish quarantine denied replicate distribute report"
AFTER_BUILD = f"assemble scan gate {AFTER_GATE}"
BUILT = {"plan": "success", "build": "success"}
JUDGED = BUILT | {"assemble": "success", "scan": "success", "gate": "success"}
OUT = JUDGED | {"publish": "success", "quarantine": "skipped", "denied": "skipped"}


@pytest.fixture(scope="module")
def database(metadata: Stored) -> Iterator[Stored]:
    """Airflow's database, with the listener."""
    with listening():
        yield metadata


@pytest.fixture
def chain(database: Stored, request: pytest.FixtureRequest) -> Chain:
    """A run that has begun."""
    made = Chain(f"chain-{database.kind}-{crc32(request.node.nodeid.encode())}")
    made.create()
    return made


def leave(chain: Chain, **states: str) -> None:
    """Set the states of these steps, and leave their results."""
    values = {
        "plan": Planned(plan=plan_of(chain.dag_id), spec=spec_of(chain.dag_id)),
        "assemble": Subject(digest=DIGEST, media_type="m", size=1),
        "gate": PASSED,
        "publish": Published(digest=DIGEST, tags=(TagMove(tag="v7", state="moved", digest=DIGEST),)),
    }
    chain.set(**states)
    chain.leave(**{step: value for step, value in values.items() if states.get(step) == "success"})


@pytest.mark.parametrize(
    ("states", "goes_on"),
    [
        ({}, f"plan build {AFTER_BUILD}"),
        ({"plan": "running"}, f"plan build {AFTER_BUILD}"),
        ({"plan": "success", "build": "running"}, f"build {AFTER_BUILD}"),
        (BUILT, AFTER_BUILD),
        (BUILT | {"assemble": "success", "scan": "running"}, f"scan gate {AFTER_GATE}"),
        (JUDGED | {"quarantine": "skipped", "denied": "skipped"}, "publish denied replicate distribute report"),
        (OUT | {"replicate": "running"}, "denied replicate distribute report"),
        (OUT, "denied replicate distribute report"),
        (OUT | {"replicate": "success", "distribute": "running"}, "denied distribute report"),
    ],
    ids=["nothing", "plan", "build", "before assemble", "scan", "after gate", "copy", "after publish", "delivery"],
)  # fmt: skip
def test_a_cancelled_run_goes_on_where_it_was(chain: Chain, states: dict[str, str], goes_on: str) -> None:
    """After a clear with `only failed`, the skipped steps are pending, and no others, however far the run had come."""
    leave(chain, **states)
    chain.stop()
    chain.set(report="failed")
    assert chain.end() == "failed"
    chain.clear_failed()
    chain.begin()
    assert chain.in_state("") == goes_on
    tries = {name: most - tried for name, (state, tried, most, _) in chain.instances().items() if not state}
    assert tries == {name: chain.dag.get_task(name.rstrip("0123456789")).retries for name in tries}


def test_a_run_that_was_cancelled_in_the_queue_does_nothing(chain: Chain) -> None:
    """It starts only for the steps that report its end."""
    chain.stop()
    chain.begin()
    assert chain.in_state("") == "denied report"


def test_it_is_cancelled_and_cleared_as_often_as_one_likes(chain: Chain) -> None:
    """Even if the run is stopped before any of its tasks has started again."""
    leave(chain, plan="success", build="running")
    for _ in range(3):
        chain.stop()
        chain.set(report="failed")
        assert (chain.end(), chain.in_state("")) == ("failed", "")
        chain.clear_failed()
        chain.begin()
        assert chain.in_state("") == f"build {AFTER_BUILD}"
    assert chain.note == ("resumed: cleared by anna", OURS)


def test_a_run_that_is_cleared_while_a_cancel_ends_it_goes_on_once(chain: Chain) -> None:
    """Airflow still considers it running, so it does not start again; its report finds that steps did not run."""
    leave(chain, plan="success", build="running")
    chain.stop()
    chain.clear_failed()
    assert chain.in_state("") == "build report"
    chain.set(build="success", report="failed")
    assert chain.end() == "queued"
    chain.begin()
    assert chain.in_state("") == AFTER_BUILD
    chain.set(**dict.fromkeys(AFTER_BUILD.split(), "skipped") | {"report": "failed"})
    assert chain.end() == "failed"


def test_a_build_that_failed_may_be_cleared_alone(chain: Chain) -> None:
    """The tasks downstream had failed with it, and its triggers had nothing to deliver."""
    leave(chain, plan="success", build="failed")
    upstream = dict.fromkeys(
        ("assemble", "scan", "gate", "publish", "quarantine", "replicate"), "upstream_failed"
    )
    chain.set(**upstream, denied="upstream_failed", distribute="skipped", report="failed")
    assert chain.end() == "failed"
    chain.mark("post_clear_task_instances", "anna", dry_run=False, task_ids=["build"])
    chain.clear("build")
    chain.begin()
    assert chain.in_state("") == f"build {AFTER_BUILD}"


def test_the_report_of_a_cancelled_run_may_be_cleared_alone(chain: Chain) -> None:
    """It reports the same outcome again, and nothing else is done."""
    leave(chain, **BUILT)
    chain.stop()
    chain.set(report="failed")
    assert chain.end() == "failed"
    before = ("cancelled by bob in assemble; shop/api v7 was not published", OURS)
    assert chain.note == before
    chain.mark("post_clear_task_instances", "anna", dry_run=False, task_ids=["report"])
    chain.clear("report")
    chain.begin()
    assert (chain.in_state(""), chain.note) == (
        "denied report",
        ("resumed: cleared by anna", OURS),
    )
    chain.set(denied="skipped", report="failed")
    assert (chain.end(), chain.note) == ("failed", before)


def refuse(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Make the database fail when it is queried for a run's outcome."""
    ask, left = outcomes.facts_of, [None] * times

    def asked(connection: Any, *about: Any, **more: Any) -> Any:
        if left:
            left.pop()
            connection.execute(text("SELECT 1 FROM no_such_table"))
        return ask(connection, *about, **more)

    monkeypatch.setattr(outcomes, "facts_of", asked)


@pytest.mark.parametrize("times", [1, 3])
def test_a_note_that_could_not_be_written_is_written_later(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """When another run starts or ends. The run's end does not wait for it, and its transaction is not affected."""
    leave(chain, plan="success", build="running")
    chain.stop()
    chain.set(report="failed")
    # The end of a run queries twice: for the note, and whether the run has to resume.
    refuse(monkeypatch, times + 1)
    assert (chain.end(), chain.note) == ("failed", None)
    other = Chain(f"{chain.dag_id}-other", tags=("another",))
    other.create()
    for _ in range(times):
        assert chain.note is None
        other.begin()
    assert chain.note == ("cancelled by bob in build; shop/api v7 was not published", OURS)
    assert listener._missed == {}


def test_a_note_that_can_never_be_written_is_given_up(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some attempts. The run's outcome can still be read, and clearing its report writes the note."""
    chain.states("upstream_failed", plan="failed", report="failed")
    refuse(monkeypatch, 100)
    assert chain.end() == "failed"
    for _ in range(listener.MOST_TRIES):
        assert len(listener._missed) == 1
        chain.begin()
    assert (listener._missed, chain.note) == ({}, None)
