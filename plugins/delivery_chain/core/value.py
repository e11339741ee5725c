"""Base of every value that crosses a task boundary or is read from a spec."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """Frozen value: rejects unknown keys, and goes through XCom as plain JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def to_xcom(self) -> dict[str, Any]:
        """Convert to JSON types, without keys whose value is None."""
        return self.model_dump(mode="json", exclude_none=True, by_alias=True)

    @classmethod
    def from_xcom(cls, data: Any) -> Self:
        """Restore a value from `to_xcom`.

        Raises:
            pydantic.ValidationError: `data` has another shape, for example written by another version.
        """
        return cls.model_validate(data)
