"""Each fault of a connection, Dag or process gets a line with a remedy, and after the remedy the line is ok."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from support.doctor_chain import SPEC, Doctor
from support.oci_registry import docker_registry
from support.webhook_airflow import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


pytestmark = pytest.mark.integration


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
    """The line says what it is needed for, with the command that adds it; then it is ok."""
    with gone(doctor, name):
        assert doctor.line(topic, about) == (
            "problem",
            f"no connection of this name, needed for {what}",
            f"delivery-chain connect {command}",
        )
    assert doctor.line(topic, about)[0] == "ok"


def test_a_name_with_a_typo(doctor: Doctor) -> None:
    """The most similar known name is suggested."""
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
    """One line is bad, and ok once the fault is fixed."""
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
    """Found by deleting something that does not exist; required only if a chain deletes what it blocks."""
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
