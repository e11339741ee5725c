"""Extends Airflow's web server. Each application is created at its first request, so other processes load none."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Any]]
    Send = Callable[[Any], Awaitable[None]]

IN_ADDRESS = "delivery_chain.in_address"
"""Key of the ASGI scope under which the address's query parameter `token` is kept."""


async def pages(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve our pages, behind Airflow's login."""
    from delivery_chain.web.pages.app import app  # noqa: PLC0415 - needs Airflow's API server

    await app(scope, receive, send)


async def webhooks(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the webhook receiver, which authenticates by a sender's secret instead of a login."""
    if scope["type"] == "http":
        # Some senders can put their secret only into the address. Remove it before anything logs the address.
        query = scope.get("query_string", b"").decode("latin-1")
        scope["query_string"] = b""
        scope[IN_ADDRESS] = _token(query)
    await _receiver()(scope, receive, send)


@cache
def _receiver() -> Any:
    from delivery_chain.web.receiver import make_app  # noqa: PLC0415 - needs Airflow's API server

    return make_app()


def _token(query: str) -> str:
    try:
        return parse_qs(query, max_num_fields=20).get("token", [""])[0]
    except ValueError:
        return ""
