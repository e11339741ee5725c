"""A job's folder on a worker: locked while a process is in it, removed when none is."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.errors import ConfigurationError, DiskFull, ToolTimeout
from delivery_chain.tools import leftovers, work_folder
from delivery_chain.tools.job_folder import job_folder
from delivery_chain.tools.leftovers import remove_leftovers
from delivery_chain.tools.removal import remove
from delivery_chain.tools.work_folder import home

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLD = """
import sys
from pathlib import Path
from delivery_chain.tools.job_folder import job_folder

with job_folder(Path(sys.argv[1]), "r1-build-0", log=print) as folder:
    (folder / "source").mkdir()
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that works as job r1-build-0, and its folder."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, env=env, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def jobs(work_folder: Path) -> list[str]:
    return sorted(path.name for path in (work_folder / str(os.geteuid()) / "jobs").iterdir())


def test_a_job_has_its_folder_for_itself(tmp_path: Path) -> None:
    """It is empty, its user's alone, and gone at the end."""
    with job_folder(tmp_path, "r1-build-0", log=print) as folder:
        assert (jobs(tmp_path), list(folder.iterdir())) == (["r1-build-0"], [])
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "x").write_text("x")
    assert jobs(tmp_path) == []


def test_a_running_jobs_folder_stays_until_its_process_is_killed(
    tmp_path: Path, holder: tuple[subprocess.Popen[str], Path]
) -> None:
    """The kernel gives the lock back with the process; the next job removes the folder and says so."""
    process, folder = holder
    lines: list[str] = []
    remove_leftovers(tmp_path, log=lines.append)
    assert (jobs(tmp_path), lines) == (["r1-build-0"], [])
    process.kill()
    process.wait(10)
    assert jobs(tmp_path) == ["r1-build-0"]
    with job_folder(tmp_path, "r2-scan-0", log=lines.append):
        assert (jobs(tmp_path), lines) == (["r2-scan-0"], [f"removed leftovers of a killed job: {folder}"])


def test_a_retry_beside_a_try_that_still_lives_has_another_folder(
    tmp_path: Path, holder: tuple[subprocess.Popen[str], Path]
) -> None:
    """Airflow gives up a task whose worker it does not hear; both work on, each for itself."""
    with job_folder(tmp_path, "r1-build-0", log=print) as folder:
        assert (folder.name, (holder[1] / "source").is_dir()) == ("r1-build-0~2", True)
    assert jobs(tmp_path) == ["r1-build-0"]


