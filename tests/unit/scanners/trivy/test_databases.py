"""When the vulnerability database is fetched, kept, stale or missing; Trivy itself is a stand-in."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.gate.findings import Database
from delivery_chain.errors import ConfigurationError, DatabaseUnavailable, ScanFailed, ToolMissing
from delivery_chain.scanners.trivy.database_kinds import VULNERABILITIES
from delivery_chain.scanners.trivy.databases import LocalDatabase, ensure_database
from delivery_chain.scanners.trivy.options import TrivyOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
REPOSITORY = "ghcr.io/aquasecurity/trivy-db:2"
FACTS = Database(
    kind="vulnerability database",
    repository=REPOSITORY,
    updated_at=NOW,
    limit="[delivery_chain] trivy_db_max_age_hours",
    remedy="let the worker reach a newer one, or name a mirror in [delivery_chain] trivy_db_repository",
)

STAND_IN = f"""#!{sys.executable}
import json, os, pathlib, sys
home = pathlib.Path(__file__).parent
with (home / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
plan = json.loads((home / "plan.json").read_text())
if plan["fail"]:
    sys.exit("FATAL " + plan["fail"])
folder = pathlib.Path(sys.argv[sys.argv.index("--cache-dir") + 1]) / "db"
folder.mkdir(parents=True)
(folder / "trivy.db").write_bytes(b"db" * 100)
(folder / "metadata.json").write_text(plan["metadata"])
print('INFO [vulndb] Artifact successfully downloaded\\trepo="{REPOSITORY}"', file=sys.stderr)
"""


@dataclass
class Bench:
    """A worker with a stand-in for Trivy, and a clock."""

    folder: Path
    options: TrivyOptions
    cache: Path
    lines: list[str]
    now: datetime = NOW

    def plan(self, *, updated: datetime = NOW, fail: str = "", metadata: str | None = None) -> None:
        stated = {
            "Version": 2,
            "UpdatedAt": updated.isoformat(),
            "NextUpdate": (updated + 24 * HOUR).isoformat(),
        }
        plan = {"fail": fail, "metadata": metadata if metadata is not None else json.dumps(stated)}
        (self.folder / "plan.json").write_text(json.dumps(plan))

    def ensure(self, **more: Any) -> LocalDatabase:
        return ensure_database(
            self.options,
            self.cache,
            now=self.now,
            deadline=time.monotonic() + more.pop("patience", 30),
            on_line=self.lines.append,
            **more,
        )

    @property
    def calls(self) -> int:
        calls = self.folder / "calls"
        return len(calls.read_text().splitlines()) if calls.exists() else 0


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "trivy").write_text(STAND_IN)
    (folder / "trivy").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    made = Bench(folder, TrivyOptions(), tmp_path / "cache", [])
    made.plan()
    return made


def test_a_missing_database_is_fetched_and_its_origin_kept(bench: Bench) -> None:
    """The facts name the repository that Trivy itself chose, and the build time."""
    assert bench.ensure().facts == FACTS


def test_a_current_database_is_used_as_it_is(bench: Bench) -> None:
    """The second scan fetches nothing and says the same."""
    first = bench.ensure()
    bench.now += 23 * HOUR

    assert (bench.ensure(), bench.calls) == (first, 1)


def test_a_database_past_its_next_update_is_replaced(bench: Bench) -> None:
    """The new one comes into a folder of its own, so that running scans keep theirs."""
    first = bench.ensure()
    bench.now += 25 * HOUR
    bench.plan(updated=bench.now)

    second = bench.ensure()

    assert second.facts.updated_at == bench.now
    assert second.cache_dir != first.cache_dir
    assert (first.cache_dir / "db" / "trivy.db").exists()


def test_what_a_killed_download_left_goes_with_the_next_look(bench: Bench) -> None:
    """Also where the next one fetches nothing; no temporary file stays of one that was not killed."""
    first = bench.ensure()
    left = first.cache_dir.parent / "incoming-killed" / "db"
    left.mkdir(parents=True)
    (left / "trivy.db").write_bytes(b"half")
    bench.now += 25 * HOUR
    bench.plan(fail="no answer")
    bench.ensure()
    assert list(first.cache_dir.parent.iterdir()) == [first.cache_dir]
    assert [path.name for path in first.cache_dir.iterdir()] == ["db"]


def test_the_third_database_removes_the_first(bench: Bench) -> None:
    """At most two databases lie on a worker's disk."""
    first = bench.ensure()
    for _ in range(2):
        bench.now += 25 * HOUR
        bench.plan(updated=bench.now)
        last = bench.ensure()

    assert not first.cache_dir.exists()
    assert len(list(last.cache_dir.parent.iterdir())) == 2


def test_a_failed_refresh_keeps_a_database_of_allowed_age(bench: Bench) -> None:
    """The scan continues with a line in the log, and does not retry the download at once."""
    bench.ensure()
    bench.now += 25 * HOUR
    bench.plan(fail="no such host")

    facts = [bench.ensure().facts for _ in range(3)][-1]

    assert facts == FACTS
    assert bench.calls == 2
    assert any("could not be refreshed, the one of 2026-11-20 12:00 UTC is used" in at for at in bench.lines)


def test_a_failed_refresh_of_an_old_database_is_stale_and_tried_each_time(bench: Bench) -> None:
    """Older than allowed: the facts say so, and every scan tries to do better."""
    bench.ensure()
    bench.now += 73 * HOUR
    bench.plan(fail="no such host")

    assert [bench.ensure().facts.stale for _ in range(2)] == [True, True]
    assert bench.calls == 3


def test_a_fetched_database_that_is_old_is_stale(bench: Bench) -> None:
    """A mirror that is no longer updated gives a stale database, not an error."""
    bench.plan(updated=NOW - 100 * HOUR)

    assert bench.ensure().facts.stale


def test_a_database_from_the_future_is_stale(bench: Bench) -> None:
    """A build time days ahead proves nothing, so it is not believed."""
    bench.plan(updated=NOW + 1000 * HOUR)

    assert bench.ensure().facts.stale


UNUSABLE = {
    "no JSON": ("{", "found JSONDecodeError"),
    "nested too deeply": ("[" * 50_000, "found ValueError"),
    "a time out of range": (
        '{"Version": 2, "UpdatedAt": "0001-01-01T00:00:00+14:00", "NextUpdate": "2026-11-21T00:00:00Z"}',
        "found ValueError",
    ),
    "no times": ('{"Version": 2}', "found KeyError"),
    "a time without zone": (
        '{"Version": 2, "UpdatedAt": "2026-11-20T00:00:00", "NextUpdate": "2026-11-21T00:00:00"}',
        "found ValueError",
    ),
    "another schema": (
        '{"Version": 3, "UpdatedAt": "2026-11-20T00:00:00Z", "NextUpdate": "2026-11-21T00:00:00Z"}',
        "expected schema 2, found '3'",
    ),
}


@pytest.mark.parametrize(("metadata", "message"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_what_is_no_database_is_refused(bench: Bench, metadata: str, message: str) -> None:
    """A download without readable metadata is never used, and leaves nothing behind."""
    bench.plan(metadata=metadata)

    with pytest.raises(ScanFailed, match=message):
        bench.ensure()

    assert list((bench.cache / "databases").iterdir()) == []


def test_no_database_at_all_names_the_offline_way(bench: Bench) -> None:
    """The message says where it looked, why not, and which setting names a mirror."""
    bench.plan(fail="no such host")

    with pytest.raises(DatabaseUnavailable) as caught:
        bench.ensure()

    text = str(caught.value)
    assert VULNERABILITIES.defaults in text
    assert "[delivery_chain] trivy_db_repository" in text
    assert "no such host" in text
    assert caught.value.retryable


def test_the_default_repository_is_left_to_trivy(bench: Bench) -> None:
    """Without a mirror nothing is said of repositories, logins or insecure connections."""
    bench.ensure()
    arguments = json.loads((bench.folder / "calls").read_text())

    assert arguments[:3] == ["image", "--download-db-only", "--no-progress"]
    assert not {"--db-repository", "--insecure", "--password-stdin"} & set(arguments)


DAMAGE = {
    "cut": lambda cache, _: (cache / "db" / "trivy.db").write_bytes(b"d"),
    "gone": lambda cache, _: (cache / "db" / "trivy.db").unlink(),
    "pointer is no JSON": lambda _, folder: (folder / "current.json").write_text("{"),
    "pointer leads out": lambda _, folder: (folder / "current.json").write_text(
        (folder / "current.json").read_text().replace('"folder": "', '"folder": "../')
    ),
    "pointer of another version": lambda _, folder: (folder / "current.json").write_text('{"folder": "x"}'),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_cache_is_fetched_again(bench: Bench, damage: Callable[[Path, Path], object]) -> None:
    """Files that were cut, removed or overwritten count as missing."""
    damage(bench.ensure().cache_dir, bench.cache)

    assert bench.ensure().facts.updated_at == NOW
    assert bench.calls == 2


def test_an_unreadable_database_is_fetched_again_once(bench: Bench) -> None:
    """What Trivy could not read is replaced, and a task that comes later takes the new one."""
    first = bench.ensure()

    second = bench.ensure(damaged=first)

    assert second.cache_dir != first.cache_dir
    assert bench.ensure(damaged=first).cache_dir == second.cache_dir
    assert bench.calls == 2


def test_an_unreadable_database_stays_when_there_is_no_other(bench: Bench) -> None:
    """The fault may lie in one image, so other scans keep their database."""
    first = bench.ensure()
    bench.plan(fail="no such host")

    with pytest.raises(DatabaseUnavailable):
        bench.ensure(damaged=first)

    assert bench.ensure() == first


def test_tasks_at_once_fetch_once(bench: Bench) -> None:
    """Eight tasks that start on a fresh worker make one download and agree on its result."""
    gate = threading.Barrier(8)

    def task(_: int) -> LocalDatabase:
        gate.wait()
        return bench.ensure()

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(task, range(8)))

    assert (len(found), bench.calls) == (1, 1)


def test_waiting_for_another_task_ends(bench: Bench) -> None:
    """A lock that is never given back is an error that may be retried."""
    bench.cache.mkdir()
    with (bench.cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DatabaseUnavailable, match="another task of this worker is still fetching"):
            bench.ensure(patience=0.3)


def test_what_a_killed_task_left_is_removed(bench: Bench) -> None:
    """Half a download of a worker that died does not stay on the disk."""
    left = bench.cache / "databases" / "incoming-abcdefgh"
    left.mkdir(parents=True)

    bench.ensure()

    assert not left.exists()


def test_a_folder_that_is_none_is_said(bench: Bench) -> None:
    """A cache folder that can't be made is the installation's fault."""
    bench.cache.write_text("a file")

    with pytest.raises(ConfigurationError, match=r"\[delivery_chain\] trivy_cache_dir"):
        bench.ensure()


@pytest.mark.parametrize("name", ["trivy-db", "example.com/UPPER", "https://example.com/x", "--config/x.y"])
def test_a_mirror_that_is_no_reference_is_said(bench: Bench, name: str) -> None:
    """The setting is named, and nothing that looks like an option gets to Trivy."""
    options = TrivyOptions(db_repository=name)

    with pytest.raises(ConfigurationError, match=r"\[delivery_chain\] trivy_db_repository"):
        ensure_database(options, bench.cache, now=NOW, deadline=time.monotonic() + 5)


def test_trivy_missing_is_not_a_missing_database(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing program is not retryable."""
    monkeypatch.setenv("PATH", str(bench.cache))

    with pytest.raises(ToolMissing, match="from its maintainers"):
        bench.ensure()
