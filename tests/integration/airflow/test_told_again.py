# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""After releases, `airflow db clean` removes their runs and every push is redelivered: nothing is built or moved."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from delivery_chain.core.events.watch_dags import source_dag_id, told_key
from delivery_chain.core.names.platform import Platform
from delivery_chain.core.plan import Plan
from delivery_chain.core.results import BuildResult, Published, Subject
from delivery_chain.core.spec.model import Source
from delivery_chain.oci.client import RegistryClient
from delivery_chain.operators.build import AssembleOperator
from delivery_chain.operators.plan import PlanOperator
from delivery_chain.operators.publish import PublishOperator
from delivery_chain.tools.git import refs as git
from delivery_chain.web import index
from delivery_chain.web import receiver as receiver_module
from support import webhook_airflow
from support.chain_steps import Run, push_platform, verdict
from support.oci_registry import docker_registry
from support.webhook_airflow import MAIN, A, B, C, D, spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.core.names.registry import Registry
    from support.webhook_airflow import Receiver, Sent
    from support.webhook_store import Stored

pytestmark = pytest.mark.integration
NAME = "shop/api"
V1, V2, V3 = "refs/tags/v1", "refs/tags/v2", "refs/tags/v3"
E = "5" * 40
WATCH = source_dag_id(Source(connection="git_shop", url="api.git"))
SPEC = spec(
    build={
        "rules": [
            {
                "name": "main",
                "branch": "main",
                "tags": [{"tag": "edge", "build_time": "minute"}, {"tag": "edge"}],
            },
            {"name": "release", "tag": r"v(?<n>\d+)", "tags": [{"tag": "v${n}"}, {"tag": "latest"}]},
        ],
        "timezone": "UTC",
    },
    scan={"enabled": False},
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A real registry."""
    with docker_registry(tmp_path_factory.mktemp("home")) as running:
        yield running


class OfRow(Run):
    """The steps of a run that is in Airflow's database."""

    row: Any = None

    @property
    def run_id(self) -> str:
        return str(self.row.run_id)

    def context(self, task: str, index: int = -1) -> dict[str, Any]:
        return super().context(task, index) | {"dag_run": self.row}


class House:
    """A chain with its receiver, source, workers and registry, on one Airflow database."""

    def __init__(self, stored: Stored, receiver: Receiver, registry: Registry) -> None:
        self.stored, self.receiver, self.registry = stored, receiver, registry
        self.refs: dict[str, str] = {}
        self.done: set[tuple[str, str]] = set()
        self.built: list[str] = []
        self.reasons: list[str] = []
        self.now = datetime.now(UTC) - timedelta(hours=2)
        stored.add(SPEC)

    def push(self, ref: str, commit: str, delivery: str) -> None:
        """Push, report the push, and run all steps."""
        before, self.refs[ref] = self.refs.get(ref, ""), commit
        self.tell(ref, before, commit, delivery)
        self.work()

    def tell(self, ref: str, before: str, commit: str, delivery: str) -> None:
        assert self.answer(ref, before, commit, delivery).status == 200

    def answer(self, ref: str, before: str, commit: str, delivery: str) -> Sent:
        """The answer to a report."""
        self.now += timedelta(minutes=5)
        return self.receiver.push(ref, before, commit, delivery=delivery)

    def work(self) -> None:
        """Run the steps of every run that has not ended."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import select, update

        with create_session() as session:
            names = ("run_id", "conf", "run_after", "triggering_user_name", "state")
            rows = [
                SimpleNamespace(**{name: getattr(one, name) for name in names})
                for one in session.scalars(select(DagRun).where(DagRun.state == "queued").order_by(DagRun.id))
            ]
            times = {"start_date": self.now, "end_date": self.now, "state": "success"}
            session.execute(update(DagRun).values(**times))
        for row in rows:
            self._run(row)

    def begin(self) -> None:
        """Every run is in flight, and none of its steps has ended."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import update

        with create_session() as session:
            queued = update(DagRun).where(DagRun.state == "queued")
            session.execute(queued.values(start_date=self.now, state="running"))

    def _run(self, row: Any) -> None:
        run = OfRow(SPEC, conf=row.conf)
        run.row = row
        try:
            plan = Plan.from_xcom(run.do(PlanOperator(task_id="plan", spec=SPEC))["plan"])
        except AirflowSkipException as skipped:
            self.reasons.append(str(skipped))
            return
        run.plan = plan
        self.built.append(row.run_id)
        with RegistryClient(self.registry) as client:
            digest = push_platform(client, plan, seed=str(len(self.built)))
        assert plan.build is not None
        assert plan.build.platforms == (Platform("linux/amd64"),)
        run.leave(
            "build",
            BuildResult(
                platform="linux/amd64", digest=digest, build_seconds=1.0, push_seconds=1.0, sandbox="none"
            ),
            0,
        )
        subject = Subject.from_xcom(run.do(AssembleOperator(task_id="assemble")))
        run.leave("gate", verdict(subject.digest))
        Published.from_xcom(run.do(PublishOperator(task_id="publish")))

    def clean(self) -> None:
        """Run `airflow db clean` up to now, and the Dag processor's next pass."""
        self.forget()
        self.stored.add(SPEC)

    def forget(self) -> None:
        """Run `airflow db clean` up to now."""
        from airflow.utils.db_cleanup import run_cleanup

        before = datetime.now(UTC) + timedelta(hours=1)
        run_cleanup(clean_before_timestamp=before, confirm=False, skip_archive=True)
        assert self.stored.runs("shop") == []

    def tags(self) -> dict[str, str]:
        """The digest of every user's tag."""
        with RegistryClient(self.registry) as client:
            names = [tag for tag in client.list_tags(NAME) if not tag.startswith("_staging-")]
            return {tag: client.head_manifest(NAME, tag).digest for tag in names}  # type: ignore[union-attr]


@pytest.fixture
def house(
    stored: Stored, receiver: Receiver, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    """A house after two releases and three pushes to main."""
    fields = {"conn_type": "oci_registry", "host": registry.host, "extra": {"plain_http": True}}
    monkeypatch.setenv("AIRFLOW_CONN_HOME", json.dumps(fields))
    made = House(stored, receiver, registry)
    monkeypatch.setattr(git, "list_refs", lambda *_, **__: dict(made.refs))
    monkeypatch.setattr(receiver_module, "datetime", SimpleNamespace(now=lambda _: made.now))
    # A signature covers the time.
    clock = SimpleNamespace(time=lambda: made.now.timestamp())  # noqa: PLW0108 - the time moves on
    monkeypatch.setattr(webhook_airflow, "time", clock)
    for number, (ref, commit) in enumerate(MOVES):
        made.push(ref, commit, f"d{number}")
    yield made
    with RegistryClient(registry) as client:
        for tag in client.list_tags(NAME):
            client.delete_tag(NAME, tag)


MOVES = ((V1, A), (MAIN, B), (V2, C), (MAIN, D))


def all_told(house: House, name: str) -> None:
    seen: dict[str, str] = {}
    for number, (ref, commit) in enumerate(MOVES):
        house.tell(ref, seen.get(ref, ""), commit, name.format(number))
        seen[ref] = commit
    house.work()


@pytest.mark.parametrize(
    "forgotten", [(), (told_key(WATCH),)], ids=["", "what webhooks told is forgotten, too"]
)
@pytest.mark.parametrize("name", ["d{}", "new{}"], ids=["same ids", "new ids"])
@pytest.mark.parametrize("cleans", [1, 2])
def test_all_is_told_again(house: House, name: str, cleans: int, forgotten: tuple[str, ...]) -> None:
    """Nothing is built, no tag moves, no new delivery is sent; each run of a redelivery is skipped."""
    before = house.tags()
    for number in range(cleans):
        house.clean()
        if forgotten:
            from airflow.models.variable import Variable

            Variable.delete(*forgotten)
        all_told(house, name if number == 0 else f"again-{name}")
    assert (len(house.built), house.tags()) == (4, before)
    assert before["latest"] == before["v2"]


@pytest.mark.parametrize("versions", [True, False], ids=["its spec is stored", "no spec is stored"])
@pytest.mark.parametrize("seconds", [0.0, index.FRESH_SECONDS], ids=["at once", "a moment later"])
def test_told_before_the_next_parse(
    house: House, monkeypatch: pytest.MonkeyPatch, seconds: float, *, versions: bool
) -> None:
    """Airflow has no Dag then: the sender is to come again, and nothing is recorded.

    What comes again after the parse is taken as after any clean: the new push is built once, the old one is not.
    """
    monkeypatch.setattr(index, "FRESH_SECONDS", seconds)
    if versions:
        house.stored.put_in_force(SPEC)
    before = house.tags()
    house.forget()
    left = house.stored.variables()
    house.refs[V3] = E
    early = [house.answer(V2, "", C, "d2"), house.answer(V3, "", E, "d9")]
    assert [(one.status, one.headers["retry-after"]) for one in early] == [(503, "30")] * 2
    assert (house.stored.runs(), house.stored.ledger(), house.stored.variables()) == ([], [], left)
    house.stored.add(SPEC)
    house.tell(V2, "", C, "d2")
    house.tell(V3, "", E, "d9")
    house.work()
    after = house.tags()
    assert (len(house.built), len(house.reasons)) == (5, 1)
    assert after == before | {"v3": after["latest"], "latest": after["latest"]}


@pytest.mark.parametrize("delivery", ["on its way", "new"], ids=["same id", "new id"])
def test_a_release_whose_run_was_deleted_on_its_way(house: House, delivery: str) -> None:
    """The redelivered push is built once; the release before it is not, and takes nothing back."""
    before = house.tags()
    house.tell(V3, "", E, "on its way")
    house.begin()
    house.clean()
    house.refs[V3] = E
    house.tell(V2, "", C, "d2")
    house.tell(V3, "", E, delivery)
    house.tell(V3, "", E, delivery)
    house.work()
    after = house.tags()
    assert (len(house.built), len(house.reasons)) == (5, 1)
    assert after == before | {"v3": after["latest"], "latest": after["latest"]}
    assert after["latest"] not in before.values()


def test_a_release_that_is_told_again_says_so(house: House) -> None:
    """The run names the image and the run that built it, and says what to do for a rebuild."""
    run_id = house.built[0]
    house.clean()
    house.tell(V1, "", A, "new")
    house.work()
    (reason,) = house.reasons
    assert f"by run {run_id}, pushed" in reason
    assert reason.startswith(f"{V1} at {A[:12]} was built before: shop/api@sha256:")
    assert reason.endswith(f"to rebuild it: delivery-chain trigger shop --ref {V1}")


def test_a_release_is_built_anew_by_hand(house: House) -> None:
    """Its own tag moves, and `latest` stays with the newer release."""
    before = house.tags()
    row = SimpleNamespace(
        run_id="manual__1", conf={"ref": "v1"}, run_after=datetime.now(UTC), triggering_user_name="anna"
    )
    house._run(row)
    after = house.tags()
    assert (after["latest"], after["v1"] != before["v1"], len(house.built)) == (before["v2"], True, 5)


def test_an_older_commit_by_hand(house: House) -> None:
    """The branch has moved on: the commit is built, and the branch's tag stays."""
    before = house.tags()
    conf = {"ref": MAIN, "commit": B}
    row = SimpleNamespace(
        run_id="manual__2", conf=conf, run_after=datetime.now(UTC), triggering_user_name="anna"
    )
    house._run(row)
    after = house.tags()
    assert (after["edge"], len(house.built), len(after)) == (before["edge"], 5, len(before) + 1)


def test_there_and_back_after_a_clean(house: House) -> None:
    """The branch returns to a commit that was built before: that is a new push, and is built."""
    house.clean()
    house.push(MAIN, B, "back")
    house.push(MAIN, D, "forth")
    assert (len(house.built), house.reasons) == (6, [])
