"""Paths of this package's pages and webhooks below Airflow's base URL."""

from __future__ import annotations

from urllib.parse import quote

PAGES = "/delivery-chain"
WEBHOOKS = f"{PAGES}/webhooks"


def run_page(dag_id: str, run_id: str) -> str:
    """Return the path of a run's page."""
    return f"{PAGES}/{quote(dag_id, safe='')}/{quote(run_id, safe='')}"


def webhook_path(connection: str) -> str:
    """Return the path that a sender's webhooks are posted to."""
    return f"{WEBHOOKS}/{connection}"
