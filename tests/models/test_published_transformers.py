"""Parameter counts of published Transformers, built without memory."""

import pytest
import torch

from glassrun.models import published
from glassrun.models.registry import construct


def count(arguments, **facts):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in construct(arguments, facts).parameters())


@pytest.mark.parametrize(
    ("arguments", "vocabulary_size", "max_length", "expected"),
    [
        # As Hugging Face counts `openai-community/gpt2` to `gpt2-xl`.
        (published.gpt2_small(), 50_257, 1024, 124_439_808),
        (published.gpt2_medium(), 50_257, 1024, 354_823_168),
        (published.gpt2_large(), 50_257, 1024, 774_030_080),
        (published.gpt2_xl(), 50_257, 1024, 1_557_611_200),
        # As it counts `huggyllama/llama-7b` and `meta-llama/Llama-3.1-8B`; the papers say 6.7B and 8B.
        (published.llama_7b(), 32_000, 2048, 6_738_415_616),
        (published.llama_3_1_8b(), 128_256, 131_072, 8_030_261_248),
    ],
    ids=lambda value: f"{value:,}" if isinstance(value, int) else value.kind,
)
def test_decoders(arguments, vocabulary_size, max_length, expected):
    assert count(arguments, vocabulary_size=vocabulary_size, max_length=max_length) == expected


@pytest.mark.parametrize(
    ("arguments", "said", "off"),
    # Table 3 says 65 and 213 million. One embedding of 37,000 tokens ("about 37000", section 5.1) gives 63.1 and 214.2.
    [(published.transformer_base(), 65e6, 0.03), (published.transformer_big(), 213e6, 0.006)],
    ids=["base", "big"],
)
def test_the_paper_of_2017(arguments, said, off):
    vocabulary, layers, d_model, d_ff = 37_000, 6, arguments.d_model, arguments.d_ff
    attention = 4 * (d_model * d_model + d_model)
    network = d_model * d_ff + d_ff + d_ff * d_model + d_model
    norm = 2 * d_model
    encoder = attention + network + 2 * norm
    decoder = 2 * attention + network + 3 * norm
    by_hand = vocabulary * d_model + layers * (encoder + decoder)

    facts = {"source_vocabulary_size": vocabulary, "target_vocabulary_size": vocabulary}
    assert count(arguments, **facts, max_length=1024, padding_token=0) == by_hand
    assert by_hand == pytest.approx(said, rel=off)
    assert by_hand == {512: 63_082_496, 1024: 214_245_376}[d_model]
