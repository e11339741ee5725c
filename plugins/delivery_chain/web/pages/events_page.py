"""The ledger as a page. Pure: a ledger in, text out; every text from outside is escaped.

Its links to Airflow's pages leave the frame in which Airflow's menu shows it: a frame of Airflow's may not do that, but
it may ask the page around it, which is of the same origin, and a small script does.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, timedelta
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from delivery_chain.core.events.gaps import Watch, span
from delivery_chain.core.events.ledger import SENSOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from delivery_chain.core.events.ledger import Change, Outcome, Standing

MOST_SHOWN = 500
"""Rows of the page; the rest is counted."""
STYLE = """
:root { color-scheme: light dark; --line: #8883; --soft: light-dark(#59636e, #9aa4af);
  --link: light-dark(#0550ae, #79b8ff); --warn: light-dark(#9a4d00, #f0b65a);
  --warn-back: light-dark(#fff6e5, #33260d) }
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.2rem auto; max-width: 90rem; padding: 0 1.2rem }
h1 { font-size: 1.3rem; margin: 0 0 .8rem } a { color: var(--link) }
code { font-size: .92em; overflow-wrap: anywhere }
form { align-items: end; display: flex; flex-wrap: wrap; gap: .6rem .8rem; margin-bottom: .8rem }
label { color: var(--soft); display: grid; font-size: .85rem; gap: .15rem }
label.tick { align-items: center; color: inherit; display: flex; gap: .4rem; padding-bottom: .35rem }
input, button { border: 1px solid #8888; border-radius: .3rem; font: inherit; padding: .25rem .5rem }
input[list], input[placeholder] { width: 11rem } input[name=since] { width: 7rem }
table { border-collapse: collapse; width: 100% }
th { color: var(--soft); font-size: .85rem; font-weight: 500 }
th, td { border-bottom: 1px solid var(--line); padding: .4rem 1rem .4rem 0; text-align: left; vertical-align: top }
tr > :first-child { padding-left: .7rem } tbody tr { border-left: 3px solid transparent }
tr.gap { background: var(--warn-back); border-left-color: var(--warn) }
.when, .by { white-space: nowrap } .soft, .soft a, .none { color: var(--soft) }
a { text-decoration-color: #8888; text-underline-offset: .15em } .soft a { text-decoration: none }
a:hover { text-decoration: underline } .gap b, .note { color: var(--warn) }
.note { border-left: 3px solid var(--warn); margin: .4rem 0; padding-left: .7rem }
td div + div { margin-top: .15rem }
.success { color: light-dark(#1a7f37, #4ac26b) } .failed { color: light-dark(#cf222e, #ff7b72) }
"""
SCRIPT = """
const host = window.parent === window ? null : window.parent.document;
if (host) {
  const root = host.documentElement;
  const paint = () => {
    document.documentElement.style.colorScheme = root.classList.contains("dark") ? "dark" : "light";
  };
  paint();
  new MutationObserver(paint).observe(root, {attributes: true});
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-out]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const outer = host.createElement("a");
    outer.href = link.href;
    outer.click();
  });
}
"""
SCRIPT_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The form as it was sent."""

    since: str
    source: str = ""
    chain: str = ""
    ref: str = ""
    gaps: bool = False
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What there is to show."""

    changes: Sequence[Change] = ()
    watches: Mapping[str, Watch]
    chains: Iterable[str] = ()
    """Names to offer."""
    notes: Sequence[str] = ()
    """What to know about it."""


def render(asked: Asked, shown: Shown) -> str:
    """The page."""
    rows = "".join(_row(change, shown.watches) for change in shown.changes[:MOST_SHOWN])
    more = len(shown.changes) - MOST_SHOWN
    heads = "".join(f"<th>{text}</th>" for text in ("When (UTC)", "What", "Seen by", "Runs, or why none"))
    body = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
    notes = [*shown.notes, *([f"{more} more are not shown: ask for less"] if more > 0 else ())]
    said = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Push events</title>'
        f"<style>{STYLE}</style></head><body><h1>Push events</h1>{_form(asked, shown.chains)}"
        f"{_count(shown.changes)}{said}{body}<script>{SCRIPT}</script></body></html>"
    )


def _form(asked: Asked, chains: Iterable[str]) -> str:
    names = "".join(f'<option value="{escape(name)}">' for name in chains)
    ticks = "".join(
        f'<label class="tick"><input type="checkbox" name="{name}" value="1"{" checked" if on else ""}>{label}</label>'
        for name, on, label in (
            ("gaps", asked.gaps, "just gaps"),
            ("own", asked.own, "with the chains' own writes"),
        )
    )
    fields = "".join(
        f'<label>{label}<input name="{name}" value="{escape(value)}" placeholder="{hint}"{more}></label>'
        for label, name, value, hint, more in (
            ("Since", "since", asked.since, "1d", ""),
            ("Source", "source", asked.source, "any", ""),
            ("Chain", "chain", asked.chain, "any", ' list="chains"'),
            ("Branch, tag or image", "ref", asked.ref, "any, such as v1.*", ""),
        )
    )
    return f'<form>{fields}{ticks}<button>Show</button><datalist id="chains">{names}</datalist></form>'


def _count(changes: Sequence[Change]) -> str:
    gaps = sum(bool(change.gaps) for change in changes)
    few = "1 change" if len(changes) == 1 else f"{len(changes) or 'No'} changes"
    return f'<p class="soft">{few}{f", {gaps} with gaps" if gaps else ""}</p>'


def _row(change: Change, watches: Mapping[str, Watch]) -> str:
    time = change.at.astimezone(UTC)
    cells = (
        f'<td class="when" title="{time:%Y-%m-%d %H:%M:%S.%f} UTC">{time:%m-%d %H:%M:%S}</td>',
        f"<td>{_what(change, watches)}</td>",
        f'<td class="by">{_who(change)}</td>',
        f"<td>{_came_of(change)}</td>",
    )
    kind = "gap" if change.gaps else "" if change.outcomes else "none"
    return f'<tr class="{kind}">{"".join(cells)}</tr>'


def _what(change: Change, watches: Mapping[str, Watch]) -> str:
    watch = watches.get(change.place)
    title = escape(watch.title if watch else change.place)
    where = _out(f"dags/{quote(change.place, safe='')}", title) if change.place else ""
    named = f'{escape(change.name)} <code title="{escape(change.commit)}">{escape(change.short)}</code>'
    return f'<div>{named}</div><div class="soft">{where}</div>'


def _who(change: Change) -> str:
    first = f"<div>{_times(change.by, change.times)}</div>"
    also = (
        f'<div class="soft">{_times(sight.by, sight.times)} {span(timedelta(seconds=sight.after))} later</div>'
        for sight in change.also
    )
    actor = f'<div class="soft">pushed by {escape(change.actor)}</div>' if change.actor else ""
    return first + "".join(also) + actor


def _times(by: str, times: int) -> str:
    name = escape(by if by == SENSOR else by.replace("webhook ", "webhook\N{NO-BREAK SPACE}", 1))
    return f"{name}, {times} times" if times > 1 else name


def _came_of(change: Change) -> str:
    parts = [_outcome(outcome, change.standing(outcome)) for outcome in change.outcomes]
    if change.why or not parts:
        parts.append(f'<span class="soft">{escape(change.why or "no run")}</span>')
    parts += [f"<b>Gap:</b> {escape(gap)}" for gap in change.gaps]
    return "".join(f"<div>{part}</div>" for part in parts)


def _outcome(outcome: Outcome, stands: Standing | None) -> str:
    rule = f" ({escape(outcome.rule)})" if outcome.rule else ""
    who = escape(outcome.chain) + rule
    if not outcome.run_id:
        return f'{who}: <span class="soft">no run, {escape(outcome.why)}</span>'
    chain, run = (quote(text, safe="") for text in (outcome.chain, outcome.run_id))
    # Relative, as Airflow may be below a path: from /delivery-chain/events.
    link = _out(f"dags/{chain}/runs/{run}", f"<code>{escape(outcome.run_id)}</code>")
    image = f'<a href="{escape(f"{chain}/{run}")}">image</a>'
    also = f' <span class="soft">{escape(outcome.why)}</span>' if outcome.why else ""
    return f"{who}: {link}{_state(stands) if stands else ''} · {image}{also}"


def _state(run: Standing) -> str:
    return f' <span class="{escape(run.state)}" title="{escape(run.note)}">{escape(run.state)}</span>'


def _out(page: str, inner: str) -> str:
    """A link to a page of Airflow's; `inner` is HTML already."""
    return f'<a href="{escape("../" + page)}" data-out>{inner}</a>'
