"""The output of a push that can't have a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from delivery_chain.sandbox import services
from delivery_chain.sandbox.following import follow
from delivery_chain.sandbox.source import Push

if TYPE_CHECKING:
    from pathlib import Path

    from delivery_chain.sandbox.stack import Stack

SPEC = """
version: 1
name: mine
scope: {instance: home, namespace: shop, repositories: [api]}
sources: {api: {connection: git_shop, url: shop/api.git}}
build:
  rules: [{name: release, tag: 'v.*', tags: [{tag: latest}]}]
"""
LATER = "no run yet: Airflow is not running; after `up` the source's sensor finds the push"


@pytest.mark.parametrize(
    ("kind", "specs", "said"),
    [
        ("tag", SPEC, LATER),
        ("branch", SPEC, "no run: no build rule of the chains in {specs} matches the push"),
        (
            "tag",
            SPEC.replace("git_shop", "mine"),
            "run of mine: if its connection points here, its sensor starts it; see `delivery-chain events`",
        ),
        ("branch", "", LATER),
    ],
)
def test_a_push_that_no_run_is_awaited_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, specs: str, said: str
) -> None:
    """Airflow is down, no chain takes the push, or one takes it by a connection that is not the sandbox's."""
    (tmp_path / "mine.yaml").write_text(specs)
    monkeypatch.setattr(services, "running", lambda *_: False)
    lines: list[str] = []
    layout: Any = SimpleNamespace(command=lambda verb: verb, git=tmp_path / "git")
    settings = {"folders": {"specs": str(tmp_path)}} if specs else {}
    stack = SimpleNamespace(
        console=SimpleNamespace(line=lines.append), layout=layout, state=SimpleNamespace(settings=settings)
    )
    follow(cast("Stack", stack), Push("api", kind, "v1", "a" * 40, vulnerable=False), 1)
    assert lines == [said.format(specs=tmp_path)]
