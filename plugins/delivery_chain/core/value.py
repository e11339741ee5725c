"""The base of every value that crosses a task boundary or is read from a spec."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """A frozen fact: unknown keys are refused, and it goes through XCom as plain JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def to_xcom(self) -> dict[str, Any]:
        """The value as JSON types only, keys that hold None left out."""
        return self.model_dump(mode="json", exclude_none=True, by_alias=True)

    @classmethod
    def from_xcom(cls, data: Any) -> Self:
        """The value that `to_xcom` gave.

        Raises:
            pydantic.ValidationError: `data` is of another shape, for example written by another version.
        """
        return cls.model_validate(data)
