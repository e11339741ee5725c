from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

from delivery_chain.core.events.gaps import Watch
from delivery_chain.core.events.ledger import LedgerLine, Sight, StartResult
from delivery_chain.web.pages.events_page import MOST_SHOWN, Asked, Shown, render

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PLACE = "delivery-chain-source--git--shop-api-000000"
HOSTILE = """<script>alert(1)</script>"'&"""


class Page(HTMLParser):
    """Elements with their attributes, and each row's texts by cell."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.script = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
        if tag in {"td", "script"}:
            self._inside = tag
        elif tag == "div" and self._inside == "td":
            self.rows[-1][-1] += "|"

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "td":
            self.rows[-1][-1] += data
        elif self._inside == "script":
            self.script += data

    def attributes(self, tag: str, name: str) -> list[str | None]:
        """One attribute of every element of a kind that has it."""
        return [attrs[name] for found, attrs in self.elements if found == tag and name in attrs]


def change(**given: Any) -> LedgerLine:
    whole = {
        "place": PLACE,
        "ref": "refs/tags/v1.0.0",
        "commit": "a" * 40,
        "at": NOW,
        "last": NOW,
        "by": "webhook gh",
        "outcomes": (StartResult(chain="shop-api", rule="release", run_id="run/1", made=True),),
    }
    return LedgerLine.model_validate(whole | given)


def page(*changes: LedgerLine, notes: tuple[str, ...] = (), **asked: Any) -> Page:
    watches = {PLACE: Watch(title="source git shop/api.git")}
    form = Asked(**{"since": "1d"} | asked)
    return Page(render(form, Shown(changes=changes, watches=watches, chains=["shop-api"], notes=notes)))


def test_a_row_says_it_all() -> None:
    """When, what and where, by whom and how much later, the run, its gap."""
    found = page(
        change(
            times=2,
            actor="mona",
            also=(Sight(by="sensor", after=4.2),),
            gaps=("no webhook reported it: the sensor found it",),
        )
    )
    assert found.rows[1:] == [
        [
            "11-23 12:00:00",
            "|tag v1.0.0 aaaaaaaaaaaa|source git shop/api.git",
            "|webhook\N{NO-BREAK SPACE}gh, 2 times|sensor 4 s later|pushed by mona",
            "|shop-api (release): run/1 · image|Gap: no webhook reported it: the sensor found it",
        ]
    ]
    assert found.attributes("tr", "class") == ["gap"]


def test_links_lead_out_of_the_frame_and_stay_below_airflow_s_path() -> None:
    """The watching Dag and the run are pages of Airflow's; the image is a page of ours, beside this one."""
    links = [attrs for tag, attrs in page(change()).elements if tag == "a"]
    assert links == [
        {"href": f"../dags/{PLACE}", "data-out": None},
        {"href": "../dags/shop-api/runs/run%2F1", "data-out": None},
        {"href": "shop-api/run%2F1"},
    ]


def test_a_row_has_its_run_s_state() -> None:
    """As the run stands now, with its note for who points at it."""
    run = {"chain": "shop-api", "run_id": "run/1", "state": "failed", "note": "blocked: 2 high"}
    found = page(change(runs=[run]))
    assert found.rows[1][3] == "|shop-api (release): run/1 failed (blocked) · image"
    assert ("span", {"class": "failed", "title": "blocked: 2 high"}) in found.elements


def test_what_others_wrote_is_text() -> None:
    """Refs, reasons and names come from outside: nothing in them becomes an element, an attribute or a script."""
    outcomes = (
        StartResult(chain=HOSTILE, rule=HOSTILE, run_id=HOSTILE, why=HOSTILE),
        StartResult(chain=HOSTILE, why=HOSTILE),
    )
    harmless = (StartResult(chain="x", run_id="x", why="x"),)
    hostile = change(
        place=HOSTILE, ref=HOSTILE, commit=HOSTILE, by=HOSTILE, actor=HOSTILE, why=HOSTILE, gaps=(HOSTILE,),
        also=(Sight(by=HOSTILE, after=1.0),), outcomes=outcomes,
    )  # fmt: skip
    found = page(hostile, notes=(HOSTILE,), since=HOSTILE, source=HOSTILE, chain=HOSTILE, ref=HOSTILE)
    plain = page(change(outcomes=harmless, gaps=("x",)), notes=("x",))
    assert {tag for tag, _ in found.elements} <= {tag for tag, _ in plain.elements}
    assert found.script == plain.script
    assert [name for _, attrs in found.elements for name in attrs if name.startswith("on")] == []
    assert all(str(href).startswith(("../dags/%3C", "%3C")) for href in found.attributes("a", "href"))
    assert found.attributes("input", "value") == [*[HOSTILE] * 4, "1", "1"]
    assert found.rows[1][3].count(HOSTILE) == 8


def test_what_made_no_run_says_why() -> None:
    """The reason stands where the runs would."""
    found = page(change(outcomes=(), why="no build rule matches"), change(outcomes=()))
    assert [row[3] for row in found.rows[1:]] == ["|no build rule matches", "|no run"]


def test_a_long_ledger_is_cut() -> None:
    """A page has an end; what is left out is counted, with its gaps."""
    many = [change(at=NOW - timedelta(seconds=second)) for second in range(MOST_SHOWN + 3)]
    html = render(Asked(since="1d"), Shown(changes=many, watches={}))
    assert html.count("<tr") == MOST_SHOWN + 1
    assert "3 more are not shown: narrow the filter" in html
    assert f"{MOST_SHOWN + 3} changes" in html
