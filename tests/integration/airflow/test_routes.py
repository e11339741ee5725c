# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""Every route of the plugin, inside Airflow's real web application: none is open without a login or a proof."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from delivery_chain.plugin import DeliveryChainPlugin
from delivery_chain.web import webhooks
from support.airflow_database import SQLITE, airflow_database
from support.webhook_airflow import PREFIX, SECRET, connect, signed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastapi import FastAPI

pytestmark = [
    pytest.mark.integration,
    # From a library that Airflow's web application imports.
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`"),
]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OPEN = f"{PREFIX}/{{connection}}"
"""The only route without a login."""
REFUSED = {401, 403, 404, 405}


def applications() -> dict[str, FastAPI]:
    """The plugin's applications, created, by prefix."""
    from delivery_chain.web import receiver
    from delivery_chain.web.pages import app as pages_module

    made = {"pages": pages_module.app, "webhooks": receiver.make_app()}
    return {one["url_prefix"]: made[one["app"].__name__] for one in DeliveryChainPlugin.fastapi_apps}


def routes(apps: dict[str, FastAPI]) -> list[tuple[str, str]]:
    """Method and path of all of their routes, including mounted ones."""
    return sorted(pair for prefix, app in apps.items() for pair in _walk(prefix, app.routes))


def _walk(prefix: str, found: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for route in found:
        path = f"{prefix}{getattr(route, 'path', '')}"
        if inner := getattr(route, "routes", None):
            yield from _walk(path, inner)
        elif getattr(route, "methods", None):
            yield from ((method, path) for method in route.methods)
        else:
            # A websocket, or a mounted application that does not list its routes: not covered by this test.
            yield "?", path


def filled(path: str) -> str:
    """The path with a value for each parameter."""
    return re.sub(r"\{[^}]*\}", "some", path)


async def _ask(app: Any, method: str, path: str, *, root_path: str = "", **how: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
        return await client.request(method, path, **how)


def answer(app: Any, method: str, path: str, **how: Any) -> httpx.Response:
    """The response to an anonymous request."""
    return asyncio.run(_ask(app, method, path, **how))


def unprotected(app: Any, found: list[tuple[str, str]]) -> list[str]:
    """The routes that do not refuse an anonymous request."""
    said = []
    for method, path in found:
        for tried in {method, *METHODS} - {"?"}:
            status = answer(app, tried, filled(path)).status_code
            allowed = {401, 403} if tried == method else REFUSED
            if status not in allowed:
                said.append(f"{tried} {path}: {status}")
        if method == "?":
            said.append(f"? {path}: not a route that this test understands")
    return said


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """Airflow's own web application with the plugin, as in the API server."""
    from airflow import plugins_manager
    from airflow.api_fastapi.app import create_app, purge_cached_app

    with pytest.MonkeyPatch.context() as patch, airflow_database(SQLITE, tmp_path_factory.mktemp("db")):
        # Airflow keeps its first token validator for the whole process; other tests sign with this key.
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "x" * 64)
        patch.setattr(
            plugins_manager,
            "get_fastapi_plugins",
            lambda: (list(DeliveryChainPlugin.fastapi_apps), []),
        )
        purge_cached_app()
        yield create_app("core")
        purge_cached_app()


def test_the_routes_there_are() -> None:
    """A new route must be added here, and so gets reviewed."""
    assert routes(applications()) == [
        ("GET", "/delivery-chain/"),
        ("GET", "/delivery-chain/chains/{dag_id}/takes"),
        ("GET", "/delivery-chain/events"),
        ("GET", "/delivery-chain/events.js"),
        ("GET", "/delivery-chain/runs/{dag_id}/{run_id:path}/outcome"),
        ("GET", "/delivery-chain/style.css"),
        ("GET", "/delivery-chain/{dag_id}/{run_id:path}"),
        ("POST", OPEN),
    ]


def test_strangers_are_refused(airflow: FastAPI) -> None:
    """Each route, with each method, without a login and without a proof."""
    assert unprotected(airflow, routes(applications())) == []


BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
PAGES = (
    "/delivery-chain/",
    "/delivery-chain/events",
    "/delivery-chain/events?since=12h&ref=v1.*&source=a%26b",
    "/delivery-chain/shop/manual__1",
    "/delivery-chain/shop/a%2Fb%3Fc",
    "/delivery-chain/%5C%5Cevil.example.com/x",
    "/delivery-chain/x/%2F%2Fevil.example.com",
    "/delivery-chain/events?next=https://evil.example.com/",
)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", PAGES)
def test_browsers_are_sent_to_the_login_and_back(airflow: FastAPI, path: str, method: str) -> None:
    """By Airflow's own route, which takes `next`: that very page, of this server."""
    if method == "HEAD":
        assert answer(airflow, method, path, headers=BROWSER).status_code in REFUSED
        return
    found = answer(airflow, method, path, headers=BROWSER)
    assert (found.status_code, found.headers["cache-control"]) == (307, "no-store")
    login = httpx.URL(f"http://airflow{path}").join(found.headers["location"])
    assert (login.host, login.path, dict(login.params)) == ("airflow", "/api/v2/auth/login", {"next": path})
    accepted = answer(airflow, "GET", login.raw_path.decode())
    assert accepted.status_code == 307
    assert httpx.URL(accepted.headers["location"]).params["next"] == path


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"accept": "*/*"},
        {"accept": "application/json"},
        {"accept": "text/css,*/*;q=0.1"},
        BROWSER | {"authorization": "Bearer wrong"},
    ],
    ids=["nothing", "anything", "JSON", "a stylesheet", "a token"],
)
@pytest.mark.parametrize("path", PAGES)
def test_clients_of_the_api_are_refused(airflow: FastAPI, path: str, headers: dict[str, str]) -> None:
    """What is no browser that loads a page has Airflow's own answer."""
    found = answer(airflow, "GET", path, headers=headers)
    assert (found.status_code, list(found.json())) == (403 if "authorization" in headers else 401, ["detail"])


def test_a_session_that_is_no_longer_valid_ends_at_the_login(airflow: FastAPI) -> None:
    """Such as one of another signing key: Airflow's UI does so, too."""
    cookie = {"cookie": "_token=of.another.key"}
    found = answer(airflow, "GET", "/delivery-chain/events", headers=BROWSER | cookie)
    assert (found.status_code, found.headers["location"]) == (
        307,
        "../api/v2/auth/login?next=%2Fdelivery-chain%2Fevents",
    )


def test_the_login_of_an_airflow_below_a_path(airflow: FastAPI) -> None:
    """The way there is relative, and the way back has the whole path."""
    (pages,) = (app for prefix, app in applications().items() if prefix != PREFIX)
    path = "/air/delivery-chain/shop/run"
    found = answer(pages_at("/delivery-chain", pages), "GET", path, headers=BROWSER, root_path="/air")
    login = httpx.URL(f"http://airflow{path}").join(found.headers["location"])
    assert (login.path, dict(login.params)) == ("/air/api/v2/auth/login", {"next": path})


def test_an_unprotected_route_is_found(airflow: FastAPI) -> None:
    """The walk fails as soon as a page is added without a login."""
    apps = applications()
    (pages,) = (app for prefix, app in apps.items() if prefix != PREFIX)
    before = list(pages.router.routes)

    @pages.get("/open-to-all")
    def page() -> str:
        return "hello"

    try:
        # Before the route that matches every path.
        pages.router.routes.insert(0, pages.router.routes.pop())
        pages.mount("/more", _other())
        found = routes(apps)
        assert ("GET", "/delivery-chain/open-to-all") in found
        said = unprotected(pages_at("/delivery-chain", pages), found)
    finally:
        pages.router.routes[:] = before
    assert "GET /delivery-chain/open-to-all: 200" in said
    assert "? /delivery-chain/more: not a route that this test understands" in said


def pages_at(prefix: str, app: FastAPI) -> Any:
    """An application with the pages under their prefix."""
    from starlette.applications import Starlette

    outer = Starlette()
    outer.mount(prefix, app)
    return outer


def _other() -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    return app


def test_who_proves_is_let_in(
    airflow: FastAPI, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The webhook's route is mounted before the pages, and accepts a proof; without one, it returns 401."""
    connect(monkeypatch)
    conn_id, body, headers = signed({"type": "ping"})
    path = f"{PREFIX}/{conn_id}"
    assert answer(airflow, "POST", path, content=body, headers=headers).json()["event"] == "ping"
    assert answer(airflow, "POST", path, content=body).status_code == 401
    assert webhooks in [getattr(route, "app", None) for route in airflow.routes]


def test_airflow_logs_no_token_of_an_address(
    airflow: FastAPI, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    """The access log has the request, but not its query."""
    connect(monkeypatch, "quay", extra={"sender": "quay"})
    found = answer(airflow, "POST", f"{PREFIX}/quay?token={SECRET}&more=things", content=b"{}")
    assert found.status_code == 400
    text = capsys.readouterr()
    logged = [
        *(one.getMessage() for one in caplog.records if one.name != "httpx"),
        *text.out.splitlines(),
        *text.err.splitlines(),
    ]
    assert [line for line in logged if SECRET in line or "more=things" in line] == []
    assert [line for line in logged if "request finished" in line and f"{PREFIX}/quay" in line]
