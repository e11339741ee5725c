"""Airflow's role `user` may edit XComs, task states, and the conf of runs. None of these edits
releases an image, and none makes a run look better than it is."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import requests

from delivery_chain.core.seal import SEAL, SIGNING_SECRET
from delivery_chain.errors import ToolError
from delivery_chain.sandbox import source
from delivery_chain.sandbox.api import AirflowApi
from support.chain_runs import Ended, Sandbox
from support.edited_chain import CHAIN, IMAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.e2e
GOOD, BAD = "e1", "e2"
"""Git tags, and tags of the images."""
NOWHERE = {"cn-hangzhou": "", "ap-southeast-1": "", "eu-central-1": ""}
OUT = ("publish", "replicate", "distribute")


@pytest.fixture(scope="module")
def logins(sandbox: Sandbox) -> Iterator[dict[str, AirflowApi]]:
    """A login for each role."""
    passwords = json.loads(sandbox.layout.passwords_file.read_text("utf-8"))
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(AirflowApi(sandbox.api.address, name, password))
            for name, password in passwords.items()
        }


@pytest.fixture(scope="module")
def user(sandbox: Sandbox, logins: dict[str, AirflowApi]) -> Sandbox:
    """The sandbox as seen by role `user`."""
    return Sandbox(sandbox.layout, logins["bob"], sandbox.registries, sandbox.secrets)


@pytest.fixture(scope="module")
def pushed(sandbox: Sandbox, started: object) -> tuple[source.Push, source.Push]:
    """A clean and a vulnerable release."""
    del started
    return (
        source.push(sandbox.layout, "api", tag=GOOD),
        source.push(sandbox.layout, "api", tag=BAD, vulnerable=True),
    )


@pytest.fixture(scope="module")
def passed(user: Sandbox, pushed: tuple[source.Push, source.Push]) -> Ended:
    """The run of the clean release."""
    run = user.of_push(CHAIN, pushed[0])
    assert (run.state, run.xcom("gate")["passed"]) == ("success", True)
    return run


@pytest.fixture(scope="module")
def refused(user: Sandbox, pushed: tuple[source.Push, source.Push]) -> Ended:
    """The run of the vulnerable release."""
    run = user.of_push(CHAIN, pushed[1])
    assert (run.state, run.xcom("gate")["passed"]) == ("failed", False)
    return run


def write(
    user: Sandbox, run: Ended, task: str, value: Any, *, index: int = -1, key: str = "return_value"
) -> None:
    """Edit an XCom as the UI and REST clients do."""
    path = f"{user.task_path(run, task)}/xcomEntries/{key}"
    assert user.api.call("PATCH", path, body={"value": value, "map_index": index})


def let_out(user: Sandbox, run: Ended, *tasks: str) -> Ended:
    """Point the gate's branch at `publish`, and clear the tasks that release an image."""
    write(user, run, "gate", {"followed": ["publish"]}, key="skipmixin_key")
    user.clear(run, *(tasks or OUT))
    return user.again(run)


def page(user: Sandbox, run: Ended) -> str:
    """The page of the run, as a browser with this login shows it."""
    password = json.loads(user.layout.passwords_file.read_text("utf-8"))["bob"]
    token = requests.post(
        f"{user.api.address}/auth/token", json={"username": "bob", "password": password}, timeout=15
    ).json()["access_token"]
    answer = requests.get(
        f"{user.api.address}/delivery-chain/{run.dag_id}/{run.run_id}",
        headers={"Authorization": f"Bearer {token}"},
        timeout=15,
    )
    assert answer.status_code == 200
    return answer.text


def as_passed(_: Ended, value: dict[str, Any]) -> Any:
    return value | {"passed": True, "hits": [], "deciding": []}


def unsealed(_: Ended, value: dict[str, Any]) -> Any:
    return {key: part for key, part in as_passed(_, value).items() if key != SEAL}


def milder(_: Ended, value: dict[str, Any]) -> Any:
    return value | {"spec": value["spec"] | {"scan": {}}}


def no_findings(passed: Ended, value: dict[str, Any]) -> Any:
    """The report of the clean image, under the digest of the vulnerable one."""
    (clean,), (result,) = passed.xcom("scan", 0)["results"], value["results"]
    return value | {"results": [result | {"report": clean["report"], "counts": clean["counts"]}]}


def other_digest(passed: Ended, value: dict[str, Any]) -> Any:
    return value | {"digest": passed.xcom("assemble")["digest"]}


def of_the_passed(task: str, index: int = -1) -> Callable[[Ended, Any], Any]:
    """Replace a value by what the passed run's task left, including its seal."""
    return lambda passed, _: passed.xcom(task, index)


EDITS: list[tuple[str, int, Callable[[Ended, Any], Any]]] = [
    ("gate", -1, as_passed),
    ("gate", -1, unsealed),
    ("gate", -1, of_the_passed("gate")),
    ("plan", -1, milder),
    ("plan", -1, of_the_passed("plan")),
    ("assemble", -1, other_digest),
    ("assemble", -1, of_the_passed("assemble")),
    ("scan", 0, no_findings),
    ("scan", 0, of_the_passed("scan", 0)),
]


def test_the_secret_is_not_for_everybody(logins: dict[str, AirflowApi], passed: Ended) -> None:
    """The scheduler created it for the first run; role `user` may not read it, and those who may see it masked."""
    assert passed.state == "success"
    with pytest.raises(ToolError, match="status 403"):
        logins["bob"].variable(SIGNING_SECRET)
    assert logins["olga"].variable(SIGNING_SECRET) == "***"


