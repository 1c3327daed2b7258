"""The `data.augment` list: one class a kind; the operations are in `data.augment`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator, model_validator

from glassrun.errors import nearest
from glassrun.sections.base import Count, Positive, Section


class Augmentation(Section):
    """What is done to a training image, other than before in each epoch."""

    kind: str


class Flip(Augmentation):
    """Left and right exchanged, with a probability."""

    kind: Literal["flip"]
    probability: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5


class Shift(Augmentation):
    """Moved by up to so many rows and columns either way; black comes in."""

    kind: Literal["shift"]
    rows: Annotated[int, Field(ge=0)] = 0
    columns: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if not self.rows and not self.columns:
            raise ValueError("rows and columns are both 0: nothing would move. Give one above 0")
        return self


class Crop(Augmentation):
    """A random window of the image's own size out of the image with `padding` pixels around it."""

    kind: Literal["crop"]
    padding: Count
    mode: Literal["black", "reflect"] = "black"


class Cutout(Augmentation):
    """A square of the mean colour, its centre anywhere."""

    kind: Literal["cutout"]
    size: Count


class Mixup(Augmentation):
    """Each example mixed with the next of its slice, labels too; the share is drawn from Beta(alpha, alpha)."""

    kind: Literal["mixup"]
    alpha: Positive = 0.2


AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "flip": Flip,
    "shift": Shift,
    "crop": Crop,
    "cutout": Cutout,
    "mixup": Mixup,
}


def _by_kind(value: Any) -> Augmentation:
    if isinstance(value, Augmentation):
        return value
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in AUGMENTATIONS:
        raise ValueError(f"expected a mapping with a kind, found {value!r}; {nearest(str(kind), AUGMENTATIONS)}")
    return AUGMENTATIONS[kind].model_validate_json(json.dumps(value))


Augmentations = tuple[Annotated[Augmentation, PlainValidator(_by_kind)], ...]
