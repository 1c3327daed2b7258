"""Transformers that differ from glassrun's own in what a study asks about: feed-forward networks, positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from variants import started

from glassrun.models.encoder import Encoder, MaskedLanguageModel
from glassrun.models.encoder_decoder import EncoderDecoder
from glassrun.models.language_model import LanguageModel
from glassrun.models.positions import Positions
from glassrun.nn.feedforward import FeedForward
from glassrun.nn.initialisation import Draw, initialise, normal
from glassrun.nn.transformer import Norm

USUAL, NARROW, LINEAR, NONE, DEEPER = "usual", "narrow", "linear", "none", "none, deeper"
KINDS = (USUAL, NARROW, LINEAR, NONE, DEEPER)
DEPTH = 3  # times the layers: a feed-forward network of 4 d_model has twice the weights of a layer's attention


def identity(x: Tensor) -> Tensor:
    """x."""
    return x


class NoFeedForward(nn.Module):
    """In place of a layer's feed-forward network and its shortcut: the tokens as they are.

    It is called as `Residual`, with a part that it leaves out.
    """

    def forward(self, x: Tensor, part: object) -> Tensor:  # noqa: ARG002
        """x."""
        return x


def language_model(
    vocabulary_size: int, max_length: int, *, feed_forward: str, num_layers: int, d_model: int, **model: Any
) -> LanguageModel:
    """One of `KINDS`.

    usual: d_ff is 4 d_model, and the activation ReLU. narrow: d_ff is d_model. linear: no activation. none: layers of
    attention alone; deeper: three times as many of them, so that there are about as many parameters as usual.
    """
    made = LanguageModel(
        vocabulary_size,
        max_length,
        num_layers=DEPTH * num_layers if feed_forward == DEEPER else num_layers,
        d_model=d_model,
        d_ff=d_model if feed_forward == NARROW else 4 * d_model,
        activation="relu",
        **model,
    )
    for layer in made.layers:
        if feed_forward == LINEAR:
            assert isinstance(layer.feed_forward, FeedForward)
            layer.feed_forward.activation = identity
        elif feed_forward in (NONE, DEEPER):
            layer.feed_forward = nn.Identity()
            layer.feed_forward_residual = NoFeedForward()
    return started(made)


TIMES = 4  # the length trained on


def long_encoder(
    vocabulary_size: int, max_length: int, *, norm: Norm, positions: Positions, **model: Any
) -> MaskedLanguageModel:
    """glassrun's own, with tables of positions for texts so many times as long as those that it is trained on.

    What is added starts with one size: token embeddings and learned positions with standard deviation 1, about that of
    sines and cosines, as the embeddings of Vaswani et al. 2017 do (section 3.4). With BERT's 0.02 for all, the
    sinusoidal model hardly saw its tokens and learned less in 600 steps than one without positions; with 0.02 for
    learned positions alone, nothing was learned of them. So the output layer has weights of its own.
    """
    made = MaskedLanguageModel(
        Encoder(vocabulary_size, TIMES * max_length, norm=norm, positions=positions, **model), tie_embeddings=False
    )

    def start(name: str, parameter: nn.Parameter) -> Draw | float:
        added = name in ("encoder.embedding.weight", "encoder.positions.weight")
        return normal(1.0) if added else made.start(name, parameter)

    initialise(made, torch.initial_seed(), start)
    return made


def copier(
    source_vocabulary_size: int,
    target_vocabulary_size: int,
    max_length: int,
    padding_token: int,
    *,
    positions: Positions,
    **model: Any,
) -> EncoderDecoder:
    """glassrun's own, whose learned positions start as large as its embeddings: see `long_encoder`."""
    made = EncoderDecoder(
        source_vocabulary_size, target_vocabulary_size, max_length, padding_token, positions=positions, **model
    )

    def start(name: str, parameter: nn.Parameter) -> Draw | float:
        return normal(1.0) if name.endswith("_positions.weight") else made.start(name, parameter)

    initialise(made, torch.initial_seed(), start)
    return made
