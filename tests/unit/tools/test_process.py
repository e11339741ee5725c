"""The guarantees of `process.run` for every tool: bounds, masking, and no process left running."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from delivery_chain.errors import DiskFull, ToolError, ToolMissing, ToolTimeout
from delivery_chain.tools import process
from delivery_chain.tools.lines import LINE_LENGTH, LineReader, Masker
from delivery_chain.tools.secret_files import passed_file

ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def soon(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


def sh(script: str, **options: object) -> process.Completed:
    arguments: dict[str, object] = {"tool": "sh", "env": ENV, "deadline": soon()} | options
    return process.run(["sh", "-c", script], **arguments)  # type: ignore[arg-type]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but is not reaped by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> bool:
    until = soon(5)
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not is_alive(pid)


def test_result_keeps_streams_apart() -> None:
    """Standard output is captured as bytes, standard error becomes lines."""
    seen: list[str] = []
    result = sh("echo out; echo err >&2", on_line=seen.append)
    assert (result, seen) == (process.Completed(0, b"out\n", ("err",)), ["err"])


def test_merged_output_keeps_its_order() -> None:
    """With `merge`, both streams are lines in the order they were printed."""
    result = sh("echo 1; echo 2 >&2; echo 3", merge=True)
    assert result == process.Completed(0, b"", ("1", "2", "3"))


def test_environment_is_exactly_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the worker's environment is inherited."""
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://u:p@h/db")
    result = process.run(["env"], tool="env", env={**ENV, "A": "1"}, deadline=soon())
    assert sorted(result.stdout.decode().split()) == ["A=1", f"PATH={ENV['PATH']}"]


def test_base_env_is_an_allow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the worker's variables only the listed ones get through."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    given = {"PATH": "/bin", "NO_PROXY": "x", "SSL_CERT_FILE": "/ca", "LANG": "C"}
    secret = (
        "HOME",
        "AIRFLOW_HOME",
        "AIRFLOW__CORE__FERNET_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "DB_PASSWORD",
        "LD_PRELOAD",
    )
    for name, value in (given | dict.fromkeys(secret, "s")).items():
        monkeypatch.setenv(name, value)
    assert process.base_env() == given


def test_stdin_larger_than_a_pipe_arrives() -> None:
    """Input is fed while output is read, so that neither side blocks the other."""
    data = os.urandom(3 * process.MEBIBYTE)
    result = process.run(["cat"], tool="cat", env=ENV, deadline=soon(), stdin=data)
    assert result.stdout == data


def test_program_that_reads_no_input_is_no_failure() -> None:
    """A program may end without reading what it was sent."""
    assert sh("exit 0", stdin=bytes(process.MEBIBYTE)).exit_code == 0


def test_missing_tool_says_how_to_install_it() -> None:
    """The error names the program and the package."""
    with pytest.raises(ToolMissing) as caught:
        process.run(["buildah", "x"], tool="buildah", env={"PATH": "/nowhere"}, deadline=soon())
    assert str(caught.value) == (
        "buildah: expected it on this worker's PATH, found nothing; install the Debian package buildah"
    )


def test_failure_carries_the_last_twenty_lines() -> None:
    """A failed program's error has its exit code and the end of its output."""
    with pytest.raises(ToolError) as caught:
        sh("seq 1 30 >&2; exit 3")
    assert (caught.value.exit_code, caught.value.output) == (3, tuple(str(n) for n in range(11, 31)))


def test_signal_is_named() -> None:
    """A program ended by a signal is reported with the signal's name."""
    with pytest.raises(ToolError, match="found signal SIGKILL"):
        sh("kill -9 $$")


def test_unchecked_failure_is_returned() -> None:
    """With check off the caller judges the exit code."""
    assert sh("exit 4", check=False).exit_code == 4


@pytest.mark.parametrize("text", ["write x: No space left on device", "Disk quota exceeded", "ENOSPC: write"])
def test_full_disk_is_recognised(text: str) -> None:
    """Output that says the disk is full gives the retryable error."""
    with pytest.raises(DiskFull):
        sh(f"echo '{text}' >&2; exit 1")


def test_too_much_output_stops_the_program() -> None:
    """Captured output is bounded, also when the program would never end."""
    with pytest.raises(ToolError, match="expected at most 1000 bytes of output, found more"):
        sh("yes", max_stdout=1000)


def test_timeout_stops_the_whole_group(tmp_path: Path) -> None:
    """After a timeout neither the program nor its children run, also those that ignore SIGTERM."""
    script = f"trap '' TERM; (trap '' TERM; echo $BASHPID > {tmp_path}/child; exec sleep 100) & wait"
    before = process.GRACE
    process.GRACE = 0.3
    try:
        with pytest.raises(ToolTimeout):
            process.run(["bash", "-c", script], tool="bash", env=ENV, deadline=soon(0.7))
    finally:
        process.GRACE = before
    assert wait_until_gone(int((tmp_path / "child").read_text()))


