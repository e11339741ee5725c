"""Renders the pages: Jinja2 templates with autoescape, one layout, one stylesheet."""

from __future__ import annotations

from datetime import UTC, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from delivery_chain.core.events.gaps import span
from delivery_chain.core.events.ledger import SENSOR
from delivery_chain.core.web_paths import PAGES

if TYPE_CHECKING:
    from fastapi import Request

    from delivery_chain.core.gate.findings import ScanReport

PREFIX = f"{PAGES}/".encode()
FOLDER = Path(__file__).parent
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'self'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def up(request: Request) -> str:
    """The relative path from a page to `/delivery-chain/`, because Airflow may be served below a path.

    It is computed from the raw address, in which a run id is one segment, whatever characters it contains.
    """
    return "../" * below(request).count("/")


def below(request: Request) -> str:
    """The path of a page below `/delivery-chain/`, percent-encoded as sent."""
    sent: bytes = request.scope["raw_path"]
    _, prefix, rest = sent.partition(PREFIX)
    return (rest if prefix else sent.removeprefix(b"/")).decode("latin-1")


def page(html: str, status: int = 200) -> HTMLResponse:
    """A response that no cache may store and no other site may frame."""
    return HTMLResponse(html, status, headers=HEADERS)


def render(template: str, **values: Any) -> str:
    """Render a page as HTML; every text in `values` is escaped."""
    html: str = _environment().get_template(template).render(**values)
    return html


def not_found(what: str, *, up: str = "") -> str:
    """Render the 404 page, with links to the other pages.

    Args:
        what: A sentence that names the missing thing.
        up: See `up`.
    """
    return render("not_found.html", what=what, up=up)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "segment": lambda text: quote(text, safe=""),
        "utc": lambda at, form: at.astimezone(UTC).strftime(form),
        "span": lambda seconds: span(timedelta(seconds=seconds)),
        "sender": _sender,
        "counts": _counts,
    }
    return made


def _sender(by: str) -> str:
    return by if by == SENSOR else by.replace("webhook ", "webhook\N{NO-BREAK SPACE}", 1)


def _counts(report: ScanReport) -> str:
    return ", ".join(f"{count} {severity}" for severity, count in report.counts().items() if count)
