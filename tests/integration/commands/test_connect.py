"""`delivery-chain connect` with a server on this machine: what it creates, what it refuses, and what it never shows."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.commands.connection_fields import SECRET, SECRET_QUERY
from delivery_chain.commands.main import main
from support.airflow_fake import PASSWORD, FakeAirflow, airflow_at_hand
from support.oci_registry import PASSWORD as ROBOTS
from support.oci_registry import USER as ROBOT
from support.oci_registry import docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration
README = Path(__file__).parents[3] / "README.md"
GIVEN = "a-secret-that-is-given"
SIGNING = "whsec_" + "A" * 43 + "="
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n"
HOSTS = "git.example.com ssh-ed25519 AAAA\n"


@pytest.fixture(name="airflow")
def _airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAirflow]:
    """A fake Airflow, and a login for it in the environment."""
    with airflow_at_hand(monkeypatch) as fake:
        for name in (SECRET, SECRET_QUERY):
            monkeypatch.delenv(name, raising=False)
        yield fake


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["connect", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert not any(secret in out + err for secret in (PASSWORD, GIVEN, ROBOTS, KEY))
    return code, out, err


def body(conn_type: str, host: str, **given: Any) -> dict[str, Any]:
    """The body sent to Airflow."""
    usual: dict[str, Any] = {"port": None, "login": None, "password": None, "extra": {}}
    return {"connection_id": "here", "conn_type": conn_type, "host": host} | usual | given


def posted(airflow: FakeAirflow) -> list[dict[str, Any]]:
    return [one | {"extra": json.loads(one["extra"])} for one in airflow.posted]


def test_a_registry(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Host and port separately, the password from the environment, the CA's text from a file."""
    monkeypatch.setenv(SECRET, GIVEN)
    ca = tmp_path / "ca.pem"
    ca.write_text(CA)
    options = ("--username", "robot", "--region", "cn-hangzhou", "--ca-certificate", ca)
    code, out, err = run(capsys, "registry", "here", "registry.example.com:5443", *options)
    extra = {"region": "cn-hangzhou", "ca_certificate": CA}
    registry = body(
        "oci_registry", "registry.example.com", port=5443, login="robot", password=GIVEN, extra=extra
    )
    assert (code, err, posted(airflow)) == (0, "", [registry])
    assert out == "created connection here (oci_registry): https://registry.example.com:5443 as robot\n"


def test_an_anonymous_registry(airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]) -> None:
    """No login, plain http, and the default port, without which Airflow can't test a connection."""
    code, out, _ = run(capsys, "registry", "here", "registry.local", "--plain-http")
    plain = body("oci_registry", "registry.local", port=80, extra={"plain_http": True})
    assert (code, posted(airflow)) == (0, [plain])
    assert out == "created connection here (oci_registry): http://registry.local without a login\n"


def test_a_git_source_over_https(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is read from standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{GIVEN}\n"))
    options = ("--username", "bot", "--secret-stdin")
    code, out, _ = run(capsys, "git", "here", "https://git.example.com/shop", *options)
    source = body("git", "https://git.example.com/shop", login="bot", password=GIVEN)
    assert (code, posted(airflow)) == (0, [source])
    assert out == "created connection here (git): https://git.example.com/shop as bot\n"


def test_a_git_source_over_ssh(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The key and the server's host key are sent as text, so that a worker need not have the files."""
    key, hosts = tmp_path / "key", tmp_path / "hosts"
    key.write_text(KEY)
    hosts.write_text(HOSTS)
    options = ("--key-file", key, "--known-hosts", hosts)
    code, out, _ = run(capsys, "git", "here", "git@git.example.com:shop/api.git", *options)
    extra = {"private_key": KEY, "known_hosts": HOSTS}
    assert (code, posted(airflow)) == (0, [body("git", "git@git.example.com:shop/api.git", extra=extra)])
    assert out == "created connection here (git): git@git.example.com:shop/api.git with a key\n"


def test_a_transport_that_is_off_by_default(airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]) -> None:
    """It is accepted, and the required setting is named."""
    code, out, _ = run(capsys, "git", "here", "file:///srv/git")
    said = (
        "created connection here (git): file:///srv/git without a login; [delivery_chain] git_transports must"
    )
    assert (code, out) == (0, f"{said} include file\n")


def test_a_trigger_with_a_new_secret(airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]) -> None:
    """The signing secret is generated and printed once, for the target to verify signatures with."""
    code, out, _ = run(capsys, "trigger", "here", "https://deploy.example.com/hooks/shop?env=prod")
    (sent,) = posted(airflow)
    secret = sent.pop("password")
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", secret)
    target = body("delivery_webhook", "https://deploy.example.com/hooks/shop?env=prod", port=443)
    del target["password"]
    assert (code, sent) == (0, target)
    assert out == (
        "created connection here (delivery_webhook): https://deploy.example.com/hooks/shop?env=***, signed\n"
        f"secret  {secret}  (configure it at the target, which verifies signatures with it)\n"
    )