def test_program_may_clean_up_when_it_is_stopped(tmp_path: Path) -> None:
    """The group gets SIGTERM and time before it is killed."""
    with pytest.raises(ToolTimeout):
        sh(f"trap 'echo bye > {tmp_path}/bye; exit' TERM; sleep 100 & wait", deadline=soon(0.5))
    assert (tmp_path / "bye").read_text() == "bye\n"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_exception_stops_the_program(kind: type[BaseException]) -> None:
    """Whatever is raised while a program runs (so Airflow ends tasks), the program is stopped."""
    pids: list[int] = []

    def raise_it(line: str) -> None:
        pids.append(int(line))
        raise kind

    with pytest.raises(kind):
        sh("echo $$ >&2; exec sleep 100", on_line=raise_it)
    assert wait_until_gone(pids[0])


def test_child_that_lives_on_does_not_hold_the_caller() -> None:
    """A background child that keeps the pipes open is killed when the program itself has ended."""
    began = time.monotonic()
    result = sh("sleep 100 & echo $!")
    assert wait_until_gone(int(result.stdout))
    assert time.monotonic() - began < 5


def test_killed_worker_takes_the_program_along(tmp_path: Path) -> None:
    """The program does not outlive the calling process, even after kill -9."""
    code = (
        "import time; from delivery_chain.tools import process\n"
        f"script = 'echo $$ > {tmp_path}/new && mv {tmp_path}/new {tmp_path}/pid && exec sleep 100'\n"
        "process.run(['sh', '-c', script],"
        f" tool='sh', env={ENV!r}, deadline=time.monotonic() + 60)"
    )
    plugins = str(Path(process.__file__).parents[2])
    with subprocess.Popen([sys.executable, "-c", code], env={**ENV, "PYTHONPATH": plugins}) as worker:
        until = soon(10)
        while not (tmp_path / "pid").exists() and time.monotonic() < until:
            time.sleep(0.02)
        worker.send_signal(signal.SIGKILL)
    assert wait_until_gone(int((tmp_path / "pid").read_text()))


def test_secrets_are_masked_in_lines_and_errors() -> None:
    """A secret is shown as stars in lines, in the error's text and in its output, also url-encoded."""
    seen: list[str] = []
    with pytest.raises(ToolError) as caught:
        sh("echo 'a p@ss b p%40ss c' >&2; exit 1", secrets=["p@ss"], on_line=seen.append)
    assert (seen, caught.value.output) == (["a *** b *** c"], ("a *** b *** c",))
    assert "p@ss" not in str(caught.value)


def test_lines_of_a_key_are_masked() -> None:
    """Of a secret of several lines each long line is masked by itself."""
    assert Masker(["-----BEGIN-----\nabcdefghij\n-----END-----\n"])("x abcdefghij") == "x ***"


def feed(*chunks: bytes) -> list[str]:
    seen: list[str] = []
    reader = LineReader(Masker([]), seen.append)
    for chunk in chunks:
        reader.feed(chunk)
    reader.close()
    return seen


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param([b"a\nb", b"c\n"], ["a", "bc"], id="split across chunks"),
        pytest.param([b"10%\r20%\r\n"], ["10%", "20%"], id="progress"),
        pytest.param([b"\x1b[31mred\x1b[0m\x00\x07\n"], ["red"], id="terminal escapes"),
        pytest.param([b"\xff\xfe\n"], ["��"], id="not text"),
        pytest.param([b"\n\n \n"], [], id="empty lines"),
        pytest.param([b"no end"], ["no end"], id="no line end"),
        pytest.param([b"x" * 100_000, b"\nnext\n"], ["x" * LINE_LENGTH + "…", "next"], id="endless line"),
    ],
)
def test_lines_are_bounded_and_printable(chunks: list[bytes], expected: list[str]) -> None:
    """Whatever a program prints becomes short printable lines."""
    assert feed(*chunks) == expected


def test_a_passed_file_is_read_by_its_number() -> None:
    """The program finds the content under the descriptor that it inherits, as often as it likes."""
    with passed_file("s3cr3t") as descriptor:
        path = f"/proc/self/fd/{descriptor}"
        result = sh(f"cat {path} {path}", descriptors=[descriptor])
    assert result.stdout == b"s3cr3ts3cr3t"


def test_other_files_are_not_passed() -> None:
    """Only what is named."""
    with passed_file("s3cr3t") as descriptor:
        result = sh(f"cat /proc/self/fd/{descriptor}", check=False)
    assert b"s3cr3t" not in result.stdout


def test_umask_is_the_programs_own(tmp_path: Path) -> None:
    """This process keeps its own."""
    before = os.umask(0o077)
    try:
        sh(f"echo x > {tmp_path}/file", umask=0o022)
        (tmp_path / "mine").touch()
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("file", "mine")] == [0o644, 0o600]


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EPERM, OSError)]
)
def test_no_room_for_files_of_this_process_is_said(number: int, kind: type[Exception]) -> None:
    """As what a tool says of it; other failures stay as they are."""
    with pytest.raises(kind) as caught, process.disk_full_said("buildah"):
        raise OSError(number, "no", "/srv/probe")
    assert isinstance(caught.value, DiskFull) == (kind is DiskFull)
