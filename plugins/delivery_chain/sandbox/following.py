"""Finds the runs that a push started."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from delivery_chain.core.events.routing import source_starts
from delivery_chain.core.events.watch_dags import watched
from delivery_chain.errors import AirflowUnreachable, ToolError
from delivery_chain.sandbox import airflow_parts, services, source
from delivery_chain.sandbox.connections import GIT_SOURCE
from delivery_chain.sandbox.console import seconds
from delivery_chain.sandbox.progress import Waiting
from delivery_chain.spec_store.folder import load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from delivery_chain.core.spec.model import ChainSpec, Source
    from delivery_chain.sandbox.api import AirflowApi
    from delivery_chain.sandbox.source import Push
    from delivery_chain.sandbox.stack import Stack

TIMEOUT_SECONDS = 300.0
"""Timeout in seconds from a push to its runs, which start after a second if the hook delivers the push, otherwise after
one poll interval of the source's sensor."""
POLL_SECONDS = 0.5


def follow(stack: Stack, push: Push, patience: float) -> None:
    """Print the runs of a push once they exist, or why none will.

    Raises:
        ToolError: The push succeeded, but its runs did not start in time.
    """
    console, layout = stack.console, stack.layout
    if push.said:
        console.line(f"not delivered at once: {push.said}")
    folder = stack.state.settings.get("folders", {}).get("specs", "")
    specs = list(load(Path(folder)).specs.values()) if folder else []
    repository = source.bare(layout, push.repository)
    chains = taking(specs, push, repository)
    if folder and not chains:
        others = " and ".join(taking(specs, push, repository, by_others=True))
        console.line(
            f"run of {others}: if its connection points here, its sensor starts it; see `delivery-chain events`"
            if others
            else f"no run: no build rule of the chains in {folder} matches the push"
        )
        return
    if not services.running(stack.state, airflow_parts.API_SERVER):
        console.line(
            f"no run yet: Airflow is not running; after `{layout.command('up')}` the source's sensor finds the push"
        )
        return
    for chain, run_id in _await_runs(stack, push, chains, patience).items():
        console.line(f"run {run_id} of {chain}: {stack.ui}/dags/{chain}/runs/{quote(run_id, safe='')}")


def taking(specs: Iterable[ChainSpec], push: Push, repository: Path, *, by_others: bool = False) -> list[str]:
    """Names of the chains with a build rule that matches a push to a repository of the sandbox.

    Args:
        specs: All chains.
        push: The push.
        repository: Path of the repository pushed to.
        by_others: Return instead the chains that reach a repository of that name through another connection.
    """
    names = [
        start.chain
        for origin, chains in watched(specs).values()
        if (origin.connection != GIT_SOURCE) == by_others and _is(origin, push, repository)
        for start in source_starts(chains, ref=push.ref, commit=push.commit, previous=None)
    ]
    return sorted(set(names))


def _is(origin: Source, push: Push, repository: Path) -> bool:
    usual = f"{source.NAMESPACE}/{push.repository}"
    return origin.url == repository.as_uri() or origin.url.strip("/").removesuffix(".git") == usual


def _await_runs(stack: Stack, push: Push, chains: list[str], patience: float) -> dict[str, str]:
    """Wait for the run of each chain; return its id by chain."""
    begin = time.monotonic()
    found: dict[str, str] = {}
    with stack.api(patient=False) as api, Waiting(stack.console, "") as waiting:
        while missing := [chain for chain in chains if chain not in found]:
            waiting.what = f"the run of {', '.join(missing)}"
            try:
                found |= {chain: run_id for chain in missing if (run_id := _run_of(api, chain, push))}
            except AirflowUnreachable as error:
                waiting.what += f" ({error})"
            if len(found) == len(chains):
                break
            if ended := stack.ended:
                raise ToolError(
                    f"the push is in the source, but {', '.join(ended)} exited, and {', '.join(missing)} has no run "
                    f"for it yet; `{stack.layout.command('up')}` restarts it, and the sensor finds the push",
                    tool="sandbox",
                )
            if time.monotonic() - begin > patience:
                raise ToolError(
                    f"the push is in the source, but {', '.join(missing)} has no run for it after {seconds(patience)}; "
                    "the page Browse > Push events shows what happened to it",
                    tool="airflow",
                )
            time.sleep(POLL_SECONDS)
    return found


def _run_of(api: AirflowApi, chain: str, push: Push) -> str:
    runs: list[dict[str, Any]] = api.runs(chain)
    return next(
        (str(run["dag_run_id"]) for run in runs if (run["conf"] or {}).get("commit") == push.commit), ""
    )
