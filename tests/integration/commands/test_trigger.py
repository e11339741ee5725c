"""`delivery-chain trigger` with a server on this machine: what it sends, prints, and never prints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from support.webhook_target import webhook_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.airflow_fake import FakeAirflow

    Run = Callable[..., tuple[int, str, str]]


pytestmark = pytest.mark.integration
RUNS = "POST /api/v2/dags/shop-api/dagRuns"
TAKES = "GET /delivery-chain/chains/shop-api/takes"
A = "a" * 40


def test_a_run_is_started(airflow: FakeAirflow, run: Run) -> None:
    """One line: what happened, the run's id, its page; the conf has exactly what was requested."""
    code, out, err = run("shop-api", "--ref", "v1.2.0", "--commit", A, "--rule", "release", "--no-announce")
    found = re.fullmatch(r"started  (cli__v1\.2\.0__\d{8}T\d{6}__[0-9a-f]{8})  (\S+)\n", out)
    assert found
    assert (code, err, found[2]) == (0, "", f"{airflow.url}/dags/shop-api/runs/{found[1]}")
    conf = {"ref": "v1.2.0", "commit": A, "rule": "release", "announce": False}
    assert airflow.posted == [{"dag_run_id": found[1], "logical_date": None, "conf": conf}]
    assert airflow.seen == ["POST /auth/token", TAKES, RUNS, "GET /api/v2/dags/shop-api"]


def test_an_image(airflow: FakeAirflow, run: Run) -> None:
    """An existing image is named by repository and tag."""
    assert run("base-images", "--repository", "alpine", "--tag", "3.22", "--run-id", "x")[0] == 0
    assert airflow.posted[0]["conf"] == {"repository": "alpine", "tag": "3.22"}


def test_a_token_is_taken_as_it_is(airflow: FakeAirflow, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a token, no password is sent, even if ~/.netrc has a login."""
    airflow.tokens.add("hush")
    monkeypatch.setenv("AIRFLOW_API_TOKEN", "hush")
    assert run("shop-api", "--run-id", "x")[0] == 0
    assert airflow.seen == [TAKES, RUNS, "GET /api/v2/dags/shop-api"]


def test_netrc_is_left_alone(
    airflow: FakeAirflow,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A login in ~/.netrc does not replace ours, and no proxy is used for this machine."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert run("shop-api", "--run-id", "x")[0] == 0


def test_an_event_that_the_chain_does_not_take(airflow: FakeAirflow, run: Run) -> None:
    """Exit code 1 at once with the chain's reason, and no run."""
    airflow.say[TAKES] = [(200, {"refused": "no build rule matches 'v9'"})]
    words = "shop-api does not take this event, nothing was started: no build rule matches 'v9'\n"
    assert run("shop-api", "--ref", "v9", "--wait") == (1, "", words)
    assert airflow.seen == ["POST /auth/token", TAKES]


@pytest.mark.parametrize(("tags", "code"), [([{"name": "other"}], 3), ([{"name": "delivery-chain"}], 0)])
def test_a_dag_that_is_no_chain(airflow: FakeAirflow, run: Run, tags: list[Any], code: int) -> None:
    """It would accept any event: nothing is started. A chain whose spec was removed still decides itself."""
    airflow.say[TAKES] = [(404, {"detail": "no chain shop-api"})]
    airflow.say["GET /api/v2/dags/shop-api"] = [(200, {"tags": tags})]
    found, _, err = run("shop-api", "--ref", "v1")
    assert (found, len(airflow.posted), "no chain 'shop-api'; chains visible" in err) == (
        code,
        int(not code),
        bool(code),
    )


def test_the_same_id_twice(airflow: FakeAirflow, run: Run) -> None:
    """A run with this id exists: it is named, and the command succeeds."""
    line = f"x  {airflow.url}/dags/shop-api/runs/x\n"
    assert run("shop-api", "--run-id", "x") == (0, f"started  {line}", "")
    assert run("shop-api", "--run-id", "x") == (0, f"exists  {line}", "")
    assert len(airflow.runs) == 1


def test_another_conflict(airflow: FakeAirflow, run: Run) -> None:
    """A conflict about something else than this id is a failure."""
    airflow.say[RUNS] = [(409, {"detail": {"reason": "Unique constraint violation"}})]
    words = "chain 'shop-api': Airflow refused the run (status 409): Unique constraint violation"
    assert run("shop-api", "--run-id", "x") == (3, "", f"{airflow.url}: {words}\n")


def test_a_paused_chain(airflow: FakeAirflow, run: Run) -> None:
    """The run exists, and will wait."""
    airflow.paused = True
    told = "shop-api is paused: its run stays queued until the Dag is unpaused in the UI\n"
    assert run("shop-api", "--run-id", "x") == (0, f"started  x  {airflow.url}/dags/shop-api/runs/x\n", told)


@pytest.mark.parametrize(
    ("state", "note", "code", "line"),
    [
        ("success", "published shop/api:v1", 0, "success  published shop/api:v1\n"),
        ("failed", "blocked: 2 high", 1, "failed  blocked: 2 high\n"),
        ("failed", None, 1, "failed\n"),
    ],
)
def test_waits(airflow: FakeAirflow, run: Run, state: str, note: str, code: int, line: str) -> None:
    """With --wait, the exit code depends on the run's end; a token that expires meanwhile is renewed."""
    airflow.looks = [("queued", ""), (state, note)]
    airflow.say["GET /api/v2/dags/shop-api/dagRuns/x"] = [(503, {}), (401, {"detail": "expired"})]
    started = f"started  x  {airflow.url}/dags/shop-api/runs/x\n"
    assert run("shop-api", "--run-id", "x", "--wait") == (code, started + line, "")
    assert airflow.seen.count("POST /auth/token") == 2


def test_waits_no_longer_than_said(airflow: FakeAirflow, run: Run) -> None:
    """After --timeout, the run continues alone."""
    airflow.looks = [("running", "")]
    started = f"started  x  {airflow.url}/dags/shop-api/runs/x\n"
    late = "shop-api: run x did not finish in time, last state running; it continues\n"
    assert run("shop-api", "--run-id", "x", "--wait", "--timeout", "0.2") == (3, started, late)


def test_says_what_a_run_waits_for(airflow: FakeAirflow, run: Run) -> None:
    """If the plugin's pages can be reached."""
    airflow.looks = [("queued", "")]
    airflow.say["GET /delivery-chain/runs/shop-api/x/outcome"] = [
        (200, {"end": "waiting", "sentence": "waiting: its Dag is paused: unpause it", "state": "queued"})
    ]
    late = "last state queued (waiting: its Dag is paused: unpause it); it continues\n"
    code, _, err = run("shop-api", "--run-id", "x", "--wait", "--timeout", "0.2")
    assert (code, err) == (3, f"shop-api: run x did not finish in time, {late}")


AGAIN = "to retry without the risk of a second run, add --run-id x"


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (
            403,
            {"detail": "Forbidden"},
            "chain 'shop-api': this login may not start runs (status 403: Forbidden); it needs the right to create Dag",
        ),
        (
            404,
            {"detail": "not found"},
            "no chain 'shop-api'; chains visible to this login: base-images, shop-api",
        ),
        (
            400,
            {"detail": "Invalid input for param rule: 'x' is not one of [None, 'release']"},
            "chain 'shop-api': Airflow refused the run (status 400): Invalid input for param rule: 'x' is not one of",
        ),
        (
            422,
            {"detail": [{"loc": ["body", "conf"], "msg": "Input should be a valid dictionary"}]},
            "chain 'shop-api': Airflow refused the run (status 422): body.conf: Input should be a valid dictionary",
        ),
        (
            503,
            b"<html>\x1b[2Jsorry",
            f"chain 'shop-api': Airflow failed or is busy (status 503: <html>?[2Jsorry); {AGAIN}",
        ),
        (429, {}, f"chain 'shop-api': Airflow failed or is busy (status 429: {{}}); {AGAIN}"),
        (
            200,
            b"<html>Welcome</html>",
            "chain 'shop-api': the response is not from Airflow's REST API; expected the address of the UI's first",
        ),
        (
            200,
            b"[" * 100_000,
            "chain 'shop-api': the response is not from Airflow's REST API; expected the address of",
        ),
    ],
)
def test_refusals(airflow: FakeAirflow, run: Run, status: int, said: object, words: str) -> None:
    """Each refusal gives Airflow's reason and the next step; exit code 3."""
    airflow.say[RUNS] = [(status, said)]
    code, out, err = run("shop-api", "--run-id", "x")
    assert (code, out, err[: len(airflow.url) + 2 + len(words)]) == (3, "", f"{airflow.url}: {words}")


