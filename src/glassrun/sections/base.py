"""What all sections of a recipe share: strict, frozen, and with the fields that make a run's identity told apart."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

FREE = "free of the numerical contract"
Free = Field(json_schema_extra={FREE: True})
IF_GIVEN = "in the contract only where it is not the default"
IfGiven = Field(json_schema_extra={IF_GIVEN: True})

Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Section(BaseModel):
    """What all sections share: unknown keys and wrong types are errors, and nothing changes afterwards.

    A field marked `Free` moves no bit. One marked `IfGiven` is something extra: without it, a run is what it was before
    there was such a field, so its default is left out of the identity.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def contract(self) -> dict[str, Any]:
        """All fields that are part of a run's identity, as plain values."""
        return _fields(self, free=False)

    def plain(self) -> dict[str, Any]:
        """All fields as plain values, as a recipe file holds them."""
        return _fields(self, free=True)


def _fields(model: BaseModel, *, free: bool) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        value = getattr(model, name)
        if not free and (extra.get(FREE) or (extra.get(IF_GIVEN) and value == field.default)):
            continue
        result[field.alias or name] = _value(value, free=free)
    return result | (model.__pydantic_extra__ or {})


def _value(value: Any, *, free: bool) -> Any:
    if isinstance(value, BaseModel):
        return _fields(value, free=free)
    return [_value(item, free=free) for item in value] if isinstance(value, tuple) else value
