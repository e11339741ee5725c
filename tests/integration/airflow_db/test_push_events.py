# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""The ledger, read from a SQLite database of Airflow, and its page with Airflow's own login."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from delivery_chain.core.events.ledger import EVENT, Entry, LedgerLine, Looked, Outcome
from delivery_chain.core.events.watch_dags import source_dag_id
from delivery_chain.core.run.state import Facts
from delivery_chain.core.spec.model import Source
from delivery_chain.core.xcom_keys import LEDGER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

    from delivery_chain.airflow_db.push_events import Ledger

pytestmark = [
    pytest.mark.integration,
    # Imported by Airflow's own web server.
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`"),
]
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
A, B = "a" * 40, "b" * 40
PLACE = source_dag_id(Source(connection="git_shop", url="shop/api.git"))
QUIET = source_dag_id(Source(connection="git_other", url="quiet.git"))
CHAIN = "shop-api"
HOOK = "webhook gh"


def entry(ref: str = "refs/tags/v1", ago: float = 600, **given: Any) -> Entry:
    """An entry as left by a webhook or the sensor; `ago` is in seconds."""
    whole = {"ref": ref, "commit": A, "at": NOW - timedelta(seconds=ago), "by": HOOK}
    return (Looked if "sensor" in given.values() else Entry).model_validate(whole | given)


def run_of(ref: str, *, made: bool) -> tuple[Outcome, ...]:
    return (Outcome(chain=CHAIN, rule="release", run_id=f"run-{ref[-2:]}", made=made),)


class Records:
    """Writes the records that webhooks and sensors leave."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.runs = 0

    def told(self, place: str | None, *entries: Entry, extra: str = "") -> None:
        from airflow.models.log import Log
        from sqlalchemy import insert

        for one in entries:
            text = extra or one.model_dump_json(exclude_defaults=True)
            row = {"dttm": one.at, "dag_id": place, "event": EVENT, "owner": one.by, "extra": text}
            self.session.execute(insert(Log), [row])

    def looked(self, place: str, *entries: Entry, value: Any = None, state: str = "success") -> None:
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.xcom import XComModel
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        self.runs += 1
        run_id = f"scheduled__{self.runs}"
        run = DagRun(
            dag_id=place,
            run_id=run_id,
            run_type=DagRunType.MANUAL,
            state=state,
            run_after=NOW,
            triggered_by=DagRunTriggeredByType.TEST,
        )
        self.session.add(run)
        self.session.flush()
        version = self.versions[place]
        task = TaskInstance(self.tasks["match"], dag_version_id=version, run_id=run_id)
        task.dag_id, task.map_index = place, -1
        self.session.add(task)
        self.session.flush()
        found = [one.to_xcom() for one in entries] if value is None else value
        XComModel.set(
            key=LEDGER, value=found, task_id="match", dag_id=place, run_id=run_id, session=self.session
        )
        self.session.flush()

    def planned(self, run_id: str, state: str | None, *, error: str = "", by: str = "plan") -> None:
        """A chain's run whose task `plan` has a state, and the error that the task left as its reason."""
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.xcom import XComModel
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        from delivery_chain.core.seal import Place, sealed
        from delivery_chain.hooks.signing_secret import signing_secret

        about = {"run_type": DagRunType.MANUAL, "triggered_by": DagRunTriggeredByType.TEST, "run_after": NOW}
        self.session.add(DagRun(dag_id=CHAIN, run_id=run_id, state="running", **about))
        self.session.flush()
        task = TaskInstance(
            self.tasks["match"], dag_version_id=self.versions[CHAIN], run_id=run_id, state=state
        )
        task.dag_id, task.task_id, task.map_index, task.try_number = CHAIN, "plan", -1, 1
        task.end_date = NOW - timedelta(minutes=1)
        self.session.add(task)
        self.session.flush()
        if error:
            place = Place(CHAIN, run_id, by, key="reason")
            value = sealed({"reason": "because", "error": error}, place, signing_secret())
            XComModel.set(
                key="reason", value=value, task_id="plan", dag_id=CHAIN, run_id=run_id, session=self.session
            )
        self.session.flush()

    def dags(self) -> None:
        """Two sensors' Dags and a chain's."""
        from airflow.models.dag_version import DagVersion
        from airflow.models.dagbundle import DagBundleModel
        from airflow.models.serialized_dag import SerializedDagModel
        from airflow.providers.standard.operators.empty import EmptyOperator
        from airflow.sdk import DAG
        from airflow.serialization.definitions.dag import SerializedDAG
        from airflow.serialization.serialized_objects import LazyDeserializedDAG

        self.session.merge(DagBundleModel(name="tests"))
        self.session.flush()
        self.versions: dict[str, Any] = {}
        for dag_id, title in ((PLACE, "source git_shop shop/api.git"), (QUIET, "source q"), (CHAIN, CHAIN)):
            with DAG(dag_id, schedule=None, dag_display_name=title) as dag:
                EmptyOperator(task_id="match")
            lazy = LazyDeserializedDAG.from_dag(dag)
            SerializedDAG.bulk_write_to_db("tests", None, [lazy], session=self.session)
            SerializedDagModel.write_dag(lazy, bundle_name="tests", session=self.session)
            self.session.flush()
            version = DagVersion.get_latest_version(dag_id, session=self.session)
            assert version is not None
            self.versions[dag_id] = version.id
            self.tasks = SerializedDagModel.get_dag(dag_id, session=self.session).task_dict  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def database() -> None:
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    with create_session() as session:
        initdb(session=session)


@pytest.fixture
def records(database: None) -> Iterator[Records]:
    """An empty ledger, with its Dags."""
    from airflow.models.connection import Connection
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.log import Log
    from airflow.models.variable import Variable
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete, update

    with create_session() as session:
        for model in (XComModel, DagRun, Log, Variable, Connection):
            session.execute(delete(model))
        found = Records(session)
        found.dags()
        session.execute(update(DagModel).values(is_paused=False, is_stale=False))
        yield found


@pytest.fixture
def read(records: Records) -> Callable[..., Ledger]:
    """Read everything written so far."""
    from delivery_chain.airflow_db import push_events

    def ask(since: timedelta = DAY, readable: set[str] | None = None) -> Ledger:
        records.session.flush()
        return push_events.read(records.session, NOW - since, NOW, readable)

    return ask


def lines(ledger: Ledger) -> list[tuple[str, str, tuple[str, ...], tuple[str, ...]]]:
    """Ref, senders in order, and gaps."""
    return [(one.name, one.by, tuple(sight.by for sight in one.also), one.gaps) for one in ledger.changes]


def test_both_kinds_of_records_are_read(records: Records, read: Callable[..., Ledger]) -> None:
    """A webhook's row and a sensor's XCom for one push form one line; entries that belong to no Dag are included."""
    ref = "refs/tags/v1"
    records.told(PLACE, entry(ref, outcomes=run_of(ref, made=True), actor="mona"))
    records.told(None, entry("refs/heads/x", 500, why="no chain builds it"))
    records.looked(PLACE, entry(ref, 597, by="sensor", outcomes=run_of(ref, made=False)))
    ledger = read()
    assert lines(ledger) == [("branch x", HOOK, (), ()), ("tag v1", HOOK, ("sensor",), ())]
    assert ledger.changes[1] == LedgerLine.model_validate(
        {
            "place": PLACE, "ref": ref, "commit": A, "at": NOW - timedelta(seconds=600), "by": HOOK, "actor": "mona",
            "last": NOW - timedelta(seconds=597), "also": [{"by": "sensor", "after": 3.0}],
            "outcomes": run_of(ref, made=True), "runs": [{"chain": CHAIN, "run_id": "run-v1", "state": "gone"}],
        }
    )  # fmt: skip
    assert (ledger.cut, ledger.skipped, ledger.since) == (False, 0, NOW - DAY)


@pytest.mark.parametrize(
    ("by", "ago", "state"),
    [("sensor", 30, "about to begin"), ("sensor", 600, "gone"), (HOOK, 30, "gone")],
)
def test_a_run_that_is_not_there(
    records: Records, read: Callable[..., Ledger], by: str, ago: float, state: str
) -> None:
    """A change that the sensor saw just now has no run yet, because it names the run before creating it."""
    given = entry("refs/tags/v1", ago, by=by, outcomes=run_of("refs/tags/v1", made=True))
    (records.looked if by == "sensor" else records.told)(PLACE, given)
    assert [run.word for change in read().changes for run in change.runs] == [state]


@pytest.mark.parametrize(
    ("state", "left", "gap"),
    [
        ("success", {}, ()),
        ("skipped", {}, ()),
        ("up_for_retry", {}, ("has no plan yet, ", "failed, and is retried automatically")),
        ("failed", {"error": "ValueError"}, ("has no plan: ", "clear `plan` and everything downstream")),
        ("failed", {}, ("has no plan: ", "clear `plan` and everything downstream")),
        ("failed", {"error": "EventRefused"}, ()),
        # Copied from another task, to make a lost push look like a refused one.
        ("failed", {"error": "EventRefused", "by": "gate"}, ("has no plan: ", "clear `plan`")),
    ],
)
def test_a_push_whose_run_has_no_plan(
    records: Records, read: Callable[..., Ledger], state: str, left: dict[str, Any], gap: tuple[str, ...]
) -> None:
    """It is a gap until it has a plan, with advice; users who may not see the chain learn nothing about it."""
    ref = "refs/tags/v1"
    records.told(PLACE, entry(ref, outcomes=run_of(ref, made=True)))
    records.looked(PLACE, entry(ref, 597, by="sensor", outcomes=run_of(ref, made=False)))
    records.planned("run-v1", state, **left)
    ((_, _, _, gaps),) = lines(read())
    assert len(gaps) == bool(gap)
    assert [text for text in gap if text not in gaps[0]] == []
    assert [one.gaps for one in read(readable={PLACE}).changes] == [()]


def test_only_what_is_recent(records: Records, read: Callable[..., Ledger]) -> None:
    """Nothing older is included, but a push reported just before the start and seen just after is complete."""
    ref = "refs/tags/v1"
    records.told(PLACE, entry(ref, 3602, outcomes=run_of(ref, made=True)), entry("refs/heads/old", 4000))
    records.looked(PLACE, entry(ref, 3599, by="sensor", outcomes=run_of(ref, made=False)))
    assert lines(read(timedelta(hours=1))) == [("tag v1", HOOK, ("sensor",), ())]


def test_records_of_another_version_are_counted(records: Records, read: Callable[..., Ledger]) -> None:
    """Unreadable records are skipped, both whole rows and single entries."""
    good = entry("refs/tags/v1", by="sensor")
    records.told(PLACE, entry(), extra='{"ref": "x", "colour": "red"}')
    records.told(PLACE, entry(), extra="no JSON")
    records.looked(PLACE, value=[good.to_xcom(), {"ref": 7}, None])
    records.looked(PLACE, value="a text")
    ledger = read()
    assert (lines(ledger), ledger.skipped) == ([("tag v1", "sensor", (), ())], 5)


def test_too_much_is_cut_where_both_are_whole(
    records: Records, read: Callable[..., Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one kind of record is truncated, older ones of the other are omitted, because they would look like gaps."""
    from delivery_chain.airflow_db import push_events

    monkeypatch.setattr(push_events, "MOST_ENTRIES", 3)
    records.told(PLACE, *(entry(f"refs/tags/n{number}", 100 + number) for number in range(5)))
    records.looked(PLACE, entry("refs/tags/old", 1000, by="sensor", outcomes=run_of("old", made=True)))
    ledger = read()
    assert [change.ref[-2:] for change in ledger.changes] == ["n0", "n1", "n2"]
    assert (ledger.cut, ledger.since > NOW - timedelta(seconds=110)) == (True, True)


def test_gaps_of_a_place_that_has_a_sender(records: Records, read: Callable[..., Ledger]) -> None:
    """A push that only the sensor saw is a gap if a connection speaks for its source; for other sources it is not."""
    from airflow.models.connection import Connection

    said = {"sender": "github", "speaks_for": "git_shop other"}
    records.session.add(Connection(conn_id="gh", conn_type="webhook_sender", extra=json.dumps(said)))
    for place in (PLACE, QUIET):
        since = NOW - timedelta(seconds=640)
        outcomes = run_of("v1", made=True)
        records.looked(place, entry(by="sensor", since=since, outcomes=outcomes))
    ledger = read()
    assert {change.place: change.gaps for change in ledger.changes} == {
        PLACE: ("no webhook reported it: the sensor found it, up to 40 s after the push",),
        QUIET: (),
    }
    assert [ledger.watches[place].senders for place in (PLACE, QUIET)] == [("gh",), ()]


LOGGED: dict[str, tuple[str, dict[str, str]]] = {
    "request": ("post_connection", {"connection_id": "gh", "conn_type": "webhook_sender"}),
    "command": ("cli_connections_add", {"full_command": "['airflow', 'connections', 'add', 'gh']"}),
    "word": (EVENT, {}),
}


@pytest.mark.parametrize("known_by", ["since", *LOGGED])
@pytest.mark.parametrize(("ago", "gap"), [(700, True), (100, False)])
def test_the_past_of_a_new_sender_has_no_gaps(
    records: Records, read: Callable[..., Ledger], known_by: str, ago: float, *, gap: bool
) -> None:
    """The start of a sender is known from its connection, or from the event log: its creation, or first delivery."""
    from airflow.models.connection import Connection
    from airflow.models.log import Log
    from sqlalchemy import insert

    made = NOW - timedelta(seconds=ago)
    said = {"sender": "github", "speaks_for": "git_shop"}
    if known_by == "since":
        said["since"] = made.isoformat()
    else:
        event, extra = LOGGED[known_by]
        # An earlier sender had the same name.
        old = {"dttm": NOW - DAY / 2, "event": event, "owner": "webhook gone", "extra": json.dumps(extra)}
        gone = {"dttm": NOW - DAY / 3, "event": "delete_connection", "owner": "bob"}
        gone["extra"] = json.dumps({"connection_id": "gh"})
        again = old | {"dttm": made, "owner": HOOK}
        later = again | {"dttm": NOW - timedelta(seconds=50)}
        if known_by == "word":
            text = entry("refs/heads/x", why="no chain builds it").model_dump_json(exclude_defaults=True)
            again["extra"] = later["extra"] = text
            old = gone
        records.session.execute(insert(Log), [old, gone, again, later])
    records.session.add(Connection(conn_id="gh", conn_type="webhook_sender", extra=json.dumps(said)))
    since = NOW - timedelta(seconds=640)
    records.looked(PLACE, entry(by="sensor", since=since, outcomes=run_of("v1", made=True)))
    (change,) = [one for one in read().changes if one.ref == "refs/tags/v1"]
    assert bool(change.gaps) is gap


def test_gaps_of_a_sensor(records: Records, read: Callable[..., Ledger]) -> None:
    """Paused, failed, polls another source: known from the Dag, its last run, and the cursor in its Variable."""
    from airflow.models.dag import DagModel
    from airflow.models.variable import Variable

    records.told(PLACE, entry(outcomes=run_of("v1", made=True)))
    gap = "the sensor has not seen it"
    assert read().changes[0].gaps == (f"{gap} for 10 min",)
    records.looked(PLACE, value=[], state="failed")
    assert read().changes[0].gaps == (f"{gap}: its last run failed",)
    dag = records.session.get(DagModel, PLACE)
    assert dag is not None
    dag.is_paused = True
    assert read().changes[0].gaps == (f"{gap}: its Dag is paused",)
    cursor = {"looked": (NOW - timedelta(seconds=60)).isoformat(), "refs": {"refs/tags/v1": B}}
    Variable.set(PLACE, json.dumps(cursor), session=records.session)
    assert read().changes[0].gaps == (f"{gap}: it polled since, and saw it at {B[:12]}",)
    Variable.update(PLACE, json.dumps(cursor | {"refs": {"refs/tags/v1": A}}), session=records.session)
    assert read().changes[0].gaps == ()


def test_a_reader_sees_what_is_of_their_dags(records: Records, read: Callable[..., Ledger]) -> None:
    """Changes require the watching Dag, runs their chain's Dag; entries without a Dag require access to all."""
    records.told(PLACE, entry(outcomes=run_of("v1", made=True)))
    records.told(QUIET, entry("refs/tags/v2"))
    records.told(None, entry("refs/tags/v3"))
    assert [change.name for change in read(readable={PLACE, CHAIN}).changes] == ["tag v1"]
    (change,) = read(readable={PLACE}).changes
    assert (change.outcomes, change.why) == ((), "chains that you may not see took it")
    assert read(readable=set()).changes == []
    assert list(read(readable={QUIET}).watches) == [QUIET]


class Reader:
    """Requests the page as a user of Airflow."""

    def __init__(self) -> None:
        from airflow.api_fastapi.app import create_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

        from delivery_chain.web.pages.app import app

        self.manager: Any = create_auth_manager()
        self.token = self.manager.generate_jwt(SimpleAuthManagerUser(username="bob", role="viewer"))
        self.app = app

    def get(self, *, login: bool = True, path: str = "/events", **query: str) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {self.token}"} if login else {}
        answer = anyio.run(self._get, path, headers, query)
        return answer.status_code, answer.text

    async def _get(self, path: str, headers: dict[str, str], query: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
            return await client.get(path, params=query, headers=headers)


@pytest.fixture
def reader(records: Records, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """With three pushes to see."""
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "x" * 64)
    records.told(PLACE, entry("refs/tags/v1", outcomes=run_of("v1", made=True)))
    records.told(QUIET, entry("refs/tags/v2", why="no build rule matches"))
    records.told(None, entry("refs/tags/v3"))
    records.session.commit()
    return Reader()


def shown(text: str) -> list[str]:
    return [name for name in ("v1", "v2", "v3") if f"tag {name} " in text]


def test_the_page_asks_for_a_login(reader: Reader) -> None:
    """It can't be read without a login, even with a Dag named in the address."""
    assert reader.get(login=False)[0] == 401
    assert reader.get(login=False, dag_id=PLACE)[0] == 401


def test_the_first_page(reader: Reader) -> None:
    """It requires a login, too, and links to the push events."""
    assert reader.get(path="/", login=False)[0] == 401
    status, text = reader.get(path="/")
    assert (status, '<a href="events">Push events</a>' in text) == (200, True)


def test_a_run_that_is_not_there_has_a_page(reader: Reader) -> None:
    """It links to the other pages, for logged-in users."""
    path = f"/{CHAIN}/nope"
    assert reader.get(path=path, login=False)[0] == 401
    status, text = reader.get(path=path)
    assert (status, f"{CHAIN}/nope: no such run of a chain." in text, 'href="../"' in text) == (
        404,
        True,
        True,
    )


@pytest.mark.parametrize(
    ("deleted", "status"),
    [((), 200), (("report",), 200), (("assemble",), 200), (("assemble", "report"), 404)],
)
def test_a_run_whose_task_was_deleted_has_its_page(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, deleted: tuple[str, ...], status: int
) -> None:
    """A run without the tasks that every chain has gets no page."""
    facts = Facts(state="success", deleted=deleted)
    monkeypatch.setattr("delivery_chain.web.pages.app.facts_of", lambda *_, **__: facts)
    assert reader.get(path=f"/{CHAIN}/some")[0] == status


def test_the_page_shows_what_is_asked_for(reader: Reader) -> None:
    """Everything, or what the form's filters leave."""
    status, text = reader.get()
    assert (status, shown(text)) == (200, ["v1", "v2", "v3"])
    assert shown(reader.get(ref="v2")[1]) == ["v2"]
    assert shown(reader.get(source="git_shop")[1]) == ["v1"]
    assert shown(reader.get(chain=CHAIN)[1]) == ["v1"]
    assert shown(reader.get(gaps="1")[1]) == ["v1"]
    assert shown(reader.get(since="5m")[1]) == []
    status, text = reader.get(since="1x")
    assert (status, shown(text), "expected 30m, 12h, 1d" in text) == (400, [], True)


def test_the_page_honours_airflow_s_rights(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users who may read some Dags see their part; without access to the audit log, they see nothing."""
    monkeypatch.setattr(type(reader.manager), "get_authorized_dag_ids", lambda *_args, **_named: {QUIET})
    status, text = reader.get()
    assert (status, shown(text)) == (200, ["v2"])
    may: Callable[..., bool] = lambda *_args, details=None, **_named: bool(details and details.id)  # noqa: E731
    monkeypatch.setattr(type(reader.manager), "is_authorized_dag", may)
    assert [reader.get()[0], reader.get(dag_id=QUIET)[0]] == [403, 403]


def test_the_command_reads_the_same(reader: Reader) -> None:
    """In a process of its own, as run by a user: JSON on standard output, and nothing else."""
    del reader
    code = (
        "import sys; from delivery_chain.commands.main import main;"
        " sys.exit(main(['events', '--json', '--since', '1h']))"
    )
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    found = [LedgerLine.model_validate_json(line) for line in done.stdout.splitlines()]
    assert sorted(change.name for change in found) == ["tag v1", "tag v2", "tag v3"]


def test_the_command_says_which_database_it_needs(tmp_path: Any) -> None:
    """Without Airflow's configuration: exit code 1, and what is missing."""
    code = "import sys; from delivery_chain.commands.main import main; sys.exit(main(['events']))"
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path / 'none.db'}",
    }
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Airflow's database can't be read: no such table" in done.stderr
    assert "AIRFLOW_HOME" in done.stderr
