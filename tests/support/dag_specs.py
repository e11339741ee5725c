"""Chain specs for the tests of Dags."""

from __future__ import annotations

from typing import Any

from delivery_chain.core.spec.model import ChainSpec

RULES = [
    {
        "name": "main",
        "branch": "main",
        "tags": [{"tag": "edge"}],
        "platforms": ["linux/arm64", "linux/amd64"],
    },
    {"name": "release", "tag": r"v(?<n>\d+)", "tags": [{"tag": "v${n}"}]},
]
FULL: dict[str, Any] = {
    "version": 1,
    "name": "shop",
    "description": "Builds the shop.",
    "scope": {"instance": "home", "namespace": "shop", "repositories": ["api"]},
    "sources": {"api": {"connection": "git_shop", "url": "shop/api.git"}},
    "build": {"rules": RULES},
    "scan": {"platforms": ["linux/386"]},
    "replicate": [{"name": "to-west", "to": "west"}, {"name": "to-east", "to": "east"}],
    "distribute": [{"name": "prod", "url_connection": "prod_hook"}],
}
IMAGES: dict[str, Any] = {
    "version": 1,
    "name": "base",
    "scope": {"instance": "home", "namespace": "base", "all": True},
}


def spec(body: dict[str, Any] | None = None, **changes: Any) -> ChainSpec:
    return ChainSpec.model_validate((body or FULL) | changes)


def edges(dag: Any) -> dict[str, list[str]]:
    return {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}


def waits(task: Any) -> list[float]:
    """Minimum seconds from each try to the next one, if the scheduler alone decides."""
    longest = task.max_retry_delay.total_seconds()
    first, factor = task.retry_delay.total_seconds(), task.retry_exponential_backoff
    return [min(first * factor ** min(number, 30), longest) for number in range(task.retries)]