@pytest.mark.parametrize(
    ("options", "secret", "password", "said"),
    [((), SIGNING, SIGNING, "signed"), (("--unsigned",), "", None, "not signed")],
)
def test_a_trigger_with_another_secret(
    airflow: FakeAirflow,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    secret: str,
    password: str | None,
    said: str,
) -> None:
    """The user's own secret, or none; the secret part of the query is in the environment; neither is shown."""
    monkeypatch.setenv(SECRET, secret)
    monkeypatch.setenv(SECRET_QUERY, "token=hidden")
    code, out, _ = run(capsys, "trigger", "here", "https://deploy.example.com/", *options, "--timeout", "20")
    extra = {"secret_query": "token=hidden", "timeout_seconds": 20}
    target = body("delivery_webhook", "https://deploy.example.com/", port=443, password=password, extra=extra)
    assert (code, posted(airflow)) == (0, [target])
    assert out == f"created connection here (delivery_webhook): https://deploy.example.com/, {said}\n"


@pytest.mark.parametrize(("said", "found"), [("", "none"), ("x" * 65537, "more")])
def test_a_secret_of_no_use(
    airflow: FakeAirflow,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    found: str,
) -> None:
    """What is wrong with standard input is said: usually the pipe is empty."""
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    options = ("--username", "bot", "--secret-stdin")
    code, _, err = run(capsys, "registry", "here", "r.example.com", *options)
    assert (code, posted(airflow), err) == (
        2,
        [],
        f"--secret-stdin: expected a secret of 1 to 65536 characters on standard input, found {found}\n",
    )


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "a URL for a host": (
        ("registry", "here", "https://registry.example.com"),
        "field host: expected host or host:port without https:// and path, found",
    ),
    "a host for a URL": (("trigger", "here", "deploy.example.com"), "field host: expected a URL"),
    "no URL": (("git", "here", "shop"), "git source 'shop'"),
    "a password in a URL": (("git", "here", "https://bob:pass@git.example.com/shop"), "password"),
    "ssh to anybody": (("git", "here", "git@git.example.com:shop.git"), "ssh-keyscan"),
    "an id": (("git", "a/b", "https://git.example.com"), "'a/b': expected a connection's id"),
    "no secret": (
        ("registry", "here", "registry.example.com", "--username", "robot"),
        f"--username 'robot' needs a password: pipe it in with --secret-stdin, or set {SECRET}",
    ),
    "no file": (
        ("git", "here", "git@g.example.com:a", "--key-file", "/nosuch"),
        "--key-file /nosuch: can't be",
    ),
    "a page": (
        ("registry", "here", "r.example.com", "--ui-url", "https://x/{nme}"),
        "field ui_url: expected only",
    ),
    "a long timeout": (("trigger", "here", "https://x.example.com", "--timeout", "999"), "from 1 to 300"),
    "http": (("git", "here", "https://g.example.com", "--url", "http://airflow.example.com"), "--allow-http"),
}


@pytest.mark.parametrize(("words", "said"), REFUSED.values(), ids=REFUSED)
def test_nothing_is_sent_for_a_mistake(
    airflow: FakeAirflow,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    said: str,
) -> None:
    """Values that a task would reject are rejected before any request, with advice for a new connection."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    code, out, err = run(capsys, *words)
    assert (code, out, said in err, airflow.seen) == (2, "", True, []), err
    assert "Admin > Connections" not in err


def test_a_secret_without_a_login(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password without a user name, which would never be sent, makes no connection."""
    monkeypatch.setenv(SECRET, GIVEN)
    code, _, err = run(capsys, "registry", "here", "registry.example.com")
    assert (code, "--username is missing" in err, airflow.seen) == (2, True, [])


def test_one_that_is_there_is_left_alone(airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]) -> None:
    """The second call says how to change it; --update does."""
    words = ("registry", "here", "registry.example.com")
    assert run(capsys, *words)[0] == 0
    code, out, err = run(capsys, *words, "--region", "eu")
    said = "connection 'here' already exists and was not changed; use --update to change it\n"
    assert (code, out, err) == (3, "", said)
    code, out, _ = run(capsys, *words, "--region", "eu", "--update")
    said = "changed connection here (oci_registry): https://registry.example.com without a login\n"
    extra = json.loads(airflow.connections["here"]["extra"])
    assert (code, out, extra) == (0, said, {"region": "eu"})


