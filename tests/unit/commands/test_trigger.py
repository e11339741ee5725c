"""The command `trigger` up to the first request: what it refuses before sending anything, and how it waits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from delivery_chain.commands.main import main
from delivery_chain.commands.run_wait import Ended, wait
from delivery_chain.commands.trigger import CHAIN_TAG, refusal
from delivery_chain.dag_files import factory
from delivery_chain.errors import AirflowUnreachable, ConfigurationError, ToolError, UsageError
from delivery_chain.tools.airflow_rest import Answer, Login, check_address

NAMES = ("AIRFLOW_API_URL", "AIRFLOW_API_TOKEN", "AIRFLOW_API_USERNAME", "AIRFLOW_API_PASSWORD")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("https://airflow.example.com", "https://airflow.example.com"),
        ("https://airflow.example.com/", "https://airflow.example.com"),
        ("https://example.com:8443/airflow/api/v2/", "https://example.com:8443/airflow"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_addresses(given: str, address: str) -> None:
    """https everywhere, http on this machine; the API's own path may be given too."""
    assert check_address(given) == address


EXAMPLE = "Airflow's address: expected one such as https://airflow.example.com"
CLEAR = "the login would cross the network in the clear; use https, or --allow-http on a trusted network"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("airflow.example.com", EXAMPLE + ", found 'airflow.example.com'"),
        ("ftp://airflow.example.com", EXAMPLE + ", found 'ftp://airflow.example.com'"),
        ("https://", EXAMPLE + ", found 'https://'"),
        ("https://h:port", EXAMPLE + ", found 'https://h:port'"),
        ("https://h\r\nX: y", EXAMPLE + ", found 'https://h\\r\\nX: y'"),
        ("bob:secret@h", EXAMPLE),
        (
            "https://bob:secret@h",
            "Airflow's address at h: expected no login in it; set AIRFLOW_API_TOKEN in the environment instead",
        ),
        ("https://h/?token=secret", "Airflow's address at h: expected no query and no fragment"),
        ("http://airflow.example.com", f"http://airflow.example.com: {CLEAR}"),
        ("http://127.0.0.1.example.com", f"http://127.0.0.1.example.com: {CLEAR}"),
        ("http://localhost.example.com:1", f"http://localhost.example.com:1: {CLEAR}"),
    ],
)
def test_addresses_refused(given: str, message: str) -> None:
    """What is no address, carries a secret, or would show one to the network; no secret is repeated."""
    with pytest.raises(UsageError) as caught:
        check_address(given)
    assert str(caught.value) == message


def test_http_allowed() -> None:
    """Plain http elsewhere has to be asked for."""
    assert check_address("http://airflow:8080", allow_http=True) == "http://airflow:8080"


TOKEN, USER, PASSWORD = NAMES[1:]
NONE = f"no login for Airflow: set {TOKEN}, or {USER} and {PASSWORD}, in the environment"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, NONE),
        ({TOKEN: " "}, NONE),
        ({USER: "bob"}, "AIRFLOW_API_PASSWORD is not set: user and password are needed together"),
        ({PASSWORD: "hush"}, "AIRFLOW_API_USERNAME is not set: user and password are needed together"),
        ({TOKEN: "se\ncret"}, "AIRFLOW_API_TOKEN: expected a token without spaces, found something else"),
    ],
)
def test_logins_refused(environment: dict[str, str], message: str) -> None:
    """No login, half of one, or one that is no header; none is repeated."""
    with pytest.raises(ConfigurationError) as caught:
        Login.from_environment(environment)
    assert str(caught.value) == message


