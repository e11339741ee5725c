"""`delivery-chain trigger` with servers that are broken, hostile or not trusted."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from support.oci_tls import make_certificates
from support.webhook_target import answer, drip, hang, webhook_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.airflow_fake import FakeAirflow

    Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.integration


def test_nobody_there(airflow: FakeAirflow, run: Run) -> None:
    """For a refused connection, the error gives the reason. Nothing was sent, so the command may be repeated."""
    code, out, err = run("shop-api", "--run-id", "x", "--url", "http://127.0.0.1:9")
    start = "http://127.0.0.1:9/auth/token: no answer from Airflow: Connection refused\n"
    assert (code, out, err) == (3, "", start)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (hang, "no answer within 0.5 s"),
        (
            drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
            "the answer was not complete after 0.5 s",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab", "no answer from Airflow: "),
        (b"not HTTP\r\n\r\n", "no answer from Airflow: "),
        (b"", "no answer from Airflow: "),
        (
            answer(201, b'{"access_token": "a\\nb"}'),
            "expected a token for AIRFLOW_API_USERNAME and AIRFLOW_API_PASSWORD",
        ),
    ],
    ids=["silence", "drip", "cut", "noise", "nothing", "no token"],
)
def test_bad_servers(airflow: FakeAirflow, run: Run, short: None, reply: object, words: str) -> None:
    """Silence, drips and noise end soon, with one message."""
    with webhook_target() as target:
        target.replies = [reply]  # type: ignore[list-item]
        address = target.url.removesuffix("/hook")
        code, out, err = run("shop-api", "--run-id", "x", "--url", address)
    assert (code, out, err.startswith(f"{address}/auth/token: {words}")) == (3, "", True), err


def test_a_flood(airflow: FakeAirflow, run: Run) -> None:
    """A response without end is read up to a limit."""
    with webhook_target() as target:
        target.replies = [drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 9_000_000)]
        address = target.url.removesuffix("/hook")
        code, out, err = run("shop-api", "--run-id", "x", "--url", address)
    words = f"{address}/auth/token: expected an answer of at most 8388608 bytes"
    assert (code, out, err.startswith(words)) == (3, "", True), err


@pytest.fixture(name="tls")
def _tls(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An https server that answers everything with 401, and the file of its CA."""
    ca, certificate, key = make_certificates(tmp_path)
    (tmp_path / "ca.pem").write_text(ca)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(401)

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}", tmp_path / "ca.pem"
        server.shutdown()
        thread.join()


def test_an_unknown_ca(airflow: FakeAirflow, run: Run, tls: tuple[str, Path]) -> None:
    """For an untrusted certificate, the error gives the reason, and where to name a private CA."""
    code, out, err = run("shop-api", "--url", tls[0])
    words = f"{tls[0]}/auth/token: no trusted TLS connection: unable to get local issuer certificate; "
    assert (code, out, err.startswith(words), "REQUESTS_CA_BUNDLE" in err) == (3, "", True, True), err


def test_a_ca_of_ones_own(
    airflow: FakeAirflow, run: Run, tls: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its CA named, the server's response is read."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls[1]))
    code, out, err = run("shop-api", "--url", tls[0])
    assert (code, out, "(status 401)" in err) == (3, "", True), err
