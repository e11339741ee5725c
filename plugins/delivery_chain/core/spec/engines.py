"""Names of the scan engines in specs: the only list. `scanners.table` has an engine for each."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from delivery_chain.core.spec.types import single

SCAN_ENGINES: tuple[str, ...] = ("trivy",)
"""The first is the default."""


def _known(name: Any) -> Any:
    if name not in SCAN_ENGINES:
        *others, last = (repr(known) for known in SCAN_ENGINES)
        expected = f"{', '.join(others)} or {last}" if others else last
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
    return name


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _schema(schema: dict[str, Any]) -> None:
    """Describe a name in a JSON Schema, in the form that pydantic uses for a `Literal`."""
    schema |= {"const": SCAN_ENGINES[0]} if len(SCAN_ENGINES) == 1 else {"enum": list(SCAN_ENGINES)}


EngineName = Annotated[str, BeforeValidator(_known), Field(json_schema_extra=_schema)]
EngineNames = Annotated[tuple[EngineName, ...], BeforeValidator(single), AfterValidator(_each_once)]
"""One name or several; duplicates are dropped."""
