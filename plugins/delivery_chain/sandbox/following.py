"""After a push: which runs came of it."""

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
"""From a push to its runs. A second where its hook tells it, else a look of the source's watch."""
POLL_SECONDS = 0.5


def follow(stack: Stack, push: Push, patience: float) -> None:
    """Print the runs of a push once they are there, or why there are none.

    Raises:
        ToolError: They are not there in time. The push is.
    """
    console, layout = stack.console, stack.layout
    if push.said:
        console.line(f"not told at once: {push.said}")
    folder = stack.state.settings.get("folders", {}).get("specs", "")
    specs = list(load(Path(folder)).specs.values()) if folder else []
    repository = source.bare(layout, push.repository)
    chains = taking(specs, push, repository)
    if folder and not chains:
        others = " and ".join(taking(specs, push, repository, by_others=True))
        console.line(
            f"run of {others}: where its connection leads here, its watch makes it; see `delivery-chain events`"
            if others
            else f"no run: no build rule of the chains in {folder} takes it"
        )
        return
    if not services.running(stack.state, airflow_parts.API_SERVER):
        console.line(
            f"no run yet: Airflow does not run; after `{layout.command('up')}` the source's watch finds it"
        )
        return
    for chain, run_id in _await_runs(stack, push, chains, patience).items():
        console.line(f"run {run_id} of {chain}: {stack.ui}/dags/{chain}/runs/{quote(run_id, safe='')}")


def taking(specs: Iterable[ChainSpec], push: Push, repository: Path, *, by_others: bool = False) -> list[str]:
    """The chains with a build rule for a push of one of the sandbox's repositories, which `repository` is.

    Args:
        specs: All chains.
        push: The push.
        repository: Where it went.
        by_others: Those instead that reach a repository of that name by a connection of somebody's own.
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
    """The id of each chain's run."""
    begin = time.monotonic()
    found: dict[str, str] = {}
    with stack.api(patient=False) as api, Waiting(stack.console, "") as told:
        while missing := [chain for chain in chains if chain not in found]:
            told.what = f"the run of {', '.join(missing)}"
            try:
                found |= {chain: run_id for chain in missing if (run_id := _run_of(api, chain, push))}
            except AirflowUnreachable as error:
                told.what += f" ({error})"
            if len(found) == len(chains):
                break
            if ended := stack.ended:
                raise ToolError(
                    f"the push is in the source, but {', '.join(ended)} has ended, and {', '.join(missing)} has no run "
                    f"for it yet; `{stack.layout.command('up')}` brings it back, and the watch finds the push",
                    tool="sandbox",
                )
            if time.monotonic() - begin > patience:
                raise ToolError(
                    f"the push is in the source, but {', '.join(missing)} has no run for it after {seconds(patience)}; "
                    "the page Browse > Push events says what became of it",
                    tool="airflow",
                )
            time.sleep(POLL_SECONDS)
    return found


def _run_of(api: AirflowApi, chain: str, push: Push) -> str:
    runs: list[dict[str, Any]] = api.runs(chain)
    return next(
        (str(run["dag_run_id"]) for run in runs if (run["conf"] or {}).get("commit") == push.commit), ""
    )
