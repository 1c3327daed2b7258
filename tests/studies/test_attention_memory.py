"""The study of a decoder that sees every position or one vector: its verdict, its thirds, its model."""

from __future__ import annotations

import attention_memory as study
import pytest
import torch
from translating import THIRDS, Answer, thirds
from variants import encoder_decoder

from glassrun.look.stored import Measurement
from glassrun.models.encoder_decoder import EncoderDecoder

Four = tuple[float | None, float | None, float | None, float | None]


def found(*seeds: Four, tokens: Four | None = None) -> list[Measurement]:
    """Of each seed the exact match with attention and with the mean at the shortest, then at the longest third; and the
    token accuracy, by default the same."""
    return [
        Measurement({study.MEMORY: memory, study.LENGTH: length}, seed, {study.MATCH: value, study.ACCURACY: accuracy})
        for seed, values in enumerate(seeds, 1)
        for (memory, length), value, accuracy in zip(
            [(memory, length) for length in (THIRDS[0], THIRDS[-1]) for memory in study.MEMORIES],
            values,
            tokens or values,
            strict=True,
        )
    ]


@pytest.mark.parametrize(
    ("measurements", "supported"),
    [
        (found((1.0, 0.9, 1.0, 0.5), (0.9, 0.8, 0.9, 0.6)), True),
        (found((1.0, 0.9, 1.0, 0.5), (0.9, 0.5, 0.9, 0.6)), False),  # the second seed leads by less at long ones
        (found((1.0, 0.9, 1.0, 0.5), (0.2, 0.8, 0.5, 0.6)), False),  # the second does not lead at long ones
        (found((1.0, 0.9, 1.0, 0.5), tokens=(1.0, 0.95, 1.0, 0.95)), False),  # tokens alike: only the length tells
        (found((1.0, 0.9, 1.0, 0.5), (None, 0.5, None, 0.6)), False),  # a seed without a number supports nothing
    ],
)
def test_the_verdict_is_of_every_seed(measurements: list[Measurement], supported: bool) -> None:
    assert study.judge(measurements).supported is supported


def test_the_verdict_tells_the_leads() -> None:
    text = study.judge(found((1.0, 0.9, 1.0, 0.5), (0.75, 0.5, 0.75, 0.0))).text
    assert "leads by 62.5 (50 to 75) points of exact match at the longest third" in text
    assert "by 17.5 (10 to 25) at the shortest, and so by 45 (40 to 50) more" in text


def test_thirds_keep_equal_lengths_together() -> None:
    answers = [Answer(length, True, 1, 1, 0.0) for length in (3, 3, 3, 4, 5, 5, 6, 7, 8)]
    parts = {name: [answer.source_length for answer in part] for name, part in thirds(answers).items()}
    assert parts == {"shortest third": [3, 3, 3, 4], "middle third": [5, 5, 6], "longest third": [7, 8]}
    assert list(map(len, thirds(answers[:3]).values())) == [3, 0, 0]


def test_one_vector_is_the_mean_over_what_is_no_padding() -> None:
    torch.manual_seed(3)
    model = encoder_decoder(9, 9, 8, 0, memory="their mean", d_model=16, num_heads=2, d_ff=16).eval()
    source = torch.tensor([[4, 5, 6, 0], [4, 5, 6, 7]])
    memory, mask = model.encode(source)
    whole, _ = EncoderDecoder.encode(model, source)
    assert memory.shape == (2, 1, 16)
    assert mask.all()
    torch.testing.assert_close(memory[:, 0], torch.stack([whole[0, :3].mean(0), whole[1].mean(0)]))
