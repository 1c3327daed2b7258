"""The arguments of the Transformers: what they allow is what the modules take."""

from typing import get_args

import pytest
from pydantic import ValidationError

from glassrun.models import arguments
from glassrun.models import positions as of_models
from glassrun.models.arguments import ROTARY_SCALINGS, EncoderDecoderArguments, LanguageModelArguments, LlamaArguments
from glassrun.nn import convolution, feedforward


def names(union):
    return {name for part in get_args(union) for name in (get_args(part) or [part])}


def test_names_are_those_of_the_modules():
    assert names(arguments.Activation) == names(feedforward.Activation) == set(feedforward.ACTIVATIONS)
    assert names(arguments.Positions) == names(of_models.Positions)
    assert arguments.MemoryFormat == convolution.MemoryFormat
    assert set(ROTARY_SCALINGS) == set(of_models._SCALINGS)


def test_the_width_of_llamas_network():
    assert LlamaArguments(kind="llama").feed_forward_width == 384  # 8/3 · 128 is 341.3
    assert LlamaArguments(kind="llama", d_model=192, num_heads=4).feed_forward_width == 512  # 8/3 · 192, exactly
    assert LlamaArguments(kind="llama", d_ff=7).feed_forward_width == 7


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (LlamaArguments, {"d_model": 36}, "d_model is 36; it must be a multiple of 2 · num_heads (8)"),
        (LlamaArguments, {"num_key_value_heads": 3}, "num_key_value_heads is 3, which does not divide num_heads 4"),
        (LlamaArguments, {"rotary_scaling": {"kind": "linear", "factor": 0.5}}, "greater than or equal to 1"),
        (
            LlamaArguments,
            {"rotary_scaling": {"kind": "linear", "factor": 2.0, "original_length": 8}},
            "Extra inputs are not permitted",
        ),
        (
            LlamaArguments,
            {
                "rotary_scaling": {
                    "kind": "llama3",
                    "factor": 2.0,
                    "original_length": 8,
                    "high_frequency_factor": 1.0,
                }
            },
            "high_frequency_factor is 1.0; it must be above low_frequency_factor 1.0",
        ),
        (
            LlamaArguments,
            {"rotary_scaling": {"kind": "yarn", "factor": 2.0, "original_length": 8, "beta_slow": 40.0}},
            "beta_fast is 32.0; it must be above beta_slow 40.0",
        ),
        (
            LanguageModelArguments,
            {"d_model": 20, "positions": "rotary"},
            "d_model 20 / num_heads 4 is 5; make it even",
        ),
        (EncoderDecoderArguments, {"tie_embeddings": "both"}, "Input should be 'all'"),
    ],
)
def test_what_does_not_fit_is_said(kind, given, message):
    name = {LlamaArguments: "llama", LanguageModelArguments: "language-model"}.get(kind, "encoder-decoder")
    with pytest.raises(ValidationError) as error:
        kind.model_validate({"kind": name} | given)
    assert message in str(error.value)
