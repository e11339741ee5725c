from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from delivery_chain.commands import events as command
from delivery_chain.commands.events import plain, table
from delivery_chain.commands.main import main
from delivery_chain.core.events.gaps import Watch
from delivery_chain.core.events.ledger import LedgerLine, Sight, StartResult

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
RUN = "tag__v1.0.0__aaaaaaaaaaaa__release__12345678"


def change(**given: Any) -> LedgerLine:
    whole = {
        "place": "delivery-chain-source--git--shop-api-000000",
        "ref": "refs/tags/v1.0.0",
        "commit": "a" * 40,
        "at": NOW,
        "last": NOW,
        "by": "webhook gh",
        "times": 2,
        "also": (Sight(by="sensor", after=4.2),),
        "outcomes": (StartResult(chain="shop-api", rule="release", run_id=RUN, made=True),),
    }
    return LedgerLine.model_validate(whole | given)


LOST = change(
    ref="shop/" + "x" * 40 + ":v1",
    by="sensor",
    times=1,
    also=(),
    outcomes=(),
    why="no chain covers this image",
    gaps=("no webhook reported it: the sensor found it, up to 31 s after the push",),
)


def test_a_wide_terminal() -> None:
    """One table; what is said about a change wraps in its column."""
    assert table([change(), LOST], 140) == [
        "TIME (UTC)      REF                               COMMIT        SEEN BY        RUNS, OR WHY NONE",
        "11-23 12:00:00  tag v1.0.0                        aaaaaaaaaaaa  webhook gh x2  shop-api (release): run",
        f"                                                                sensor +4 s      {RUN}",
        f"11-23 12:00:00  shop/{'x' * 26}…  aaaaaaaaaaaa  sensor         no chain covers this image",
        f"{'':79}GAP no webhook reported it: the sensor found it, up to 31 s",
        f"{'':79}  after the push",
    ]


def test_a_narrow_terminal() -> None:
    """Runs go below, and no line is wider than the terminal where words can be parted."""
    lines = table([change()], 80)
    assert lines == [
        "TIME (UTC)      REF         COMMIT        SEEN BY",
        "11-23 12:00:00  tag v1.0.0  aaaaaaaaaaaa  webhook gh x2",
        "                                          sensor +4 s",
        f"    shop-api (release): run {RUN}",
    ]
    assert max(len(line) for line in table([LOST], 80)) <= 80


def test_a_terminal_obeys_nobody_else() -> None:
    """What others wrote can neither colour nor move anything."""
    lines = table([change(ref="\x1b[31mred", actor="\x07", why="a\nb\x1b]0;x\x07")], 100)
    assert not any(character in "\x1b\x07" for line in lines for character in line)
    assert plain("a\u202eb\n") == "a\ufffdb\ufffd"


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the command reads instead of a database."""
    from delivery_chain.airflow_db.push_events import Ledger  # noqa: PLC0415 - imports Airflow

    found = Ledger(
        changes=[change(), LOST],
        watches={"w": Watch(title="source git shop/web.git", paused=True)},
        since=NOW - timedelta(days=1),
        cut=True,
        skipped=3,
    )
    monkeypatch.setattr(command, "_read", lambda since, now: found)
    return found


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], list[str]]:
    code = main(["events", *arguments])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err.splitlines()


def test_json_is_one_object_a_line(ledger: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line is the change; what is to say about the whole is on standard error."""
    code, out, err = run(capsys, "--json")
    assert (code, [LedgerLine.model_validate_json(line) for line in out]) == (0, ledger.changes)
    assert err == [
        "2 changes since 2026-11-22 12:00 UTC, 1 with gaps",
        "more exist: only the newest were read, and the list is complete since the time above",
        "3 records were written by another version of this package, and were skipped",
        "not polling: source git shop/web.git: its Dag is paused",
    ]


def test_gaps_are_an_exit_code(ledger: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """1 where there are any among what was asked for, so that a job can tell."""
    assert [run(capsys, *arguments)[0] for arguments in (["--gaps"], ["--gaps", "--ref", "v1.0.0"], [])] == [
        1,
        0,
        0,
    ]
    assert len(run(capsys, "--gaps", "--json")[1]) == 1


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["--chain", "shop-api"], 1),
        (["--ref", "v1.*"], 1),
        (["--source", "SHOP-API"], 2),
        (["--chain", "x"], 0),
    ],
)
def test_filters(ledger: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], lines: int) -> None:
    """Only what was asked for is printed."""
    assert len(run(capsys, *arguments, "--json")[1]) == lines


@pytest.mark.parametrize("since", ["1x", "yesterday", ""])
def test_a_time_that_is_none(since: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong time: exit code 2, what was found and what is expected; no database is asked."""
    assert run(capsys, "--since", since) == (
        2,
        [],
        [f"--since {since!r}: expected 30m, 12h, 1d, or a time such as 2026-01-31T12:00"],
    )


def test_the_command_line_stays_light() -> None:
    """Airflow takes seconds: the other commands do not wait for it."""
    import subprocess  # noqa: PLC0415

    code = "import sys, delivery_chain.commands.events; print('airflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "False"
