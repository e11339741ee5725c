"""A value that one task leaves is read unchanged by the next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from delivery_chain.core.spec.delivery import ReplicateRule
from delivery_chain.core.spec.model import ChainSpec
from delivery_chain.spec_store.folder import load

EXAMPLES = load(Path(__file__).parents[3] / "chain_specs").specs


@pytest.mark.parametrize("spec", EXAMPLES.values(), ids=lambda spec: spec.name)
def test_a_spec_survives_the_way_through_xcom(spec: ChainSpec) -> None:
    """A chain's spec comes out of JSON as it went in, so that a run keeps the spec it was planned with."""
    assert ChainSpec.from_xcom(json.loads(json.dumps(spec.to_xcom()))) == spec


def test_a_rename_survives_too() -> None:
    """`as`, which Python has as a keyword, keeps its name in JSON."""
    rule = ReplicateRule.model_validate({"name": "a", "to": "b", "as": {"namespace": "other"}})
    assert (rule.to_xcom()["as"], ReplicateRule.from_xcom(rule.to_xcom())) == ({"namespace": "other"}, rule)
