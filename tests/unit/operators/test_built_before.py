"""A run waits for others of the same push."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from delivery_chain.core.events.event import Event, Kind
from delivery_chain.core.events.routing import Start
from delivery_chain.core.spec.model import ChainSpec
from delivery_chain.errors import UnderWay
from delivery_chain.operators.built_before import await_earlier

SPEC = ChainSpec.model_validate(
    {
        "version": 1,
        "name": "shop-new",
        "scope": {"instance": "home", "namespace": "shop", "repositories": ["api"]},
        "sources": {"api": {"connection": "git_shop", "url": "shop/api.git"}},
        "build": {"rules": [{"name": "any", "tag": ".*", "tags": [{"tag": "x"}]}]},
    }
)
PUSH = Event(kind=Kind.SOURCE_PUSH, ref="refs/tags/v1", commit="a" * 40, rule="any")
RUN = Start(SPEC.name, "shop", PUSH).run_id(1)


def await_with(active: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan the push in a chain that was called `shop-old` before, where these runs are on their way."""

    def count(dag_id: str, run_ids: list[str], states: list[str]) -> int:
        assert states == ["queued", "running"]
        return int(active.get(dag_id) in run_ids)

    monkeypatch.setattr("delivery_chain.spec_store.in_force.removed_chains", lambda: ("shop-old", SPEC.name))
    ti: Any = SimpleNamespace(run_id=RUN, get_dr_count=count)
    await_earlier(ti, SPEC, PUSH)


def test_a_push_that_a_renamed_chain_builds_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it is built twice: its image is not there yet."""
    with pytest.raises(UnderWay) as caught:
        await_with({"shop-old": RUN}, monkeypatch)
    assert str(caught.value) == (
        "a run of refs/tags/v1 at aaaaaaaaaaaa is in flight in chain 'shop-old', which was removed or renamed since: "
        "this run resumes when that one has ended"
    )


@pytest.mark.parametrize("active", [{}, {"shop-old": "another"}, {SPEC.name: RUN}])
def test_other_runs_are_not_waited_for(active: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the run itself."""
    await_with(active, monkeypatch)
