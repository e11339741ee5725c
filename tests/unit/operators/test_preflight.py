"""The first step finds at once what would fail a later one: missing connections."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, AirflowSkipException, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import DRCount, ErrorResponse, GetConnection, GetDRCount

from delivery_chain.core.spec.connections import Needed
from delivery_chain.errors import AirflowUnreachable, ConfigurationError, ConnectionMissing
from delivery_chain.hooks.registry import OciRegistryHook
from delivery_chain.operators import preflight
from delivery_chain.operators.plan import PlanOperator
from delivery_chain.tools.git import refs
from support.chain_steps import COMMIT, Run, chain

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.oci_memory import MemoryRegistry

SPEC = chain(
    replicate=[
        {"name": "to-west", "to": "west", "tags": "v.*"},
        {"name": "to-lab", "to": "lab", "tags": "dev-.*"},
    ],
    distribute=[
        {"name": "tell-prod", "url_connection": "prod", "on": {"regexp": "v.*"}},
        {"name": "tell-dev", "url_connection": "dev", "on": {"regexp": "dev-.*"}},
    ],
    build={
        "rules": [{"name": "release", "tag": r"v(?<n>\d+\.\d+)", "tags": [{"tag": "v${n}"}]}],
        "from": [{"connection": "bases", "namespaces": ["debian"]}],
    },
)
PUSH = {"kind": "source_push", "ref": "refs/tags/v1.2", "commit": COMMIT}
REGISTRY = {"conn_type": "oci_registry", "host": "registry.example.com"}
GOOD: dict[str, dict[str, Any]] = {
    "home": REGISTRY,
    "west": REGISTRY,
    "bases": REGISTRY,
    "git_shop": {"conn_type": "git", "host": "https://git.example.com/shop"},
    "prod": {"conn_type": "delivery_webhook", "host": "https://deploy.example.com/"},
}
"""What a release needs: neither the region `lab` nor the trigger `dev`."""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The source's tag is there; kept is how often the source was looked at."""
    found: list[str] = []

    def list_refs(source: Any, *, deadline: float) -> dict[str, str]:
        found.append(source.url)
        return {"refs/tags/v1.2": COMMIT}

    monkeypatch.setattr(refs, "list_refs", list_refs)
    return found


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, home: MemoryRegistry) -> Callable[..., None]:
    """Make the good connections, with changes; None for none. The registry is there, and empty."""
    there = REGISTRY | {"host": home.registry.host, "extra": {"plain_http": True}}

    def make(**changes: dict[str, Any] | None) -> None:
        for name, fields in (GOOD | {"home": there} | changes).items():
            if fields is None:
                monkeypatch.delenv(f"AIRFLOW_CONN_{name.upper()}", raising=False)
            else:
                monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))

    return make


def plan(**conf: Any) -> Any:
    return Run(SPEC, conf=PUSH | conf).do(PlanOperator(task_id="plan", spec=SPEC))


def test_what_a_run_needs_is_enough(looks: list[str], connect: Callable[..., None]) -> None:
    """A region or trigger that this run is not for may be missing."""
    connect()
    assert (plan()["plan"]["tags"], len(looks)) == (["v1.2"], 1)


def test_a_run_that_tells_nobody_needs_no_trigger(looks: list[str], connect: Callable[..., None]) -> None:
    """With `announce: false` the target's connection may be missing."""
    connect(prod=None)
    assert plan(announce=False)["plan"]["announce"] is False


@pytest.mark.parametrize(
    ("name", "what", "command", "looked"),
    [
        ("home", "the registry of chain shop", "registry home HOST", 0),
        ("git_shop", "the source of api", "git git_shop URL", 0),
        ("bases", "base images (build.from)", "registry bases HOST", 0),
        ("west", "replication rule to-west", "registry west HOST", 1),
        ("prod", "trigger tell-prod", "trigger prod URL", 1),
    ],
)
def test_a_missing_connection(
    looks: list[str], connect: Callable[..., None], name: str, what: str, command: str, looked: int
) -> None:
    """It is named with what needs it and the command that adds it; once it is there, a cleared plan goes on."""
    connect(**{name: None})
    with pytest.raises(ConnectionMissing) as caught:
        plan()
    told = (
        f"connection {name!r} is missing, needed for {what}: add it with `delivery-chain connect {command}` or "
        "correct its name in the spec. "
    )
    assert str(caught.value) == f"{told}Then clear `plan` and everything downstream"
    assert (caught.value.retryable, len(looks)) == (False, looked)
    connect()
    assert plan()["plan"]["tags"] == ["v1.2"]


