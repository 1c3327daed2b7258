"""Plain attributes that a forward pass writes into the user's modules, put back after every slice.

A counter or a cached tensor on `self` would else carry something from one slice into the next, and so make the bits
depend on which worker computed which slice, and be lost when a run is resumed. What must live on belongs into a buffer.
Inside lists and dictionaries nothing is seen.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

_PLAIN = (bool, int, float, complex, str, bytes, type(None), tuple, Tensor)
_OURS = ("torch.", "glassrun.")  # modules of these keep no such state, so looking at them would only take time


class Attributes:
    """The plain attributes of a model's own modules, as they were when this was made."""

    def __init__(self, model: nn.Module) -> None:
        self.before = [
            (module.__dict__, {name: value for name, value in module.__dict__.items() if _counts(name, value)})
            for module in model.modules()
            if not type(module).__module__.startswith(_OURS)
        ]

    def restore(self) -> None:
        """Put every attribute back, and take away those that are new."""
        for now, before in self.before:
            for name in [name for name, value in now.items() if _counts(name, value) and name not in before]:
                del now[name]
            now.update(before)


def _counts(name: str, value: Any) -> bool:
    # `training` is set from outside.
    return name != "training" and isinstance(value, _PLAIN) and not isinstance(value, nn.Parameter)
