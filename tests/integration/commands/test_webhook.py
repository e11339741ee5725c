"""`delivery-chain webhook` with a server on this machine: the connection that it creates, and its output."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from delivery_chain.commands.main import main
from delivery_chain.commands.webhook import SECRET
from delivery_chain.senders.setup import IN_ADDRESS, SETUP
from support.airflow_fake import PASSWORD, FakeAirflow, airflow_at_hand

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration
CONNECTIONS = "POST /api/v2/connections"
PLACES = {"git_shop": "git", "other": "oci-registry", "tell": "delivery_webhook"}


@pytest.fixture(name="airflow")
def _airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAirflow]:
    """A fake Airflow, and a login for it in the environment."""
    with airflow_at_hand(monkeypatch) as fake:
        for name, conn_type in PLACES.items():
            fake.connections[name] = {"connection_id": name, "conn_type": conn_type}
        monkeypatch.delenv(SECRET, raising=False)
        yield fake


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["webhook", *arguments])
    out, err = capsys.readouterr()
    assert PASSWORD not in out + err
    return code, out, err


@pytest.mark.parametrize("sender", sorted(set(SETUP) - {"pagure"}))
def test_it_makes_the_connection(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str], sender: str
) -> None:
    """With a new secret, printed once: next to the address, or in it for senders that can't set a header."""
    code, out, err = run(capsys, "hooks", "--sender", sender, "--speaks-for", "git_shop, other")
    (body,) = airflow.posted
    secret = body.pop("password")
    extra = json.loads(body.pop("extra"))
    assert (code, err, body) == (0, "", {"connection_id": "hooks", "conn_type": "webhook_sender"})
    age = datetime.now(UTC) - datetime.fromisoformat(extra.pop("since"))
    assert (extra, age < timedelta(minutes=5)) == ({"sender": sender, "speaks_for": "git_shop, other"}, True)
    address = f"{airflow.url}/delivery-chain/webhooks/hooks"
    shown = [f"address  {address}", f"secret   {secret}"]
    if sender in IN_ADDRESS:
        shown = [f"address  {address}?token={secret}"]
    assert out.splitlines() == [*shown, f"set it   {SETUP[sender]}"]
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=" if sender == "standard" else r"[A-Za-z0-9_-]{43}", secret)


def test_a_secret_that_the_sender_made(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read from the environment and not printed; a sender that generates its own can't be given another."""
    words = ("forge", "--sender", "pagure", "--speaks-for", "git_shop")
    assert run(capsys, *words) == (
        2,
        "",
        f"pagure generates the secret itself: put it into {SECRET}\n",
    )
    monkeypatch.setenv(SECRET, "0123456789abcdef")
    code, out, _ = run(capsys, *words)
    assert (code, airflow.posted[0]["password"], "0123456789abcdef" in out) == (0, "0123456789abcdef", False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("-x", "--sender", "github", "--speaks-for", "g"),
            "the following arguments are required: CONNECTION",
        ),
        (
            ("a/b", "--sender", "github", "--speaks-for", "g"),
            "'a/b': expected a connection's id such as github_hooks",
        ),
        (
            ("hooks", "--sender", "github", "--speaks-for", " , "),
            "--speaks-for ' , ': expected connections' ids",
        ),
        (
            ("hooks", "--sender", "github", "--speaks-for", "g", "--url", "http://airflow.example.com"),
            "https",
        ),
    ],
    ids=["option", "slash", "nobody", "http"],
)
def test_nothing_is_sent_for_a_typo(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    """Wrong usage is reported before any request."""
    try:
        code = main(["webhook", *words])
    except SystemExit as ended:
        code = ended.code
    assert (code, said in capsys.readouterr().err, airflow.seen) == (2, True, [])


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (409, "connection 'hooks' already exists: choose another id"),
        (403, "a user of role op or admin may"),
        (500, "found status 500"),
    ],
)
def test_refusals_say_what_to_do(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str], status: int, said: str
) -> None:
    """Airflow's refusal is shown with the next step, but not the unused secret."""
    airflow.say[CONNECTIONS] = [(status, {"detail": "no"})]
    code, out, err = run(capsys, "hooks", "--sender", "github", "--speaks-for", "git_shop")
    assert (code, out, said in err) == (3, "", True)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (
            "git_shp",
            "no connection with this id; did you mean 'git_shop'? Existing ones: git_shop, other. To add it: ",
        ),
        (
            "nosuch",
            (
                "no connection with this id. Existing ones: git_shop, other. To add it: delivery-chain connect git "
                "nosuch URL or delivery-chain connect registry nosuch HOST. Connections in "
            ),
        ),
        ("tell", "type delivery_webhook. Existing ones: git_shop, other. Connections in "),
    ],
)
def test_who_is_spoken_for_has_to_be_there(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str], name: str, found: str
) -> None:
    """An unknown id is reported, with the known ones, before a secret is generated, and nothing is sent."""
    code, out, err = run(capsys, "hooks", "--sender", "github", "--speaks-for", f"git_shop,{name}")
    said = f"--speaks-for '{name}': expected a connection of type git or oci_registry, found {found}"
    assert (code, out, err.startswith(said), airflow.posted) == (2, "", True, [])


def test_who_is_not_listed_may_be_spoken_for(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]
) -> None:
    """Connections in environment variables and secrets backends are accepted without a check."""
    code, _, _ = run(capsys, "hooks", "--sender", "github", "--speaks-for", "vault_git", "--unlisted")
    assert (code, len(airflow.posted), "GET /api/v2/connections" in airflow.seen) == (0, 1, False)


def test_many_connections_are_listed_page_by_page(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]
) -> None:
    """Connections beyond Airflow's first page are known, too."""
    first = [{"connection_id": f"a{number:03}", "conn_type": "git"} for number in range(100)]
    rest = [{"connection_id": "zoo", "conn_type": "git"}]
    airflow.say["GET /api/v2/connections"] = [(200, {"connections": page}) for page in (first, rest)]
    code, _, _ = run(capsys, "hooks", "--sender", "github", "--speaks-for", "zoo")
    assert (code, len(airflow.posted)) == (0, 1)
