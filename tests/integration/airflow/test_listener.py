# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""The listener inside real scheduler steps, on a SQLite database of Airflow: runs that begin, end and resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest

from delivery_chain.core.gate.judge import Hit
from delivery_chain.core.plan import Planned
from delivery_chain.core.results import Record, Subject
from support.stored_run import DIGEST, PASSED, REFUSED, RUN, TITLE, Chain, listening, plan_of, spec_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration
OURS = "delivery-chain"
DELIVERED = f"delivered: {TITLE} passed without a scan, published, copied to west, 1 trigger fired"
BLOCKED = f"blocked: 3 findings; {TITLE}"
SEARCHED = "blocked: 3 findings"


@pytest.fixture(scope="module")
def database() -> Iterator[None]:
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    with create_session() as session:
        initdb(session=session)
    with listening():
        yield


@pytest.fixture
def chain(database: None, request: pytest.FixtureRequest) -> Chain:
    """A run that has begun."""
    made = Chain(
        f"chain-{crc32(request.node.nodeid.encode())}", getattr(request, "param", ("delivery-chain",))
    )
    made.create()
    return made


def test_a_run_that_ended_says_how(chain: Chain) -> None:
    """A run that delivered succeeds, and its note is its outcome."""
    chain.states(quarantine="skipped", denied="skipped")
    chain.deliver()
    assert (chain.end(), chain.note) == ("success", (DELIVERED, OURS))


def test_a_run_is_what_its_report_is(chain: Chain) -> None:
    """A blocked run fails through its report, whatever states its other tasks have."""
    chain.states(report="failed", publish="skipped", replicate="skipped", distribute="skipped")
    chain.deliver(REFUSED)
    assert (chain.end(), chain.note) == ("failed", (BLOCKED, OURS))


@pytest.mark.parametrize("state", ["success", "failed"])
def test_who_cancelled_a_run_is_in_its_note(chain: Chain, state: str) -> None:
    """Even if it was stopped by marking it as successful."""
    chain.states("skipped", plan="success", build="failed" if state == "failed" else state, report="failed")
    chain.leave(plan=Planned(plan=plan_of(chain.dag_id), spec=spec_of(chain.dag_id)))
    chain.mark("patch_dag_run", "anna", state=state)
    where = {"failed": "build", "success": "assemble"}[state]
    assert (chain.end(), chain.note) == (
        "failed",
        (f"cancelled by anna in {where}; shop/api v7 was not published", OURS),
    )


def test_a_bulk_request_names_the_run_in_its_body(chain: Chain) -> None:
    """As sent by the list of runs when several are selected."""
    chain.states("skipped", plan="failed", report="failed")
    entities = [{"dag_run_id": "other", "state": "success"}, {"dag_run_id": RUN, "state": "failed"}]
    chain.mark("bulk_dag_runs", "anna", actions=[{"action": "update", "entities": entities}])
    chain.end()
    assert chain.note == ("cancelled by anna in plan; nothing was built", OURS)


def test_a_blocked_run_that_is_marked_green_is_blocked(chain: Chain) -> None:
    """Airflow shows the state that the user set; the note says what happened, and names the user."""
    chain.states(publish="skipped", replicate="skipped", distribute="skipped")
    chain.deliver(REFUSED)
    chain.mark("patch_dag_run", "bob", state="success")
    assert (chain.end(), chain.note) == ("success", (f"{BLOCKED}; marked as success by bob", OURS))


def test_a_run_that_is_cleared_with_downstream_has_no_old_end(chain: Chain) -> None:
    """The report is cleared with the rest, so it need not be reset; still, the old note is marked as outdated."""
    chain.states("upstream_failed", plan="failed", report="failed")
    assert chain.end() == "failed"
    chain.mark("post_clear_task_instances", "carl", dry_run=False, task_ids=["plan"])
    chain.clear("plan")
    chain.clear("report")
    chain.begin()
    assert chain.note == ("resumed: cleared by carl", OURS)


