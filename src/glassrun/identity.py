"""Which fields of a recipe make a run's identity: the marks of those that do not, and the values of those that do."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

FREE = "free of the numerical contract"
Free = Field(json_schema_extra={FREE: True})
IF_GIVEN = "in the contract only where it is not the default"
IfGiven = Field(json_schema_extra={IF_GIVEN: True})


def field_values(model: BaseModel, *, free: bool) -> dict[str, Any]:
    """The fields of a part of a recipe as plain values: all of them with `free`, else those of the identity alone.

    A field marked `Free` moves no bit. One marked `IfGiven` is something extra: without it, a run is what it was before
    there was such a field, so its default is left out of the identity.
    """
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
        return field_values(value, free=free)
    return [_value(item, free=free) for item in value] if isinstance(value, tuple) else value
