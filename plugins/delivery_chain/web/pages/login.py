"""Sends browsers without a login to Airflow's login page and then back to their page, as Airflow's own UI does."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import RedirectResponse

from delivery_chain.web.pages.rendering import HEADERS, below, up

if TYPE_CHECKING:
    from fastapi import HTTPException, Request, Response

LOGIN = "api/v2/auth/login"
"""Airflow's route that redirects to the login page of its auth manager. It verifies `next` again."""
INVALID = "Invalid JWT token"
"""Detail of Airflow's 403 for a session of another signing key."""


async def to_login(request: Request, error: HTTPException) -> Response:
    """Answer a request without a valid login: a redirect for a browser, Airflow's own refusal for other clients."""
    ended = error.status_code == HTTPStatus.UNAUTHORIZED or error.detail == INVALID
    if not (ended and _is_browser(request)):
        return await http_exception_handler(request, error)
    # Relative, because Airflow may be served below a path.
    address = f"../{up(request)}{LOGIN}?{urlencode({'next': _page(request)})}"
    return RedirectResponse(address, headers=HEADERS)


def _is_browser(request: Request) -> bool:
    """Whether the request loads a page. Clients of the API ask for other types, or bring a token."""
    accepts = request.headers.get("accept", "").lower()
    token = "authorization" in request.headers
    return request.method in ("GET", "HEAD") and "text/html" in accepts and not token


def _page(request: Request) -> str:
    """The page's path and query as sent. It begins with our own prefix, so that it can't lead to another site."""
    query: bytes = request.scope["query_string"]
    return f"{request.scope['root_path']}/{below(request)}" + (f"?{query.decode('latin-1')}" if query else "")