def test_a_run_that_goes_on_tells_its_end_anew(chain: Chain) -> None:
    """One cleared task is enough: the report runs again, with all its tries, and corrects the note."""
    chain.states(distribute="failed", report="failed", quarantine="skipped", denied="skipped")
    chain.deliver()
    assert chain.end() == "failed"
    assert chain.note is not None
    assert chain.note[0].startswith("partly delivered: ")
    chain.mark("post_clear_task_instances", "carl", dry_run=False, task_ids=["distribute"])
    chain.clear("distribute")
    before = chain.instances()["report"]
    chain.begin()
    assert chain.note == ("resumed: cleared by carl", OURS)
    assert (before[:2], chain.instances()["report"][:2]) == (("failed", 1), ("", 1))
    assert (chain.instances()["report"][2], chain.tries("report")) == (
        1 + chain.dag.get_task("report").retries,
        [1],
    )
    chain.states(quarantine="skipped", denied="skipped")
    assert (chain.end(), chain.note) == ("success", (DELIVERED, OURS))


@pytest.mark.parametrize(("clears", "state"), [(0, "queued"), (1, "failed")])
def test_what_is_cleared_while_the_report_runs_is_told(chain: Chain, clears: int, state: str) -> None:
    """The report had already read the states: it runs once more, because its state is the run's."""
    chain.states(report="running", quarantine="skipped", denied="skipped")
    chain.deliver()
    chain.leave(report=Record(chain="c", image="i", tags=(), sentence="partly delivered", clears=clears))
    chain.clear("distribute")
    chain.states(report="failed", quarantine="skipped", denied="skipped")
    assert chain.end() == state
    if state == "queued":
        chain.begin()
        assert chain.instances()["report"][0] == ""


def test_a_person_who_marks_a_run_ends_it(chain: Chain) -> None:
    """Whatever was cleared before, the run does not resume against the user's will."""
    from airflow.utils.session import create_session

    chain.states(report="failed")
    chain.leave(report=Record(chain="c", image="i", tags=(), sentence="partly delivered"))
    chain.clear("distribute")
    with create_session() as session:
        run = chain.run(session)
        run.state = "failed"
        run.notify_dagrun_state_changed(msg="Dag Run's state was manually set to `failed`.")
        assert run.state == "failed"


def test_a_run_goes_on_as_often_as_one_likes(chain: Chain) -> None:
    """Each time, the report gets all its tries, and no earlier try is lost."""
    for number in range(1, 4):
        chain.states(distribute="failed", report="failed")
        from airflow.utils.session import create_session

        with create_session() as session:
            for one in chain.run(session).get_task_instances(session=session):
                one.try_number = number
        assert chain.end() == "failed"
        chain.clear("distribute")
        chain.begin()
    assert chain.tries("report") == [1, 2, 3]


def test_mapped_tasks_have_their_names_before_they_run(chain: Chain) -> None:
    """Skipped regions and triggers have their names, too."""
    chain.begin()
    names = {name: one[3] for name, one in chain.instances().items() if one[3]}
    assert names == {
        "scan0": "linux/amd64",
        "scan1": "linux/arm64",
        "scan2": "other platforms",
        "replicate0": "west",
        "distribute0": "prod",
    }


def test_a_run_that_goes_on_has_its_deleted_tasks_again(chain: Chain) -> None:
    """Tasks downstream would wait forever, because Airflow itself recreates only mapped tasks."""
    before = chain.instances()
    chain.delete("plan", "publish", "report")
    chain.begin()
    after = chain.instances()
    assert {name: one[:3] for name, one in after.items()} == {name: one[:3] for name, one in before.items()}


def test_the_end_of_a_run_names_the_task_that_was_deleted(chain: Chain) -> None:
    """A missing task can't be cleared, but the run can."""
    chain.states(quarantine="skipped", denied="skipped")
    chain.leave(plan=Planned(plan=plan_of(chain.dag_id), spec=spec_of(chain.dag_id)))
    chain.leave(assemble=Subject(digest=DIGEST, media_type="m", size=1), gate=PASSED)
    chain.delete("publish")
    chain.states(report="failed")
    chain.end()
    assert chain.note is not None
    assert chain.note[0].startswith(f"failed in publish: its task was deleted: clear the run; {TITLE} ")


def test_a_run_that_begins_is_left_as_it_is(chain: Chain) -> None:
    """Nothing has to be reset, and the run has no note."""
    before = {name: one[:3] for name, one in chain.instances().items()}
    chain.begin()
    assert ({name: one[:3] for name, one in chain.instances().items()}, chain.note) == (before, None)


