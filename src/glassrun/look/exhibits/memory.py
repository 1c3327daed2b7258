"""What a decoder writes when the encoder's memory is another than the source's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from glassrun.data.encoding import PairEncoding
from glassrun.generate.writers import TranslationWriter
from glassrun.look.exhibits.words import Reading, greedy


@dataclass(frozen=True)
class Changed:
    """A memory and what becomes of it.

    Arguments:
        name: what was done to the memory.
        written: what the decoder writes with it, by greedy decoding.
        probabilities: Float[token], of each token of the translation with the intact memory, after those before it.
    """

    name: str
    written: str
    probabilities: NDArray[Any]


@torch.no_grad()
def changed(reading: Reading, other: Reading) -> list[Changed]:
    """The translation with the memory intact, with that of another sentence in its place, and with zeros.

    Arguments:
        reading: of the sentence.
        other: of another sentence, by the same model.
    """
    model: Any = reading.model
    memory, mask = model.encode(reading.inputs[0])
    memories = {
        "intact": (memory, mask),
        f"of “{other.text}”": model.encode(other.inputs[0]),
        "all zeros": (torch.zeros_like(memory), mask),
    }
    return [Changed(name, *_with(reading, *own)) for name, own in memories.items()]


def _with(reading: Reading, memory: Tensor, mask: Tensor) -> tuple[str, NDArray[Any]]:
    model: Any = reading.model
    encoding = reading.encoding
    assert isinstance(encoding, PairEncoding), "an encoder-decoder reads pairs"
    source, target = reading.inputs
    writer = TranslationWriter(model, source)
    writer.read = (memory, mask)
    written = encoding.target.decode(greedy(writer, encoding))
    shares = model.decode(target, memory, mask)[0].double().softmax(-1)
    tokens = torch.tensor(reading.written_tokens)
    return written, shares.gather(-1, tokens[:, None])[:, 0].numpy()
