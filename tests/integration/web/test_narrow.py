"""Pages on a telephone: everything is within the screen's width."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.events.event import push_run_id
from delivery_chain.core.events.ledger import LedgerLine, StartResult
from delivery_chain.core.run.end import End
from delivery_chain.core.run.state import Outcome
from delivery_chain.web.pages import events_page, run_page
from delivery_chain.web.pages.rendering import FOLDER
from support.browser import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

pytestmark = pytest.mark.integration
WIDTH = 390
RUN = push_run_id(ref="refs/tags/v9.0.1", commit="a" * 40, rule="release", visit=1)
NOW = datetime(2026, 11, 28, tzinfo=UTC)


def events() -> str:
    line = LedgerLine(
        place="delivery-chain-source--git_shop--shop-api-a4ab7a",
        ref="refs/tags/v9.0.1",
        commit="a" * 40,
        at=NOW,
        last=NOW,
        by="webhook github_hooks",
        outcomes=(StartResult(chain="shop-api", rule="release", run_id=RUN),),
    )
    return events_page.render(events_page.Asked(since="1d"), events_page.Shown(changes=[line], watches={}))


def run() -> str:
    return run_page.render(
        run_page.RunFacts(
            chain="shop-api",
            run_id=RUN,
            outcome=Outcome(end=End.FAILED, sentence="failed in build: why", good=False),
            altered=(),
            plan=None,
            subject=None,
            verdict=None,
            quarantined=None,
            regions=(),
            reports=(),
            missing="",
        )
    )


@pytest.fixture(scope="module")
def narrow() -> Iterator[Page]:
    with chromium() as browser:
        yield browser.new_page(viewport={"width": WIDTH, "height": 844}, is_mobile=True)


@pytest.mark.parametrize("html", [events(), run()], ids=["events", "run"])
def test_nothing_is_outside(narrow: Page, html: str) -> None:
    """No line of text has to be scrolled to, and no column is a letter wide."""
    style = (FOLDER / "static" / "style.css").read_text("utf-8")
    narrow.set_content(html.replace("</head>", f"<style>{style}</style></head>"))
    assert narrow.evaluate("document.documentElement.scrollWidth") <= WIDTH
    widths = narrow.evaluate("[...document.querySelectorAll('td')].map(cell => cell.clientWidth)")
    assert min(widths) > WIDTH / 2
