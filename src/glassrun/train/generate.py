"""Writing with a trained model, one token after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from glassrun.data.tokenizers import BEGIN, END
from glassrun.keys import derive
from glassrun.tasks.base import logits_of

if TYPE_CHECKING:
    from torch import nn


@torch.no_grad()
def greedy(model: nn.Module, source: Sequence[int], max_length: int) -> list[int]:
    """The likeliest token at every place, until the end.

    Arguments:
        model: called as model(source, target), with Int64[1, source] and Int64[1, target]; in evaluation mode.
        source: the source's tokens.
        max_length: of the target, in tokens.

    Returns:
        The target's tokens from the begin token on, with the end token if it came.
    """
    sources = torch.tensor([source])
    target = [BEGIN]
    while len(target) < max_length and target[-1] != END:
        logits = logits_of(model(sources, torch.tensor([target])))
        target.append(int(logits[0, -1].argmax()))
    return target


@torch.no_grad()
def sample(
    model: nn.Module, tokens: Sequence[int], count: int, *, context: int, temperature: float, seed: int
) -> list[int]:
    """`count` more tokens, each drawn from softmax(logits / temperature).

    Arguments:
        model: called as model(tokens) with Int64[1, length]; in evaluation mode.
        tokens: what stands before; at least one.
        count: how many to write.
        context: the model sees at most so many of the last tokens.
        temperature: 0 takes the likeliest token, 1 draws as the model was trained.
        seed: the token at place i is drawn with the key of (seed, "sample", i).
    """
    written = list(tokens)
    generator = torch.Generator()
    for place in range(count):
        logits = logits_of(model(torch.tensor([written[-context:]])))[0, -1].double()
        if temperature == 0.0:
            written.append(int(logits.argmax()))
            continue
        generator.manual_seed(derive(seed, "sample", place))
        # The largest is taken off first: a temperature near zero would else make infinities of the others, and NaN.
        shares = torch.softmax((logits - logits.max()) / temperature, dim=-1)
        written.append(int(torch.multinomial(shares, 1, generator=generator)))
    return written[len(tokens) :]
