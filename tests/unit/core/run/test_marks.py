"""Actions of users on a run, from Airflow's event log in the shapes that its REST API writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.run.marks import MANY, ONE, REOPEN, Mark, Row, marks_of


def row(event: str, owner: str = "anna", *, task: str = "", dag: str = "d", **body: Any) -> Row:
    return Row(
        event=event, owner=owner, dag_id=dag, task_id=task, extra=json.dumps(body | {"method": "PATCH"})
    )


def updates(*entities: Any, action: str = "update") -> dict[str, Any]:
    return {"actions": [{"action": action, "entities": list(entities)}]}


FAILED, GREEN = row("patch_dag_run", state="failed"), row("patch_dag_run", "bob", state="success")
BY_ANNA, BY_BOB = Mark(by="anna", what="failed"), Mark(by="bob", what="success")
CLEARED = Mark(by="anna", what="cleared")


@pytest.mark.parametrize(
    ("rows", "marks"),
    [
        ([FAILED], [BY_ANNA]),
        ([FAILED, GREEN], [BY_ANNA, BY_BOB]),
        # A note alone, also where a state stands beside it that does not count.
        ([row("patch_dag_run", note="x")], []),
        ([row("patch_dag_run", state="failed", note="x", update_mask="note")], []),
        ([row("patch_dag_run", state="failed", update_mask="state")], [BY_ANNA]),
        # A task, and one instance of a mapped one: the number is from the path, so it is a text.
        (
            [row("patch_task_instance", task="gate", new_state="success")],
            [Mark(by="anna", what="success", step="gate")],
        ),
        (
            [row("patch_task_instance", task="build", new_state="failed", map_index="1")],
            [Mark(by="anna", what="failed", step="build", index=1)],
        ),
        # Several runs at once: the rows name the Dag or a wildcard, the body the runs.
        ([row("bulk_dag_runs", **updates({"dag_run_id": "r", "state": "failed"}))], [BY_ANNA]),
        (
            [row("bulk_dag_runs", dag="~", **updates({"dag_id": "d", "dag_run_id": "r", "state": "failed"}))],
            [BY_ANNA],
        ),
        (
            [row("bulk_dag_runs", dag="~", **updates({"dag_id": "e", "dag_run_id": "r", "state": "failed"}))],
            [],
        ),
        ([row("bulk_dag_runs", dag="e", **updates({"dag_run_id": "r", "state": "failed"}))], []),
        ([row("bulk_dag_runs", **updates({"dag_run_id": "q", "state": "failed"}))], []),
        ([row("bulk_dag_runs", **updates({"dag_run_id": "r", "state": "failed"}, action="delete"))], []),
        # Whatever is cleared, the run goes on, and what was marked before is of no account.
        ([FAILED, row("clear_dag_run", dry_run=False)], [CLEARED]),
        (
            [FAILED, row("post_clear_task_instances", dry_run=False, task_ids=["gate", ["scan", 1]])],
            [
                Mark(by="anna", what="cleared", step="gate"),
                Mark(by="anna", what="cleared", step="scan", index=1),
            ],
        ),
        ([FAILED, row("post_clear_task_instances", dry_run=False)], [CLEARED]),
        ([FAILED, row("clear_dag_runs", dry_run=False, dag_runs=[{"dag_run_id": "r"}])], [CLEARED]),
        ([FAILED, row("clear_dag_runs", dry_run=True, dag_runs=[{"dag_run_id": "r"}])], [BY_ANNA]),
        ([FAILED, row("clear_dag_runs", dag_runs=[{"dag_run_id": "r"}])], [BY_ANNA]),
        ([FAILED, row("patch_dag_run", state="queued")], [Mark(by="anna", what="queued")]),
        (
            [
                row("patch_task_instance", task="gate", new_state="failed"),
                row("post_clear_task_instances", dry_run=False, task_ids=["scan"]),
            ],
            [Mark(by="anna", what="failed", step="gate"), Mark(by="anna", what="cleared", step="scan")],
        ),
        # Who stops a run has the last word over who let it go on.
        ([row("clear_dag_run", dry_run=False), FAILED], [BY_ANNA]),
        ([row("post_clear_task_instances", dry_run=False, task_ids=["gate"]), GREEN], [BY_BOB]),
        # To have its end told again is no word against who stopped it.
        (
            [FAILED, row("post_clear_task_instances", dry_run=False, task_ids=["report"])],
            [BY_ANNA, Mark(by="anna", what="cleared", step="report")],
        ),
        # Ours: once for each clear.
        ([row("clear_dag_run", dry_run=False), row(REOPEN, "dc")], [CLEARED, Mark(by="dc", what="reopened")]),
        ([row(REOPEN, "dc"), row("clear_dag_run", dry_run=False)], [CLEARED]),
        # No name, and one that is no single line.
        ([row("patch_dag_run", "", state="failed")], [Mark(by="an unknown user", what="failed")]),
        (
            [row("patch_dag_run", "a\nb" + "x" * 90, state="failed")],
            [Mark(by="a b" + "x" * 57, what="failed")],
        ),
    ],
)
def test_who_did_what(rows: list[Row], marks: list[Mark]) -> None:
    """As far as it is in force."""
    assert list(marks_of("d", "r", rows)) == marks


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["state", "new_state", "actions", "entities", "action", "task_ids", "dag_runs", "map_index"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@given(
    events=st.lists(st.tuples(st.sampled_from(sorted(ONE | MANY)), JSON | st.just("update")), max_size=4),
    text=st.text(max_size=20),
)
def test_no_body_breaks_it(events: list[tuple[str, Any]], text: str) -> None:
    """Requests that Airflow refused are in its log, too."""
    rows = [
        Row(event=event, owner="a", dag_id="d", task_id="t", extra=json.dumps(body)) for event, body in events
    ]
    marks_of("d", "r", [*rows, *(Row(event=event, owner="a", extra=text) for event, _ in events)])