def test_a_token_comes_first() -> None:
    """A token is used as it is, without the line end that files have, and no login is in its repr."""
    found = Login.from_environment({TOKEN: "abc\n", USER: "bob", PASSWORD: "hush"})
    assert (found, repr(found)) == (Login(token="abc"), "Login(user='')")
    assert repr(Login(user="bob", password="hush")) == "Login(user='bob')"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["shop-api", "--ref", "a..b"],
            "--ref: expected a git ref such as v1.2.0 or refs/heads/main, found 'a..b': it contains '..'",
        ),
        (
            ["shop-api", "--ref", "v1", "--commit", "abc"],
            "--commit: expected a full commit id of 40 hex digits, found 'abc'",
        ),
        (
            ["shop-api", "--ref", "v1", "--tag", "v1"],
            "expected either a git `ref` to build, or the `tag` or `digest` of an existing image; found both",
        ),
        (["shop-api", "--digest", "abc"], "--digest: digest 'abc': expected sha256: and 64 hex digits"),
        (["../x"], "chain '../x': expected a chain's name such as shop-api"),
        (["~"], "chain '~': expected a chain's name such as shop-api"),
        (
            ["shop-api", "--run-id", "a b"],
            "--run-id 'a b': expected at most 250 characters of [A-Za-z0-9_.~:+-], and no '..'",
        ),
        (["shop-api", "--timeout", "0"], "--timeout 0: expected seconds above 0"),
        (["shop-api", "--timeout", "nan"], "--timeout nan: expected seconds above 0"),
        (["shop-api"], "Airflow's address is missing: give --url, or set AIRFLOW_API_URL"),
        (["shop-api", "--url", "https://h"], NONE),
    ],
)
def test_refused_before_anything_is_sent(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong option, address or login: exit code 2, one message, no request."""
    assert (main(["trigger", *arguments]), capsys.readouterr()) == (2, ("", message + "\n"))


class Scripted:
    """A server that gives set answers to looks at a run."""

    address = "https://h"

    def __init__(self, *said: Answer | ToolError, outcome: Answer | ToolError | None = None) -> None:
        self.said = list(said)
        self.outcome = outcome or Answer(404, {"detail": "Not Found"}, "Not Found")

    def call(self, method: str, path: str, *, below: str = "/api/v2", **_: Any) -> Answer:
        if below != "/api/v2":
            assert (method, below, path) == ("GET", "/delivery-chain", "/runs/c/r/outcome")
            if isinstance(self.outcome, ToolError):
                raise self.outcome
            return self.outcome
        assert (method, path) == ("GET", "/dags/c/dagRuns/r")
        answer = self.said.pop(0)
        if isinstance(answer, ToolError):
            raise answer
        return answer


def state(name: str, note: str | None = None) -> Answer:
    return Answer(200, {"state": name, "note": note}, "")


def test_waits_through_an_outage() -> None:
    """A server that is away, busy or failing for a while is asked again, in growing pauses of at most 5 seconds."""
    pauses: list[float] = []
    away = [AirflowUnreachable("away"), Answer(503, {}, ""), Answer(429, {}, ""), Answer(200, {}, "")]
    server = Scripted(state("queued"), *away, *[state("running")] * 5, state("failed", "blocked\x1b[2J"))
    found = wait(server, "c", "r", until=float("inf"), sleep=pauses.append)  # type: ignore[arg-type]
    assert (found, [round(pause, 2) for pause in pauses]) == (
        Ended("failed", "blocked?[2J", delivered=False),
        [0.5, 0.75, 1.12, 1.69, 2.53, 3.8, 5, 5, 5, 5],
    )


GONE = ToolError("no redirects")


def told(end: str, *, good: bool, run: str = "success") -> Answer:
    """What the plugin says."""
    return Answer(200, {"end": end, "good": good, "sentence": f"{end}: so\x1b[2J", "state": run}, "")


@pytest.mark.parametrize(
    ("look", "outcome", "ended"),
    [
        (
            state("success", "x"),
            told("delivered", good=True),
            Ended("success", "delivered: so?[2J", delivered=True),
        ),
        # Somebody marked it as a success: the plugin knows what it was.
        (
            state("success", "x"),
            told("blocked", good=False),
            Ended("success", "blocked: so?[2J", delivered=False),
        ),
        (
            state("success", "x"),
            told("superseded", good=True),
            Ended("success", "superseded: so?[2J", delivered=False),
        ),
        (
            state("failed", "x"),
            told("delivered", good=False, run="failed"),
            Ended("failed", "delivered: so?[2J", delivered=False),
        ),
        # Cleared since, something else's answer, no plugin, no answer: the state and the note.
        (
            state("success", "x"),
            told("running", good=False, run="running"),
            Ended("success", "x", delivered=True),
        ),
        (state("success", "x"), Answer(200, {}, ""), Ended("success", "x", delivered=True)),
        (state("success"), None, Ended("success", "", delivered=True)),
        (state("success", "delivered: so"), GONE, Ended("success", "delivered: so", delivered=True)),
        (state("success", "blocked: so"), GONE, Ended("success", "blocked: so", delivered=False)),
        (state("success", "superseded: so"), GONE, Ended("success", "superseded: so", delivered=False)),
        (
            state("success", "NOT TO BE TRUSTED: x"),
            GONE,
            Ended("success", "NOT TO BE TRUSTED: x", delivered=False),
        ),
        (state("failed", "x"), GONE, Ended("failed", "x", delivered=False)),
    ],
)
def test_what_is_waited_for(look: Answer, outcome: Answer | ToolError | None, ended: Ended) -> None:
    """The run's outcome; exit code 0 is for an image that is where it should be."""
    server = Scripted(look, outcome=outcome)
    assert wait(server, "c", "r", until=0, sleep=lambda _: pytest.fail("waits")) == ended  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (state("running"), "c: run r did not finish in time, last state running; it continues"),
        (
            AirflowUnreachable("away"),
            "c: run r did not finish in time, last state unknown: away; it continues",
        ),
        (Answer(404, {}, "gone"), "https://h: run r of 'c' can't be read (status 404): gone"),
        (Answer(403, {}, "no"), "https://h: run r of 'c' can't be read (status 403): no"),
        (ToolError("login not taken"), "login not taken"),
    ],
)
def test_waits_end(said: Answer | ToolError, message: str) -> None:
    """The time is over, the run is gone, or the login is no longer taken."""
    with pytest.raises(ToolError) as caught:
        wait(Scripted(said), "c", "r", until=0, sleep=lambda _: pytest.fail("waits"))  # type: ignore[arg-type]
    assert str(caught.value) == message