def test_a_refused_image_stays_in_whatever_is_edited(user: Sandbox, passed: Ended, refused: Ended) -> None:
    """Edit one XCom after another, and clear the releasing tasks; each time, they name the edited value."""
    found = []
    for task, index, edit in EDITS:
        original = refused.xcom(task, index)
        write(user, refused, task, edit(passed, original), index=index)
        again = let_out(user, refused, "publish")
        name = f"{task}[{index}]" if index >= 0 else task
        log = again.logs["publish", -1]
        found.append((again.states["publish"], "SealBroken" in log, f"what the task `{name}` left" in log))
        write(user, refused, task, original, index=index)
    assert found == [(("failed",), True, True)] * len(EDITS)
    assert user.digests(IMAGE, BAD) == NOWHERE


def test_put_back_as_it_was_a_verdict_is_itself_again(user: Sandbox, refused: Ended) -> None:
    """The seal covers the value, not the database row: a restored refusal still refuses."""
    write(user, refused, "gate", refused.xcom("gate"))
    again = let_out(user, refused, "publish")
    assert "the gate refused sha256:" in again.logs["publish", -1]


@pytest.mark.parametrize("task", ["gate", "scan", "assemble", "plan"])
def test_a_value_that_was_removed_lets_nothing_out(user: Sandbox, refused: Ended, task: str) -> None:
    """The task still shows success, as if marked by a user, but tasks that need its value refuse to run."""
    index = 0 if task == "scan" else -1
    path = f"{user.task_path(refused, task)}/xcomEntries/return_value"
    user.api.call("DELETE", path, query={"map_index": index})
    again = let_out(user, refused, "publish")
    entries = f"{user.task_path(refused, task)}/xcomEntries"
    body = {"key": "return_value", "value": refused.xcom(task, index), "map_index": index}
    assert user.api.call("POST", entries, body=body)
    assert again.states["publish"] == ("failed",)
    assert user.digests(IMAGE, BAD) == NOWHERE


def test_an_edited_run_says_so(user: Sandbox, refused: Ended) -> None:
    """Note and page name the altered value, and show neither the forged verdict nor a pass."""
    write(user, refused, "gate", as_passed(refused, refused.xcom("gate")))
    again = let_out(user, refused)
    shown = page(user, refused)
    assert again.note.startswith("NOT TO BE TRUSTED: what gate left was changed afterwards")
    assert ("The verdict of this run was changed after the gate left it" in shown, "Passed" in shown) == (
        True,
        False,
    )
    write(user, refused, "gate", refused.xcom("gate"))


def test_a_blocked_run_that_is_marked_green_is_shown_as_blocked(user: Sandbox, refused: Ended) -> None:
    """Every task is marked as successful, and then the run. Airflow shows success, but note and page do not."""
    marked = {"new_state": "success", "include_downstream": False}
    instances = user.api.task_instances(refused.dag_id, refused.run_id)
    for one in instances:
        if one["state"] not in {"success", "skipped"}:
            where = user.task_path(refused, one["task_id"])
            where += f"/{one['map_index']}" if one["map_index"] >= 0 else ""
            assert user.api.call("PATCH", where, body=marked)
    assert user.again(refused).note.startswith("blocked: ")
    assert user.api.call("PATCH", f"/dags/{CHAIN}/dagRuns/{refused.run_id}", body={"state": "success"})
    again = user.again(refused)
    shown = page(user, refused)
    assert (again.state, again.note.startswith("blocked: ")) == ("success", True)
    assert again.note.endswith("; marked as success by bob")
    assert ("Blocked: " in shown, "marked as success by bob" in shown, "Passed" in shown) == (
        True,
        True,
        False,
    )
    assert user.digests(IMAGE, BAD) == NOWHERE


@pytest.mark.parametrize("task", ["publish", "replicate"])
def test_a_trigger_tells_nothing_that_was_edited(user: Sandbox, passed: Ended, task: str) -> None:
    """In a run that passed, a user edits what was published or copied, and clears the triggers."""
    index = 0 if task == "replicate" else -1
    original = passed.xcom(task, index)
    write(user, passed, task, original | {"digest": "sha256:" + "0" * 64}, index=index)
    user.clear(passed, "distribute")
    again = user.again(passed)
    write(user, passed, task, original, index=index)
    ran = [log for (name, _), log in again.logs.items() if name == "distribute"]
    assert ran
    assert [f"what the task `{task}" in log and "SealBroken" in log for log in ran] == [True] * len(ran)


def test_a_run_says_who_started_it(user: Sandbox, passed: Ended) -> None:
    """A conf can claim any actor, sender and time; the plan names the user who started the run."""
    conf = passed.conf | {
        "kind": "manual",
        "actor": "alice",
        "sender": "webhook hook_shop",
        "delivery_id": "1",
        "seen_at": "2999-01-01T00:00:00Z",
    }
    user.api.trigger(CHAIN, "by-bob", conf)
    run = user.of_run(CHAIN, "by-bob")
    assert run.xcom("plan")["plan"]["actor"] == "alice, says bob"


@pytest.mark.parametrize("kind", ["image_push", "manual"])
def test_a_refused_image_is_refused_by_its_digest_too(user: Sandbox, refused: Ended, kind: str) -> None:
    """A user starts a run for the blocked image, as if it had been pushed by others."""
    digest = refused.xcom("assemble")["digest"]
    conf = {"kind": kind, "repository": "api", "digest": digest}
    user.api.trigger(CHAIN, f"again-{kind}", conf)
    run = user.of_run(CHAIN, f"again-{kind}")
    assert (run.state, set(run.states["publish"]) & {"success"}) == ("failed", set())
    assert "success" not in run.states["replicate"] + run.states["distribute"]