def test_no_such_address(airflow: FakeAirflow, run: Run) -> None:
    """If nothing of Airflow is there, the error blames the address and not the chain's name."""
    airflow.say[RUNS] = [(404, b"nothing here")]
    airflow.say["GET /api/v2/dags"] = [(404, b"nothing here")]
    words = "no Airflow REST API at /api/v2 (status 404); expected the address of the UI's first"
    code, out, err = run("shop-api", "--run-id", "x")
    assert (code, out, err.startswith(f"{airflow.url}: {words}")) == (3, "", True)


def test_a_password_that_is_not_taken(
    airflow: FakeAirflow, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The login is rejected: the error names the variables, and no run is requested."""
    monkeypatch.setenv("AIRFLOW_API_PASSWORD", "hush")
    words = "Airflow rejects AIRFLOW_API_USERNAME and AIRFLOW_API_PASSWORD (status 401); try them in the UI's"
    assert run("shop-api") == (3, "", f"{airflow.url}/auth/token: {words} login form\n")
    assert airflow.posted == []


def test_no_token_for_a_password(airflow: FakeAirflow, run: Run) -> None:
    """For an auth manager without passwords, a token can be given."""
    airflow.say["POST /auth/token"] = [(405, {"detail": "Method Not Allowed"})]
    code, out, err = run("shop-api")
    assert (code, out, "found status 405" in err, "set AIRFLOW_API_TOKEN" in err) == (3, "", True, True)


@pytest.mark.parametrize(("status", "detail"), [(401, "Token Expired"), (403, "Invalid JWT token")])
def test_a_token_that_is_not_taken(
    airflow: FakeAirflow, run: Run, monkeypatch: pytest.MonkeyPatch, status: int, detail: str
) -> None:
    """For a token that has expired or is from another server, the error says how to get another one."""
    airflow.say[RUNS] = [(status, {"detail": detail})]
    monkeypatch.setenv("AIRFLOW_API_TOKEN", "hush")
    code, out, err = run("shop-api")
    start = (
        f"{airflow.url}: Airflow rejects AIRFLOW_API_TOKEN (status {status}: {detail}); the token has expired"
    )
    assert (code, out, err.startswith(start), "POST /auth/token" in err) == (3, "", True, True)


def test_redirects_are_not_followed(airflow: FakeAirflow, run: Run) -> None:
    """The login is not sent to the redirect's target, and the message omits the query."""
    with webhook_target() as other:
        airflow.say[RUNS] = [(307, other.url.encode() + b"?secret=hush")]
        code, out, err = run("shop-api", "--run-id", "x")
        words = f"redirects to {other.url}, but the login is not sent there; give the final address"
        assert (code, out, err) == (3, "", f"{airflow.url}/api/v2/dags/shop-api/dagRuns: {words}\n")
        assert other.got == []
