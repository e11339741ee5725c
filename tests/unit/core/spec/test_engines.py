from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from delivery_chain.core.spec import engines
from delivery_chain.core.spec.scan import Scan


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ({}, ("trivy",)),
        ({"engine": "other"}, ("other",)),
        ({"engine": ["other", "trivy", "other"]}, ("other", "trivy")),
    ],
)
def test_one_engine_or_several(
    monkeypatch: pytest.MonkeyPatch, written: dict[str, Any], names: tuple[str, ...]
) -> None:
    """In the order of the spec, each once; the first known one unless the spec says more."""
    monkeypatch.setattr(engines, "SCAN_ENGINES", ("trivy", "other"))
    assert Scan.model_validate(written).engine == names


@pytest.mark.parametrize("name", ["clair", "", 1, None, ["trivy"]])
def test_an_unknown_engine_is_refused(monkeypatch: pytest.MonkeyPatch, name: Any) -> None:
    """With the names that there are."""
    monkeypatch.setattr(engines, "SCAN_ENGINES", ("trivy", "other", "third"))
    with pytest.raises(ValidationError, match="Input should be 'trivy', 'other' or 'third'"):
        Scan.model_validate({"engine": [name]})
