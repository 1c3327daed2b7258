"""What a traced step did, operation by operation, and the first in which two of them part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from glassrun.errors import RunFolderError

RANDOM_STATE = "random state"  # an input of operations that draw: the default generator's state


@dataclass(frozen=True)
class Operation:
    """One operation as it was called and what came of it.

    Arguments:
        name: of the operator with its overload, as `aten.addmm.default`.
        module: path of the module whose forward called it, and its class; empty outside a model.
        line: the source line that called it, as `package/module.py:12 in forward`.
        backward: whether it belongs to the backward pass; module and line are then those of the forward.
        view: whether it only looks at its input in another shape, and computes nothing.
        scalars: the arguments that are no tensors, exactly.
        inputs: dtype, shape and fingerprint of each tensor argument before the call.
        outputs: the same of each output, and of each argument that the call changed in place, after it.
    """

    name: str
    module: str
    line: str
    backward: bool
    view: bool
    scalars: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Divergence:
    """The first operation in which two traces part, as each has it (None: that trace has ended).

    `what` says how: `operation` (another one is called), `input` (a tensor that no operation before it made enters
    from outside and differs), `scalar` (a number from outside differs), `random state`, or `output` (all inputs agree
    and an output differs: this operation computes something else). `place` counts inputs or outputs from 0.
    """

    what: Literal["operation", "input", "scalar", "random state", "output"]
    index: int
    place: int
    a: Operation | None
    b: Operation | None

    @property
    def operation(self) -> Operation:
        """The operation to name."""
        found = self.a or self.b
        assert found is not None, "two traces part at an operation of one of them"
        return found


def first_divergence(a: Sequence[Operation], b: Sequence[Operation]) -> Divergence | None:
    """Where two traces part, or None where every operation had the same inputs and outputs."""
    for index, (x, y) in enumerate(zip_longest(a, b)):
        if x is None or y is None or (x.name, len(x.inputs)) != (y.name, len(y.inputs)):
            return Divergence("operation", index, 0, x, y)
        if x.inputs != y.inputs:
            return _consumer(a, b, index)
        if x.scalars != y.scalars:
            return Divergence("scalar", index, 0, x, y)
        if x.outputs != y.outputs:
            return Divergence("output", index, _first_difference(x.outputs, y.outputs), x, y)
    return None


def _consumer(a: Sequence[Operation], b: Sequence[Operation], first: int) -> Divergence:
    """An input differs at operation `first`: the first operation from there on that computes with it."""
    alike = ((i, x, y) for i, (x, y) in enumerate(zip(a, b, strict=False)) if i >= first and x.inputs != y.inputs)
    index, x, y = next(((i, x, y) for i, x, y in alike if not x.view and x.name == y.name), (first, a[first], b[first]))
    place = _first_difference(x.inputs, y.inputs)
    random = x.inputs[place].startswith(RANDOM_STATE)
    return Divergence("random state" if random else "input", index, place, x, y)


def _first_difference(a: Sequence[str], b: Sequence[str]) -> int:
    return next(place for place, (x, y) in enumerate(zip_longest(a, b)) if x != y)


def write(path: Path, operations: Sequence[Operation]) -> None:
    """One JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for operation in operations:
            file.write(json.dumps(asdict(operation)) + "\n")


def read(path: Path) -> list[Operation]:
    """What `write` has written.

    Raises:
        RunFolderError: it is missing or damaged.
    """
    try:
        rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [Operation(**row | {"inputs": tuple(row["inputs"]), "outputs": tuple(row["outputs"])}) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{path}: the trace cannot be read: {error}") from None
