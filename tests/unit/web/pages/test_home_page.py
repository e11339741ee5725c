"""The first page: every chain and its newest run, with all foreign text escaped."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser

from delivery_chain.airflow_db.newest_runs import Chain, Newest
from delivery_chain.web.pages.rendering import not_found, render

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOSTILE = """<script>alert(1)</script>"'&"""


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str | None] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value for name, value in attrs if tag == "a" and name == "href"]

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data)


def home(*chains: Chain) -> str:
    return render("home.html", chains=chains, up="")


def test_a_chain_with_its_newest_run() -> None:
    """Links to the Dag and to the run's page, the state and what the chain said of it."""
    run = Newest(run_id="tag__v1", state="failed", at=AT, note="blocked: 3 high")
    page = Page(
        home(Chain(name="shop-api", description="The API", newest=run), Chain(name="new", paused=True))
    )
    assert page.links == ["events", "../dags/shop-api", "shop-api/tag__v1", "../dags/new"]
    assert page.texts[-8:] == [
        "The API",
        "tag__v1",
        "2026-11-23 12:00:00",
        "failed",
        "blocked: 3 high",
        "new",
        "paused: its runs wait",
        "none yet",
    ]


def test_no_chain() -> None:
    """What a chain is, and where to look for one that is missing."""
    assert "specs_folder" in home()


def test_what_others_wrote_is_text() -> None:
    """No text becomes an element, and no address leaves Airflow."""
    run = Newest(run_id=HOSTILE, state=HOSTILE, at=AT, note=HOSTILE)
    page = Page(home(Chain(name=HOSTILE, description=HOSTILE, newest=run)) + not_found(HOSTILE, up="../"))
    assert "script" not in page.tags
    assert all(str(link).startswith(("../", "events", "%3C")) for link in page.links)