def test_all_that_is_missing_is_told_at_once(looks: list[str], connect: Callable[..., None]) -> None:
    """One message for both, so that no user has to clear the task twice."""
    connect(west=None, prod=None)
    with pytest.raises(ConnectionMissing, match=r"'west' is missing.*; connection 'prod' is missing"):
        plan()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"west": GOOD["prod"]}, "connection 'west', field conn_type: expected type oci_registry, found"),
        ({"west": REGISTRY | {"host": "https://registry.example.com"}}, "connection 'west', field host"),
        ({"prod": GOOD["prod"] | {"host": "deploy"}}, "connection 'prod', field host: expected a URL"),
        ({"prod": GOOD["prod"] | {"password": "short"}}, "connection 'prod', field password"),
        ({"git_shop": GOOD["git_shop"] | {"host": "git.example.com:shop"}}, "known_hosts_file"),
        ({"git_shop": GOOD["git_shop"] | {"host": "file:///srv/git"}}, "transport file is not allowed"),
    ],
    ids=["type", "host", "target", "secret", "host keys", "transport"],
)
def test_a_connection_that_can_not_be_used(
    looks: list[str], connect: Callable[..., None], changes: dict[str, Any], said: str
) -> None:
    """What a later step would refuse is refused now, with what it is needed for."""
    connect(**changes)
    with pytest.raises(ConfigurationError) as caught:
        plan()
    assert (said in str(caught.value), "(needed for " in str(caught.value)) == (True, True), caught.value


def test_a_push_that_was_overtaken_needs_nothing(
    connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that does nothing does not fail for what it would have needed."""
    connect(west=None, prod=None)
    monkeypatch.setattr(refs, "list_refs", lambda source, *, deadline: {"refs/tags/v1.2": "b" * 40})
    with pytest.raises(AirflowSkipException):
        plan()


class Supervisor:
    """A task's supervisor that has no connection to give; `answers` is what it says to a count of runs."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def send(self, message: Any) -> Any:
        self.asked.append(type(message).__name__)
        if isinstance(message, GetConnection):
            return ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND)
        assert isinstance(message, GetDRCount)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_an_airflow_that_does_not_answer_is_no_missing_connection(
    looks: list[str], connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow says "not defined" also while its database is down, which passes: the task is tried again."""
    connect()
    away = AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR))
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(away), raising=False)
    monkeypatch.delenv("AIRFLOW_CONN_WEST")
    with pytest.raises(AirflowUnreachable) as caught:
        preflight.check([Needed("west", "oci_registry", "replication rule to-west")])
    assert caught.value.retryable is True


def test_an_airflow_that_answers_knows_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked once more, as its database may have come back only then; then it is believed."""
    supervisor = Supervisor(DRCount(count=0))
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    with pytest.raises(ConnectionMissing):
        OciRegistryHook("nowhere").registry()
    assert supervisor.asked == ["GetConnection", "GetDRCount", "GetConnection"]


def test_one_that_came_back_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is found the second time is as good as any."""
    found = SimpleNamespace(conn_type="oci_registry", host="r.example.com", login="", password="", port=None)
    found.extra = ""
    answers: list[Any] = [None, found]

    def get_connection(self: Any, conn_id: str) -> Any:
        from airflow.sdk.exceptions import AirflowNotFoundException  # noqa: PLC0415

        if (answer := answers.pop(0)) is None:
            raise AirflowNotFoundException(conn_id)
        return answer

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(DRCount(count=0)), raising=False)
    monkeypatch.setattr("airflow.sdk.BaseHook.get_connection", classmethod(get_connection))
    assert OciRegistryHook("late").registry().host == "r.example.com"
