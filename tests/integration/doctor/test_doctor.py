# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""`delivery-chain doctor` on real parts: each fault is a line with a remedy, and after the remedy the line is ok."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from delivery_chain.commands.main import main
from delivery_chain.core.events.watch_dags import source_dag_id
from delivery_chain.core.spec.model import Source
from delivery_chain.doctor import machine
from support.airflow_database import SQLITE, airflow_database
from support.oci_memory import MemoryRegistry, memory_registry
from support.oci_registry import docker_registry
from support.webhook_airflow import SECRET, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from delivery_chain.core.names.registry import Registry

pytestmark = pytest.mark.integration
SPEC: dict[str, Any] = {
    "version": 1,
    "name": "shop",
    "scope": {"instance": "cn-hangzhou", "namespace": "shop", "repositories": ["api"]},
    "sources": {"api": {"connection": "git_shop", "url": "api.git"}},
    "build": {
        "rules": [{"name": "release", "tag": r"v(?<n>\d+)", "tags": [{"tag": "v${n}"}]}],
    },
    "scan": {"block": {"severity": "high", "on_block": {"backup": True, "delete": True}}},
    "replicate": [{"name": "to-eu", "to": "eu", "as": {"namespace": "mirror"}}],
    "distribute": [{"name": "tell-prod", "url_connection": "prod"}],
}
Lines = dict[tuple[str, str], tuple[str, str, str]]


