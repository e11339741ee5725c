# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""`delivery-chain doctor` as a command, when all is well, and when a chain or Airflow's database is missing."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from delivery_chain.commands.main import main
from delivery_chain.core.events.watch_dags import source_dag_id
from delivery_chain.core.spec.model import Source

if TYPE_CHECKING:
    from pathlib import Path

    from support.doctor_chain import Doctor


pytestmark = pytest.mark.integration


def test_where_all_is_well(doctor: Doctor) -> None:
    """No problem, one line for each thing, and nothing left at a registry."""
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


def test_a_spec_that_is_wrong(doctor: Doctor) -> None:
    """Its problems are lines, and the other chains are checked."""
    doctor.write({"version": 1, "name": "bad"}, "bad.yaml")
    code, lines = doctor.look()
    told = [line for (topic, about), line in lines.items() if topic == "spec" and "bad.yaml:" in about]
    assert (code, [line[:2] for line in told]) == (1, [("problem", "scope: is missing")])
    assert lines["registry", "cn-hangzhou"][0] == "ok"


def test_without_airflows_database(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a worker: it says so, checks what it can, and reads connections from the environment."""
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
    """Lines with remedies, the machine first; JSON with one object per line; exit codes; some chains or all."""
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
    # A folder that happens to have the chain's name, and one that does not.
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
