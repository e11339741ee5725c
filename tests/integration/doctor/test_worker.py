"""The doctor's lines about settings, pools, folders, databases and programs of the worker."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from delivery_chain.doctor import machine

if TYPE_CHECKING:
    from pathlib import Path

    from support.doctor_chain import Doctor


pytestmark = pytest.mark.integration


def test_settings(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong value is a problem, but the rest is still checked; a misspelt option has no effect."""
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


def test_folders(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file in place of a folder, and a full disk."""
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
    """An old database is reported before a scan fails because of it."""
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
    """Each is named with the package that provides it."""
    monkeypatch.setattr(machine, "with_sbin", lambda: {"PATH": str(tmp_path)})
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__TRIVY_WHEEL", "refuse")
    _, lines = doctor.look()
    assert [lines["tool", name][0] for name in ("git", "buildah")] == ["problem", "problem"]
    assert "install the Debian package git" in lines["tool", "git"][2]