class Doctor:
    """An installation whose chain has everything, as long as nobody takes it away."""

    def __init__(self, folder: Path, stored: Stored, home: Registry, eu: MemoryRegistry) -> None:
        self.folder = folder
        self.stored = stored
        self.home = home
        self.eu = eu
        self.specs = folder / "chain_specs"
        self.specs.mkdir()
        self.write(SPEC)

    def write(self, spec: dict[str, Any], name: str = "shop.yaml") -> None:
        (self.specs / name).write_text(yaml.safe_dump(spec))

    def connect(self, name: str, conn_type: str, **fields: Any) -> None:
        """Make a connection in Airflow's database, in place of one that is there."""
        from airflow.models.connection import Connection
        from airflow.utils.session import create_session

        self.disconnect(name)
        extra = fields.pop("extra", {})
        with create_session() as session:
            session.add(Connection(conn_id=name, conn_type=conn_type, extra=json.dumps(extra), **fields))

    def disconnect(self, name: str) -> None:
        from airflow.models.connection import Connection
        from airflow.utils.session import create_session
        from sqlalchemy import delete

        with create_session() as session:
            session.execute(delete(Connection).where(Connection.conn_id == name))

    def registry(self, name: str, registry: Registry, **more: Any) -> None:
        host, _, port = registry.host.partition(":")
        login = {"login": registry.username or None, "password": registry.password or None}
        fields = {"host": host, "port": int(port), **login, "extra": {"plain_http": True}}
        self.connect(name, "oci_registry", **fields | more)

    def everything(self) -> None:
        """All that the chain needs."""
        self.registry("cn-hangzhou", self.home)
        self.registry("eu", self.eu.registry)
        self.connect("git_shop", "git", host=(self.folder / "git").as_uri())
        # Whatever takes connections will do: no request is sent.
        self.connect("prod", "delivery_webhook", host=self.home.base_url)
        extra = {"sender": "standard", "speaks_for": "git_shop"}
        self.connect("hook", "webhook_sender", password=SECRET, extra=extra)
        git = [
            "git",
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@example.com",
            "-C",
            str(self.folder / "git/api.git"),
        ]
        subprocess.run(["git", "init", "-q", str(self.folder / "git/api.git")], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
        subprocess.run([*git, "tag", "-f", "v1"], check=True, capture_output=True)
        self.dags()
        self.processes(datetime.now(UTC))

    def dags(self) -> None:
        from delivery_chain.core.spec.model import ChainSpec
        from delivery_chain.dag_files.factory import make_source_dags

        spec = ChainSpec.model_validate(SPEC)
        self.stored.add(spec)
        self.stored.add_dags(*make_source_dags([spec]).values())

    def processes(self, heard: datetime, *kinds: str) -> None:
        """Airflow's own processes, as they were heard of last."""
        from airflow.jobs.job import Job
        from airflow.utils.session import create_session
        from sqlalchemy import delete

        from delivery_chain.doctor.airflow_side import PROCESSES

        with create_session() as session:
            session.execute(delete(Job).where(Job.job_type.in_(kinds or tuple(PROCESSES))))
            for kind in kinds or tuple(PROCESSES):
                job = Job(job_type=kind, state="running", latest_heartbeat=heard)
                job.hostname = "scheduler-1"
                session.add(job)

    def look(self, *words: str) -> tuple[int, Lines]:
        """The lines by topic and thing: level, what was said, remedy."""
        from delivery_chain.commands.doctor import examine

        lines = examine(words)
        code = int(any(line.level == "problem" for line in lines))
        found: Lines = {}
        for one in lines:
            # A program's known flaws are a second line of it.
            found.setdefault((one.topic, one.about), (str(one.level), one.said, one.remedy))
        return code, found

    def line(self, topic: str, about: str) -> tuple[str, str, str]:
        return self.look()[1][topic, about]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    with airflow_database(SQLITE, tmp_path_factory.mktemp("airflow")) as url:
        yield Stored(SQLITE, url)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with docker_registry(tmp_path_factory.mktemp("registry"), htpasswd=True) as registry:
        yield registry


@pytest.fixture
def doctor(
    tmp_path: Path, stored: Stored, home: Registry, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Doctor]:
    """With everything in place; builds and scans are another test's."""
    stored.clear()
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    for option, value in {
        "SPECS_FOLDER": tmp_path / "chain_specs",
        "WORK_FOLDER": tmp_path / "work",
        "TRIVY_CACHE_DIR": tmp_path / "trivy",
        "GIT_TRANSPORTS": "file",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__DELIVERY_CHAIN__{option}", str(value))
    monkeypatch.setattr(machine, "_isolation", lambda _: [])
    with memory_registry() as eu:
        made = Doctor(tmp_path, stored, home, eu)
        made.everything()
        yield made


def test_where_all_is_well(doctor: Doctor) -> None:
    """No problem, each thing with its line, and nothing left behind at a registry."""
    code, lines = doctor.look()
    watch = source_dag_id(Source(connection="git_shop", url="api.git"))
    bad = {key: line for key, line in lines.items() if line[0] == "problem"}
    assert bad == {}
    assert code == 0
    assert {key for key, line in lines.items() if line[0] == "ok"} >= {
        ("settings", "[delivery_chain]"),
        ("database", "Airflow's"),
        ("airflow", "scheduler"),
        ("airflow", "dag-processor"),
        ("airflow", "triggerer"),
        ("airflow", "pool default_pool"),
        ("dag", "shop"),
        ("dag", watch),
        ("webhook", "hook"),
        ("secret", "delivery_chain_signing_secret"),
        ("registry", "cn-hangzhou"),
        ("clock", "registry cn-hangzhou"),
        ("rights", "cn-hangzhou shop/api"),
        ("rights", "cn-hangzhou shop-quarantine/api"),
        ("deletes", "cn-hangzhou shop/api"),
        ("rights", "eu mirror/api"),
        ("git", "git_shop api.git"),
        ("trigger", "prod"),
        ("folder", "work_folder"),
        ("tool", "git"),
        ("tool", "buildah"),
        ("tool", "trivy"),
        ("database", "vulnerability database"),
        ("database", "Java database"),
    }, sorted(lines)
    assert (doctor.eu.blobs, doctor.eu.manifests) == ({}, {})


@contextmanager
def gone(doctor: Doctor, name: str) -> Iterator[None]:
    doctor.disconnect(name)
    yield
    doctor.everything()


@pytest.mark.parametrize(
    ("name", "topic", "about", "what", "command"),
    [
        ("cn-hangzhou", "registry", "cn-hangzhou", "the registry of chain shop", "registry cn-hangzhou HOST"),
        ("eu", "registry", "eu", "replication rule to-eu", "registry eu HOST"),
        ("git_shop", "git", "git_shop api.git", "the source of api", "git git_shop URL"),
        ("prod", "trigger", "prod", "trigger tell-prod", "trigger prod URL"),
    ],
)
def test_a_missing_connection(
    doctor: Doctor, name: str, topic: str, about: str, what: str, command: str
) -> None:
    """What it is for and the command that adds it; then it is ok."""
    with gone(doctor, name):
        assert doctor.line(topic, about) == (
            "problem",
            f"no connection of this name, needed for {what}",
            f"delivery-chain connect {command}",
        )
    assert doctor.line(topic, about)[0] == "ok"


def test_a_name_with_a_typo(doctor: Doctor) -> None:
    """The nearest name that is known is offered."""
    doctor.write(SPEC | {"scope": SPEC["scope"] | {"instance": "cn-hangzhuo"}})
    file = doctor.specs / "shop.yaml"
    assert doctor.line("registry", "cn-hangzhuo") == (
        "problem",
        "no connection of this name, needed for the registry of chain shop; did you mean 'cn-hangzhou'?",
        f"delivery-chain connect registry cn-hangzhuo HOST, or write 'cn-hangzhou' in {file}",
    )


def break_login(doctor: Doctor) -> None:
    doctor.registry("cn-hangzhou", doctor.home, password="wrong")


def break_type(doctor: Doctor) -> None:
    doctor.connect("prod", "http", host="https://deploy.example.com")


def break_host(doctor: Doctor) -> None:
    doctor.connect("eu", "oci_registry", host="127.0.0.1", port=9, extra={"plain_http": True})


def break_url(doctor: Doctor) -> None:
    doctor.write(SPEC | {"sources": {"api": {"connection": "git_shop", "url": "ap.git"}}})


def break_transport(doctor: Doctor) -> None:
    doctor.connect("git_shop", "git", host="http://git.example.com/shop")


def break_target(doctor: Doctor) -> None:
    doctor.connect("prod", "delivery_webhook", host="http://127.0.0.1:9/")


def break_dag(doctor: Doctor) -> None:
    doctor.stored.mark("shop", is_stale=True)


def break_import(doctor: Doctor) -> None:
    doctor.stored.mark("shop", has_import_errors=True)


def pause(doctor: Doctor) -> None:
    doctor.stored.mark("shop", is_paused=True)


def break_sender(doctor: Doctor) -> None:
    extra = {"sender": "standard", "speaks_for": "git_shp"}
    doctor.connect("hook", "webhook_sender", password=SECRET, extra=extra)


def break_kind(doctor: Doctor) -> None:
    extra = {"sender": "nobody", "speaks_for": "git_shop"}
    doctor.connect("hook", "webhook_sender", password=SECRET, extra=extra)


def empty_sender(doctor: Doctor) -> None:
    doctor.connect("hook", "webhook_sender", extra={"sender": "standard", "speaks_for": "git_shop"})


def kill_triggerer(doctor: Doctor) -> None:
    doctor.processes(datetime.now(UTC) - timedelta(hours=1), "TriggererJob")


def forbid_push(doctor: Doctor) -> None:
    doctor.eu.fail("POST", ".*/blobs/uploads/.*", 403)


FAULTS: dict[str, tuple[Callable[[Doctor], None], tuple[str, str], str, str, str]] = {
    "login": (
        break_login,
        ("registry", "cn-hangzhou"),
        "problem",
        "login",
        "--username robot --update --test",
    ),
    "type": (
        break_type,
        ("trigger", "prod"),
        "problem",
        "expected type delivery_webhook",
        "if nothing else uses this one: airflow connections delete prod && delivery-chain connect trigger prod URL",
    ),
    "host": (break_host, ("registry", "eu"), "problem", "127.0.0.1:9", "reachable from this machine"),
    "source": (
        break_url,
        ("git", "git_shop ap.git"),
        "problem",
        "ap.git",
        "connect git git_shop URL --update",
    ),
    "transport": (
        break_transport,
        ("git", "git_shop api.git"),
        "problem",
        "transport http is not allowed",
        "add its transport to [delivery_chain] git_transports",
    ),
    "target": (
        break_target,
        ("trigger", "prod"),
        "problem",
        "no connection",
        "connect trigger prod URL --update",
    ),
    "push": (
        forbid_push,
        ("rights", "eu mirror/api"),
        "problem",
        "may not be pushed to",
        "push to mirror/api",
    ),
    "dag": (break_dag, ("dag", "shop"), "problem", "Airflow has no such Dag", "delivery-chain dags-folder"),
    "import": (break_import, ("dag", "shop"), "problem", "import errors", "airflow dags list-import-errors"),
    "paused": (pause, ("dag", "shop"), "warning", "is paused", "airflow dags unpause shop"),
    "sender": (
        break_sender,
        ("webhook", "hook"),
        "problem",
        "did you mean 'git_shop'?",
        "Admin > Connections",
    ),
    "kind": (break_kind, ("webhook", "hook"), "problem", "sender 'nobody': expected one of acr", "Admin"),
    "no secret": (empty_sender, ("webhook", "hook"), "problem", "has no secret", "Admin > Connections"),
    "triggerer": (kill_triggerer, ("airflow", "triggerer"), "problem", "is watched", "airflow triggerer"),
}


@pytest.mark.parametrize(("fault", "key", "level", "said", "remedy"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_told_with_its_remedy(
    doctor: Doctor, fault: Callable[[Doctor], None], key: tuple[str, str], level: str, said: str, remedy: str
) -> None:
    """One line is bad, and with the fault mended it is ok."""
    fault(doctor)
    code, lines = doctor.look()
    found = lines[key]
    assert (found[0], said in found[1], remedy in found[2]) == (level, True, True), found
    assert code == (level == "problem")
    doctor.write(SPEC)
    doctor.eu.turns.clear()
    doctor.everything()
    code, lines = doctor.look()
    assert (code, lines.get(key, ("ok",))[0]) == (0, "ok")


def test_a_registry_that_deletes_nothing(doctor: Doctor, tmp_path: Path) -> None:
    """Found by the deletion of what is not there; needed only where a chain deletes what it blocks."""
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "data")}, "delete": {"enabled": False}}
    with docker_registry(tmp_path, htpasswd=True, storage=storage) as registry:
        doctor.registry("cn-hangzhou", registry)
        level, said, remedy = doctor.line("deletes", "cn-hangzhou shop/api")
        assert (level, "deletes nothing" in said, "REGISTRY_STORAGE_DELETE_ENABLED=true" in remedy) == (
            "problem",
            True,
            True,
        )
        doctor.write(SPEC | {"scan": {"block": {"severity": "high"}}})
        assert ("deletes", "cn-hangzhou shop/api") not in doctor.look()[1]


def test_settings(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong value is a problem, and the rest is looked at all the same; an option with a typo does nothing."""
    variable = "AIRFLOW__DELIVERY_CHAIN__GIT_POLL_SECONDS"
    monkeypatch.setenv(variable, "soon")
    code, lines = doctor.look()
    level, said, _ = lines["settings", "[delivery_chain]"]
    assert (code, level, "git_poll_seconds: expected a number" in said) == (1, "problem", True)
    monkeypatch.delenv(variable)
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__GIT_POL_SECONDS", "3")
    assert doctor.line("settings", "[delivery_chain] git_pol_seconds") == (
        "warning",
        "no option of this name, so it does nothing",
        "write 'git_poll_seconds'",
    )


def test_a_pool_that_is_not_there(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow would never schedule a replication."""
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__REPLICATE_POOL", "regions")
    level, _, remedy = doctor.line("airflow", "pool regions")
    assert (level, "airflow pools set regions 8" in remedy) == ("problem", True)


def test_a_spec_that_is_wrong(doctor: Doctor) -> None:
    """Its problems are lines, and the other chains are looked at."""
    doctor.write({"version": 1, "name": "bad"}, "bad.yaml")
    code, lines = doctor.look()
    told = [line for (topic, about), line in lines.items() if topic == "spec" and "bad.yaml:" in about]
    assert (code, [line[:2] for line in told]) == (1, [("problem", "scope: is missing")])
    assert lines["registry", "cn-hangzhou"][0] == "ok"


def test_folders(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file in the way of a folder, and a disk without room."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__WORK_FOLDER", str(tmp_path / "file" / "work"))
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__TRIVY_CACHE_DIR", str(tmp_path / "file" / "trivy"))
    _, lines = doctor.look()
    assert lines["folder", "work_folder"][0] == "problem"
    assert lines["database", "vulnerability database"][0] == "problem"
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__WORK_FOLDER", str(tmp_path / "work"))
    for free, level in ((machine.TOO_LITTLE - 1, "problem"), (machine.LITTLE - 1, "warning")):
        usage = type("Usage", (), {"free": free})
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda _, usage=usage: usage)
        assert doctor.line("disk", str(tmp_path / "work"))[0] == level


@pytest.mark.parametrize(("hours", "level"), [(1, "ok"), (100, "warning")])
def test_the_age_of_a_database(doctor: Doctor, tmp_path: Path, hours: int, level: str) -> None:
    """An old one is told before a scan fails for it."""
    folder = tmp_path / "trivy" / "databases" / "abcdefgh" / "db"
    folder.mkdir(parents=True)
    (folder / "trivy.db").write_bytes(b"x")
    now = datetime.now(UTC)
    times = {"updated_at": now - timedelta(hours=hours), "next_update": now, "checked_at": now}
    where = {"folder": "abcdefgh", "source": "", "repository": "ghcr.io/x/trivy-db:2", "digest": ""}
    stored = where | {"sample": False, "size": 1} | {name: time.isoformat() for name, time in times.items()}
    (tmp_path / "trivy" / "current.json").write_text(json.dumps(stored))
    found = doctor.line("database", "vulnerability database")
    assert (found[0], f"{hours} h old" in found[1] or "4 d old" in found[1]) == (level, True), found


def test_a_program_that_is_missing(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each is named with the package that brings it."""
    monkeypatch.setattr(machine, "with_sbin", lambda: {"PATH": str(tmp_path)})
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__TRIVY_WHEEL", "refuse")
    _, lines = doctor.look()
    assert [lines["tool", name][0] for name in ("git", "buildah")] == ["problem", "problem"]
    assert "install the Debian package git" in lines["tool", "git"][2]


def test_without_airflows_database(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a worker: it says so, looks at what it can, and takes connections from the environment."""
    from sqlalchemy.exc import OperationalError

    from delivery_chain.doctor import airflow_side

    def down() -> None:
        raise OperationalError("SELECT 1", {}, Exception("could not connect to server"))

    monkeypatch.setattr(airflow_side, "database_line", down)
    where = {"conn_type": "git", "host": (doctor.folder / "git").as_uri()}
    monkeypatch.setenv("AIRFLOW_CONN_GIT_SHOP", json.dumps(where))
    code, lines = doctor.look()
    level, said, _ = lines["database", "Airflow's"]
    assert (code, level, "could not connect to server" in said) == (0, "warning", True)
    assert lines["git", "git_shop api.git"][0] == "ok"
    assert (lines["registry", "eu"][0], "could not be looked up" in lines["registry", "eu"][1]) == (
        "warning",
        True,
    )
    assert not [key for key in lines if key[0] in {"dag", "airflow", "webhook"}]


def test_the_command(
    doctor: Doctor,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lines with remedies, the machine first; JSON, a line each; exit codes; some chains or all."""
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert (
        "on       machine " in out,
        "ok       registry" in out,
        err.startswith("0 problems"),
    ) == (
        True,
        True,
        True,
    )
    doctor.disconnect("prod")
    assert main(["doctor", "--json", "shop"]) == 1
    first, *lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[0] == "{"]
    assert (set(first), {line["level"] for line in lines} >= {"ok", "problem"}) == (
        {"machine", "user", "airflow_home"},
        True,
    )
    assert main(["doctor", "nosuch"]) == 2
    assert (
        capsys.readouterr().err
        == f"nosuch: no such file or folder, and no chain with this name in {doctor.specs}\n"
    )
    assert main(["doctor", str(doctor.specs / "shop.yaml")]) == 1
    # A folder that bears the chain's name by chance, and one that bears none.
    (tmp_path / "shop").mkdir()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["doctor", "--json", "shop"]) == 1
    assert '"trigger"' in capsys.readouterr().out
    assert main(["doctor", "other"]) == 2
    assert (
        capsys.readouterr().err
        == f"other: no chain spec inside, and no chain with this name in {doctor.specs}\n"
    )
    assert os.environ["_AIRFLOW_PROCESS_CONTEXT"] == "server"
