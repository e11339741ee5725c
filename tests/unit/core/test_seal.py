from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.seal import (
    SEAL,
    Place,
    claimed_index,
    fingerprint,
    is_sealed,
    opened,
    sealed,
    unproven,
)
from delivery_chain.errors import SealBroken

SECRET, OTHER = "a" * 64, "b" * 64
GATE = Place("shop", "run-1", "gate")
VALUE = {"digest": "sha256:1", "passed": False, "counts": {"high": 3}, "hits": [{"count": 3}]}

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
)
JSON = st.recursive(
    SCALARS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
VALUES = st.dictionaries(st.text().filter(lambda key: key != SEAL), JSON, max_size=5)


@given(VALUES, st.integers(-1, 50))
def test_what_was_sealed_is_opened_after_any_way_through_json(value: dict[str, Any], index: int) -> None:
    """Databases reorder keys and drop spaces; the value still verifies."""
    place = replace(GATE, map_index=index)
    kept = json.loads(json.dumps(sealed(value, place, SECRET), sort_keys=True))
    assert (opened(kept, place, SECRET), claimed_index(kept)) == (json.loads(json.dumps(value)), index)


@given(VALUES, VALUES)
def test_another_value_does_not_take_over_a_seal(value: dict[str, Any], other: dict[str, Any]) -> None:
    """Whatever is put into it, the proof is that of the first value."""
    forged = {**other, SEAL: sealed(value, GATE, SECRET)[SEAL]}
    assert is_sealed(forged, GATE, SECRET) is (fingerprint(value) == fingerprint(other))


@pytest.mark.parametrize(
    ("left", "read"),
    [(1.0, 1), (-0.0, 0.0), (1e16, 10000000000000000), (1e22, 10**22), ([2.0], [2]), ({"x": 3.0}, {"x": 3})],
)
def test_numbers_are_equal_as_databases_give_them_back(left: Any, read: Any) -> None:
    """PostgreSQL keeps numbers as decimals: an integral float comes back as an integer."""
    kept = {**sealed({"value": left}, GATE, SECRET), "value": read}
    assert is_sealed(kept, GATE, SECRET)


@pytest.mark.parametrize(
    "place",
    [
        replace(GATE, dag_id="shop-2"),
        replace(GATE, run_id="run-2"),
        replace(GATE, task_id="publish"),
        replace(GATE, map_index=0),
        replace(GATE, key="other"),
        Place("shop", "run-1gate", ""),
    ],
)
def test_a_copy_at_another_place_is_refused(place: Place) -> None:
    """A true verdict of another chain, run, task, instance or key is no verdict here."""
    with pytest.raises(SealBroken):
        opened(sealed(VALUE, GATE, SECRET), place, SECRET)


TRUE = sealed(VALUE, GATE, SECRET)


@pytest.mark.parametrize(
    "forged",
    [
        None,
        True,
        "passed",
        json.dumps(TRUE),
        [TRUE],
        {},
        VALUE,
        TRUE | {"passed": True},
        TRUE | {"more": 1},
        {key: part for key, part in TRUE.items() if key != "counts"},
        TRUE | {SEAL: ""},
        TRUE | {SEAL: None},
        TRUE | {SEAL: 7},
        TRUE | {SEAL: TRUE[SEAL].upper()},
        TRUE | {SEAL: TRUE[SEAL][:-1]},
        TRUE | {SEAL: TRUE[SEAL] + "\n"},
        TRUE | {SEAL: TRUE[SEAL].replace("-1:", "0:")},
        TRUE | {SEAL: "-1:" + "0" * 64},
        TRUE | {SEAL: "é\ud800"},
        TRUE | {"counts": {"high": float("nan")}},
        TRUE | {"counts": {1: "x"}},
        sealed(VALUE, GATE, OTHER),
        sealed(VALUE, GATE, ""),
    ],
)
def test_what_no_step_left_is_refused(forged: Any) -> None:
    """The error says whose value it is, what may have happened and what to clear; trying again does not help."""
    with pytest.raises(SealBroken) as caught:
        opened(forged, GATE, SECRET)
    assert not caught.value.retryable
    assert str(caught.value) == (
        "what the task `gate` left in run 'run-1' (XCom 'return_value') was changed after the task left it, over "
        "Airflow's REST API or in its database, or was left by another installation or by an older version of this "
        "package. Clear the task `gate` and everything downstream, so that the value is written again"
    )


def test_a_value_that_is_nested_without_end_is_refused() -> None:
    """It comes from outside, and must not end the process that looks at it."""
    deep: Any = {}
    for _ in range(100_000):
        deep = {"x": deep}
    assert not is_sealed({**deep, SEAL: TRUE[SEAL]}, GATE, SECRET)


@pytest.mark.parametrize(
    ("value", "index"),
    [
        (sealed({}, replace(GATE, map_index=12), SECRET), 12),
        (TRUE, -1),
        ({SEAL: "\u0661:x"}, -1),
        ({SEAL: "9" * 5000 + ":x"}, -1),
        ({SEAL: ["1:x"]}, -1),
        ("1:x", -1),
        (None, -1),
    ],
)
def test_the_index_that_a_value_claims(value: Any, index: int) -> None:
    """Anything else than a small number is no index."""
    assert claimed_index(value) == index


def test_for_showing_the_proof_is_left_out() -> None:
    """Nothing is checked."""
    assert unproven(TRUE | {"passed": True}) == VALUE | {"passed": True}