class Judging:
    """A server that says what a chain takes."""

    def __init__(self, said: Answer | ToolError) -> None:
        self.said = said

    def log_in(self) -> bool:
        return True

    def call(self, method: str, path: str, **how: Any) -> Answer:
        assert (method, path, how) == (
            "GET",
            "/chains/c/takes",
            {"query": {"conf": '{"ref": "v9"}'}, "below": "/delivery-chain"},
        )
        if isinstance(self.said, ToolError):
            raise self.said
        return self.said


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Answer(200, {"refused": "no rule\x1b[2J"}, ""), "no rule?[2J"),
        (Answer(200, {"refused": ""}, ""), ""),
        (Answer(200, {"refused": 7}, ""), ""),
        (Answer(404, {}, "no plugin"), ""),
        (Answer(403, {}, "no"), ""),
        (ToolError("redirects to a login form"), ""),
    ],
)
def test_what_a_chain_takes_is_asked_before(said: Answer | ToolError, reason: str) -> None:
    """Its reason, where there is one; a server that can't say it stops nothing."""
    assert refusal(Judging(said), "c", {"ref": "v9"}) == reason  # type: ignore[arg-type]


def test_knows_the_chains_tag() -> None:
    """The tag by which chains are listed is the one that the factory gives them."""
    assert factory.CHAIN_TAG == CHAIN_TAG


def test_needs_no_airflow() -> None:
    """The command neither imports Airflow nor writes anything where it might keep its settings."""
    script = (
        "import sys; from delivery_chain.commands.main import main; code = main(['trigger', 'c']); "
        "print(code, sorted(name for name in sys.modules if name.split('.')[0] == 'airflow'))"
    )
    plugins = str(Path(__file__).parents[3] / "plugins")
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": plugins},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "2 []\n"