def test_an_update_keeps_the_secrets_that_are_not_given(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command neither asks for the password or the secret part of a query again, nor sends them."""
    monkeypatch.setenv(SECRET, SIGNING)
    monkeypatch.setenv(SECRET_QUERY, "token=hidden")
    run(capsys, "trigger", "here", "https://old.example.com/")
    monkeypatch.delenv(SECRET)
    monkeypatch.delenv(SECRET_QUERY)
    code, out, _ = run(capsys, "trigger", "here", "https://new.example.com/", "--update")
    sent = airflow.posted[-1]
    assert (code, "password" in sent, json.loads(sent["extra"])) == (0, False, {"secret_query": "***"})
    assert out == "changed connection here (delivery_webhook): https://new.example.com/, signed\n"


@pytest.mark.parametrize(
    ("there", "options", "code", "said"),
    [
        (None, (), 3, "connection 'here' does not exist: leave out --update to create it"),
        ("git", (), 3, "connection 'here': expected type oci_registry, found 'git'; it was left unchanged"),
        ("oci_registry", ("--username", "bob"), 2, "connection 'here' has no password yet: pipe it in with"),
        ("oci_registry", ("--username", "bob", "--test"), 2, "needs a password: pipe it in"),
    ],
)
def test_an_update_that_cannot_be(
    airflow: FakeAirflow,
    capsys: pytest.CaptureFixture[str],
    there: str | None,
    options: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    """Nothing is changed, and the error gives the reason."""
    if there:
        airflow.connections["here"] = {"connection_id": "here", "conn_type": there}
    found, out, err = run(capsys, "registry", "here", "registry.example.com", "--update", *options)
    assert (found, out, said in err, airflow.posted) == (code, "", True, [])


@pytest.mark.parametrize(
    ("status", "said"), [(403, "a user of role op or admin may"), (500, "found status 500")]
)
def test_refusals_say_what_to_do(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str], status: int, said: str
) -> None:
    """Airflow's refusal is shown with the next step, but not the unused new secret."""
    airflow.say["POST /api/v2/connections"] = [(status, {"detail": "no"})]
    code, out, err = run(capsys, "trigger", "here", "https://deploy.example.com")
    assert (code, out, said in err) == (3, "", True)


def test_a_registry_is_tried_first(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With --test, a wrong password creates no connection, and a valid one prints what was found."""
    with docker_registry(tmp_path, htpasswd=True) as registry:
        words = ("registry", "here", registry.host, "--plain-http", "--username", ROBOT, "--test")
        monkeypatch.setenv(SECRET, GIVEN)
        code, out, err = run(capsys, *words)
        assert (code, out, "HTTP 401" in err or "401" in err, airflow.posted) == (1, "", True, [])
        assert err.endswith("nothing was created\n")
        monkeypatch.setenv(SECRET, ROBOTS)
        code, out, err = run(capsys, *words)
    tested = f"tested  {registry.host} is an OCI registry and grants access as '{ROBOT}'"
    assert (code, err, out.splitlines()[1:]) == (0, "", [tested])


def test_a_git_source_is_tried_first(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A folder of repositories is tested with one of them."""
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "api.git")], check=True)
    words = ("git", "here", tmp_path.as_uri(), "--test", "--repository")
    code, _, err = run(capsys, *words, "nosuch.git")
    assert (code, "nosuch.git" in err, airflow.posted) == (1, True, [])
    code, out, _ = run(capsys, *words, "api.git")
    assert (code, out.splitlines()[1:]) == (
        0,
        [f"tested  {tmp_path.as_uri()}/api.git has 0 branches and 0 tags"],
    )


def test_a_target_is_tried_first(airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]) -> None:
    """The test connects but sends no request, which could start a redeploy."""
    code, out, _ = run(capsys, "trigger", "here", airflow.url, "--test")
    said = f"tested  {airflow.url} takes connections; no request was sent, it could start a redeploy; deliveries will"
    assert (code, out.splitlines()[1]) == (0, f"{said} be signed")
    code, _, err = run(capsys, "trigger", "gone", "http://127.0.0.1:9", "--test")
    assert (code, "no connection" in err, len(airflow.posted)) == (1, True, 1)


def test_the_readme_makes_what_the_examples_name(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's three commands, without testing hosts that are only examples."""
    monkeypatch.setenv(SECRET, SIGNING)
    commands = re.findall(r"^\$ delivery-chain (connect .*)$", README.read_text(), re.MULTILINE)
    for command in commands:
        words = [word for word in shlex.split(command) if word != "--test"]
        assert main(words) == 0, capsys.readouterr().err
    made = {name: one["conn_type"] for name, one in airflow.connections.items()}
    assert made == {"cn-hangzhou": "oci_registry", "git_shop": "git", "prod_redeploy": "delivery_webhook"}
