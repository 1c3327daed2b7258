"""Help for tests that write with models: one row, by the plainest calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from glassrun.data.tokenizers import BEGIN, END
from glassrun.generate.decoding import Greedy, Sampling, key
from glassrun.generate.write import write
from glassrun.generate.writers import TextWriter, TranslationWriter
from glassrun.models.encoder_decoder import EncoderDecoder
from glassrun.models.language_model import LanguageModel

VOCABULARY = 7


def greedy(model: Any, source: Sequence[int], max_length: int) -> list[int]:
    """The target with its begin token."""
    writer = TranslationWriter(model, torch.tensor([list(source)]))
    return [BEGIN, *write(writer, torch.tensor([[BEGIN]]), Greedy(), [0], count=max_length - 1, stop=(END,))[0]]


def draw(
    model: Any, count: int = 11, *, tokens: Sequence[int] = (3,), context: int = 5, how: Greedy | Sampling | None = None
) -> list[int]:
    """What a language model writes behind some tokens."""
    rows = torch.tensor([list(tokens)])
    return write(TextWriter(model, context), rows, how or Sampling(), [key(tokens)], count=count)[0]


def fill(model: nn.Module, seed: int) -> nn.Module:
    """A model with random weights, large enough that it writes more than one token over and over."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
    return model.eval()


def language_model(seed: int, context: int = 5) -> nn.Module:
    return fill(LanguageModel(VOCABULARY, context, num_layers=1, d_model=6, num_heads=3, d_ff=11), seed)


def translator(seed: int, vocabulary: int = VOCABULARY, max_length: int = 11) -> nn.Module:
    model = EncoderDecoder(vocabulary, vocabulary, max_length, 0, d_model=6, num_heads=3, d_ff=13, tie_embeddings=False)
    return fill(model, seed)