@pytest.mark.parametrize("by", ["anna", None])
def test_a_persons_note_stays(chain: Chain, by: str | None) -> None:
    """A note by a user, or from the trigger, is never overwritten, neither at the end of a run nor when it resumes."""
    chain.states(report="failed")
    chain.write("mine", by)
    chain.end()
    chain.begin()
    assert chain.note == ("mine", by)


def test_the_form_that_marks_a_run_leaves_an_empty_note(chain: Chain) -> None:
    """An empty note has no author, so the run's outcome replaces it."""
    chain.states("skipped", plan="success", build="failed", report="failed")
    chain.leave(plan=Planned(plan=plan_of(chain.dag_id), spec=spec_of(chain.dag_id)))
    chain.mark("patch_dag_run", "anna", state="failed", note=None)
    chain.write(None, "anna")
    chain.end()
    assert chain.note == ("cancelled by anna in build; shop/api v7 was not published", OURS)


def test_the_form_that_marks_a_run_sends_our_note_back(chain: Chain) -> None:
    """Although it is stored under the user's name, it counts as ours, and is updated when the run ends again."""
    chain.states(quarantine="skipped", denied="skipped")
    chain.deliver()
    chain.end()
    chain.write(DELIVERED, "anna")
    chain.mark("clear_dag_run", "carl")
    chain.begin()
    assert chain.note == ("resumed: cleared by carl", OURS)
    chain.write("resumed: cleared by carl", "anna")
    chain.states(quarantine="skipped", denied="skipped")
    chain.end()
    assert chain.note == (DELIVERED, OURS)


def test_a_person_may_add_to_our_note(chain: Chain) -> None:
    """Then the note belongs to that user."""
    chain.states(quarantine="skipped", denied="skipped")
    chain.deliver()
    chain.end()
    chain.write(f"{DELIVERED}. Rolled back by hand", "anna")
    chain.begin()
    chain.states(quarantine="skipped", denied="skipped")
    chain.end()
    assert chain.note == (f"{DELIVERED}. Rolled back by hand", "anna")


def test_our_own_note_is_brought_up_to_date(chain: Chain) -> None:
    """A run that was cleared and ends again has the outcome of its last end."""
    chain.states(quarantine="skipped", denied="skipped")
    chain.deliver()
    chain.write("old", OURS)
    chain.end(times=2)
    assert chain.note == (DELIVERED, OURS)


@pytest.mark.parametrize("chain", [("nightly",)], indirect=True)
def test_other_dags_are_left_alone(chain: Chain) -> None:
    """Without the tag, tasks with these names have no meaning."""
    chain.states(report="failed")
    chain.deliver()
    chain.end()
    chain.begin()
    assert (chain.note, chain.instances()["report"][0]) == (None, "failed")


FORGED = REFUSED.model_copy(update={"passed": True, "hits": ()}).to_xcom()


@pytest.mark.parametrize("gate", ["text", ["x"], {"passed": True}, FORGED, {}])
def test_a_verdict_that_somebody_edited_is_not_believed(chain: Chain, gate: Any) -> None:
    """Users who may edit XComs can't change the run's note or outcome with them."""
    chain.states(quarantine="skipped", denied="skipped")
    chain.deliver()
    chain.leave(gate=gate)
    chain.end()
    assert chain.note is not None
    assert chain.note[0].startswith("NOT TO BE TRUSTED: what gate left was changed afterwards; ")
    assert "delivered" not in chain.note[0]


def test_a_verdict_that_somebody_removed_is_missed(chain: Chain) -> None:
    """The record of the first end proves that a verdict existed."""
    chain.states(publish="skipped", replicate="skipped", distribute="skipped")
    chain.leave(plan=Planned(plan=plan_of(chain.dag_id), spec=spec_of(chain.dag_id)))
    chain.leave(report=Record(chain="c", image="shop/api", tags=(), verdict=SEARCHED, sentence="x"))
    chain.end()
    assert chain.note is not None
    assert chain.note[0].endswith("; its verdict was removed; marked as success by hand")


def test_a_long_sentence_is_cut(chain: Chain) -> None:
    """Airflow's column holds 1000 characters."""
    chain.states(report="failed", publish="skipped", replicate="skipped", distribute="skipped")
    chain.deliver(REFUSED.model_copy(update={"hits": (Hit(clause="x" * 2000, count=3),)}))
    chain.end()
    assert chain.note == (f"blocked: 3 {'x' * 989}", OURS)
