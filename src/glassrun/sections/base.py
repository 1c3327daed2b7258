"""What all sections of a recipe share: strict, frozen, and with the fields that make a run's identity told apart."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from glassrun.identity import field_values

Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Section(BaseModel):
    """What all sections share: unknown keys and wrong types are errors, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def contract(self) -> dict[str, Any]:
        """All fields that are part of a run's identity, as plain values."""
        return field_values(self, free=False)

    def plain(self) -> dict[str, Any]:
        """All fields as plain values, as a recipe file holds them."""
        return field_values(self, free=True)
