"""What a data source gives: splits of examples, a manifest, facts for the model, and how its examples are encoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from glassrun.data.encoding import Encoding

IGNORED = -100  # a target that does not count, the value that torch's cross-entropy leaves out


class Split(Protocol):
    """Some examples in a fixed order; all methods are pure."""

    def __len__(self) -> int: ...

    def key(self, index: int) -> bytes:
        """16 bytes that stand for the example's own content, wherever it lies."""
        ...

    def example(self, index: int, epoch: int) -> Mapping[str, Any]:
        """The example as NumPy arrays and integers; only windows of a text depend on the epoch."""
        ...

    def keys(self) -> list[bytes]:
        """The key of every example in order; of a text's every line instead, since its windows move with each letter.

        Two splits with the same examples have the same keys, and two with others have others.
        """
        ...

    def digest(self) -> str:
        """The digest of all examples in their order."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A split whose examples differ in length."""

    def length(self, index: int) -> tuple[int, ...]:
        """How long an example is, what costs most first."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A data source as the trainer takes it.

    Arguments:
        splits: train, validation and test, in this order, as far as they exist; train always does.
        manifest: what the data are, as plain values (see `data.manifest`).
        facts: what the model must know: sizes of vocabularies or images.
        encoding: how pictures or texts become examples, for predicting.
    """

    splits: Mapping[str, Split]
    manifest: Mapping[str, Any]
    facts: Mapping[str, int]
    encoding: Encoding
