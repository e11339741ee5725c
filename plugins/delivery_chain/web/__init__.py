"""Pages on Airflow's web server. The application is made at the first request: other processes load it never."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping


async def application(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    """The ASGI application of our pages, for the plugin's `fastapi_apps`."""
    from delivery_chain.web.app import app  # noqa: PLC0415 - needs Airflow's API server

    await app(scope, receive, send)