def test_removal_follows_no_link(tmp_path: Path) -> None:
    """Links among the folders and in them are removed; what they lead to stays."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    folder = remove_leftovers(tmp_path / "work", log=print)
    (folder / "link").symlink_to(kept)
    (folder / "r1-build-0").mkdir()
    (folder / "r1-build-0" / "link").symlink_to(kept)
    (folder / "note").write_text("x")
    remove_leftovers(tmp_path / "work", log=print)
    assert (jobs(tmp_path / "work"), [path.name for path in kept.iterdir()]) == ([], ["file"])


def test_leftovers_that_forbid_their_removal_are_removed(tmp_path: Path) -> None:
    """Folders without any right for their owner, as builds make them."""
    folder = remove_leftovers(tmp_path, log=print) / "r1-build-0" / "closed"
    folder.mkdir(parents=True)
    (folder / "file").write_text("x")
    folder.chmod(0)
    remove_leftovers(tmp_path, log=print)
    assert jobs(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of other users")
def test_other_users_folders_are_left_alone(tmp_path: Path) -> None:
    """They are nobody's leftovers that this user knows of."""
    folder = remove_leftovers(tmp_path, log=print) / "theirs"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    remove_leftovers(tmp_path, log=print)
    assert jobs(tmp_path) == ["theirs"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of other users")
def test_files_of_a_builds_users_are_removed(tmp_path: Path) -> None:
    """Ids that only the build's namespace had."""
    folder = remove_leftovers(tmp_path, log=print) / "r1-build-0" / "storage"
    folder.mkdir(parents=True)
    (folder / "file").write_text("x")
    os.chown(folder / "file", 1_879_048_193, 1_879_048_193)
    remove_leftovers(tmp_path, log=print)
    assert jobs(tmp_path) == []


def test_what_can_not_be_removed_keeps_no_job_from_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, and tried again by the next job; a retry of the very same job takes another folder."""

    def slow(folder: Path, **_: float) -> None:
        raise ToolTimeout("rm: the deadline passed")

    (remove_leftovers(tmp_path, log=print) / "r1-build-0").mkdir()
    lines: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(leftovers, "remove", slow)
        with job_folder(tmp_path, "r1-build-0", log=lines.append) as folder:
            assert folder.name == "r1-build-0~2"
    left = folder.with_name("r1-build-0")
    said = f"leftovers of a killed job could not be removed, the next job tries again: {left}: rm: the deadline passed"
    assert lines == [said]
    remove_leftovers(tmp_path, log=print)
    assert jobs(tmp_path) == []


def test_the_removal_has_a_time_limit(tmp_path: Path) -> None:
    """What is over it is left for the next job."""
    (remove_leftovers(tmp_path, log=print) / "r1-build-0").mkdir()
    remove_leftovers(tmp_path, log=print, seconds=0)
    assert jobs(tmp_path) == ["r1-build-0"]


def test_a_folder_with_a_mount_in_it_is_not_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bind mount leads out of the folder, and removal would go there."""
    folder = tmp_path / "with blank"
    (folder / "usr").mkdir(parents=True)
    line = f"36 35 98:0 / {folder}/usr rw - ext4 /dev/x rw".replace("with blank", r"with\040blank")
    monkeypatch.setattr(Path, "read_text", lambda *_: line)
    with pytest.raises(OSError, match=r"something is mounted there; unmount it: '.*with blank/usr'"):
        remove(folder)
    assert (folder / "usr").is_dir()


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (errno.ENOSPC, DiskFull, "the disk is full; free some room"),
        (errno.EDQUOT, DiskFull, "the disk is full; free some room"),
        (
            errno.EROFS,
            ConfigurationError,
            "expected a folder that the worker can write, found Read-only file system",
        ),
        (
            errno.EACCES,
            ConfigurationError,
            "expected a folder that the worker can write, found Permission denied",
        ),
    ],
)
def test_a_work_folder_that_can_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception], message: str
) -> None:
    """The error names the setting and says whether a retry helps."""

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(error, match=rf"\[delivery_chain\] work_folder {tmp_path}: {message}"),
        job_folder(tmp_path, "r1-build-0", log=print),
    ):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of other users")
def test_a_folder_that_somebody_else_made_where_all_may_is_refused(tmp_path: Path) -> None:
    """In /tmp anybody can make the folder before its worker does."""
    tmp_path.chmod(0o1777)
    folder = tmp_path / "delivery-chain-0"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    with pytest.raises(ConfigurationError, match="expected a folder owned by this user, found user 65534's"):
        home(folder)


def test_a_link_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    """It would lead the removal to somebody else's files."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / str(os.geteuid())).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="found another user's, or a link"):
        home(tmp_path)


@pytest.mark.parametrize(
    ("kind", "own"),
    [("ext4", True), ("xfs", True), ("overlay", True), ("tmpfs", True), ("", True)]
    + [(kind, False) for kind in ("nfs", "nfs4", "cifs", "fuse.sshfs", "ceph", "9p")],
)
def test_hosts_do_not_share_on_a_networks_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, own: bool
) -> None:
    """There locks of other hosts may not be seen: each host has its own folder and removes nobody else's."""
    monkeypatch.setattr(work_folder, "_file_system", lambda _: kind)
    found = []
    for host in ("one", "two"):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        found.append(home(tmp_path).name)
    assert (found == [str(os.geteuid())] * 2, len(set(found)) == 2) == (own, not own)


def test_the_file_system_is_read_from_the_kernel(tmp_path: Path) -> None:
    """What `stat` says of a folder is what the table of mounts says."""
    assert work_folder._file_system(Path("/proc")) == "proc"
