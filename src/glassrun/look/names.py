"""Names of modules for people."""

from __future__ import annotations


def readable(name: str) -> str:
    """A module's name in words.

    >>> readable("decoder.0.cross_attention"), readable("blocks.1.attention"), readable("features.3")
    ('decoder layer 1: cross-attention', 'layer 2: self-attention', 'features.3')
    """
    if not name:
        return "the model itself"
    *path, last = name.split(".")
    numbers = [int(part) + 1 for part in path if part.isdecimal()]
    if not path or last.isdecimal() or not numbers:
        return name
    stack = path[0].removesuffix("s")
    where = f"layer {numbers[0]}" if stack in ("layer", "block") else f"{stack} layer {numbers[0]}"
    kind = {"attention": "self-attention"}.get(last, last.replace("_", "-"))
    return f"{where}: {kind}"
