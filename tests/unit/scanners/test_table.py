from __future__ import annotations

import pytest

from delivery_chain.core.spec.engines import SCAN_ENGINES
from delivery_chain.errors import ConfigurationError
from delivery_chain.scanners.table import SCANNERS
from support.scanner_benches import BENCHES


def test_specs_may_name_what_the_table_has() -> None:
    """The rules can't import the engines: both lists are the same."""
    assert set(SCANNERS) == set(SCAN_ENGINES)


@pytest.mark.parametrize("name", SCANNERS)
def test_every_engine_of_the_table_loads_under_its_name(name: str) -> None:
    """What a spec may say leads to an engine that calls itself so."""
    assert SCANNERS.load(name)().name == name


def test_an_unknown_engine_is_named() -> None:
    """A typing error in a spec says what there is."""
    with pytest.raises(ConfigurationError, match="scan engine 'grype': expected one of trivy"):
        SCANNERS.load("grype")()


def test_every_engine_has_a_bench() -> None:
    """So that the contract in tests/integration/scanners/test_contract.py runs for it."""
    assert set(BENCHES) == set(SCANNERS)
