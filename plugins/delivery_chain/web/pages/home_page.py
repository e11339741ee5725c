"""The first page: every chain with its newest run. Pure: facts in, text out; every text from outside is escaped."""

from __future__ import annotations

from datetime import UTC
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery_chain.airflow_db.newest_runs import Chain, Newest

STYLE = """
:root { color-scheme: light dark; --line: #8883; --soft: light-dark(#59636e, #9aa4af);
  --link: light-dark(#0550ae, #79b8ff) }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem }
h1 { font-size: 1.4rem } a { color: var(--link) } code { font-size: .9em; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100% }
th { color: var(--soft); font-size: .85rem; font-weight: 500 }
th, td { border-bottom: 1px solid var(--line); padding: .5rem 1rem .5rem 0; text-align: left; vertical-align: top }
td:first-child, .state { white-space: nowrap } .soft { color: var(--soft); font-size: .9rem }
.success { color: light-dark(#1a7f37, #4ac26b) } .failed { color: light-dark(#cf222e, #ff7b72) }
"""


def render(chains: Sequence[Chain]) -> str:
    """The page."""
    heads = "".join(f"<th>{text}</th>" for text in ("Chain", "Newest run (UTC)", "What came of it"))
    rows = "".join(_row(chain) for chain in chains)
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>" if rows else NONE
    return page("Delivery chains", f'<p><a href="events">Push events</a></p>{table}')


NONE = (
    "<p>No chain that you may see. A chain is a spec in the folder <code>[delivery_chain] specs_folder</code>; "
    "Airflow shows what is wrong with one among its import errors.</p>"
)


def not_found(what: str) -> str:
    """The page for what is not there, with the way to what is.

    Args:
        what: A sentence.
    """
    return page(
        "Not found",
        f'<p>{escape(what)}</p><p><a href="../">All chains</a> · <a href="../events">Push events</a></p>',
    )


def page(title: str, body: str) -> str:
    """A whole page; `body` is HTML already."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>"
    )


def _row(chain: Chain) -> str:
    dag = quote(chain.name, safe="")
    about = f'<div class="soft">{escape(chain.description)}</div>' if chain.description else ""
    paused = '<div class="soft">paused: its runs wait</div>' if chain.paused else ""
    # Relative, as Airflow may be below a path: from /delivery-chain/.
    name = f'<a href="../dags/{escape(dag)}">{escape(chain.name)}</a>{about}{paused}'
    return f"<tr><td>{name}</td>{_newest(dag, chain.newest)}</tr>"


def _newest(dag: str, run: Newest | None) -> str:
    if run is None:
        return '<td class="soft">none yet</td><td></td>'
    address = f"{dag}/{quote(run.run_id, safe='')}"
    link = f'<a href="{escape(address)}"><code>{escape(run.run_id)}</code></a>'
    state = f'<span class="state {escape(run.state)}">{escape(run.state)}</span>'
    note = f"<div>{escape(run.note)}</div>" if run.note else ""
    return f'<td>{link}<div class="soft">{run.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}</div></td><td>{state}{note}</td>'
