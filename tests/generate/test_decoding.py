"""Settings to a way of choosing: what is usual, what would be ignored, what is out of range."""

from __future__ import annotations

from typing import Any

import pytest

from glassrun.data.encoding import PairEncoding, TextEncoding
from glassrun.data.tokenizers import ByteTokenizer, CharTokenizer
from glassrun.errors import BadInput, ConfigError
from glassrun.generate.decoding import Beams, Greedy, Sampling, decoding
from glassrun.generate.texts import TextGenerator, Translator
from writing import language_model, translator

CHARACTERS = TextEncoding(CharTokenizer("abcdefg", special=False), 5)


@pytest.mark.parametrize(
    ("given", "text", "translation"),
    [
        ({}, Sampling(0.8), Greedy()),
        ({"temperature": 0.0}, Greedy(), Greedy()),
        ({"temperature": 1.5, "seed": 7}, Sampling(1.5, seed=7), Sampling(1.5, seed=7)),
        ({"top_k": 3}, Sampling(0.8, top_k=3), Sampling(1.0, top_k=3)),
        ({"top_p": 0.5, "top_k": 3, "temperature": 2}, Sampling(2, 3, 0.5), Sampling(2, 3, 0.5)),
        ({"beams": 3}, Beams(3, 0.6), Beams(3, 0.6)),
        ({"beams": 3, "length_penalty": 0}, Beams(3, 0), Beams(3, 0)),
    ],
)
def test_settings_become_a_way_of_choosing(given: dict[str, Any], text: Any, translation: Any) -> None:
    assert decoding(**given, usual_temperature=0.8) == text
    assert decoding(**given, usual_temperature=0.0) == translation


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"temperature": 0.0, "top_k": 3}, "top-k would be ignored: at temperature 0"),
        ({"temperature": 0, "seed": 3, "top_p": 0.3}, "top-p and seed would be ignored"),
        ({"beams": 3, "temperature": 1.0}, "temperature would be ignored: beam search draws nothing"),
        ({"beams": 3, "seed": 1}, "seed would be ignored"),
        ({"length_penalty": 1.0}, "length-penalty would be ignored: it goes with beams"),
        ({"temperature": -1.0}, "temperature -1.0: expected a number from 0 up"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"temperature": float("inf")}, "temperature inf"),
        ({"temperature": True}, "temperature True"),
        ({"top_k": 0}, "top-k 0: expected a whole number from 1 up"),
        ({"top_k": 1.5}, "top-k 1.5"),
        ({"top_p": 0.0}, "top-p 0.0: expected a number above 0 and at most 1"),
        ({"top_p": 1.1}, "top-p 1.1"),
        ({"beams": 0}, "beams 0"),
        ({"beams": 3, "length_penalty": -0.5}, "length-penalty -0.5"),
        ({"beams": 3, "length_penalty": 1000.0}, "length-penalty 1000.0: expected a number from 0 to 10"),
        ({"temperature": 10**400}, "temperature 1000"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_what_is_wrong_is_said(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        decoding(**given, usual_temperature=0.8)


# --- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [Greedy(), Sampling(seed=3), Beams(3)])
def test_texts_of_any_length_are_written_as_alone(how: Any) -> None:
    for seed in range(4):
        generator = TextGenerator(language_model(seed), CHARACTERS)
        prompts = ["a", "bcd", "ga", "aaaaaaaaa", "bcd", "c"]
        at_once = generator.write(prompts, how, tokens=9, stop="c")
        assert at_once == [generator.write([prompt], how, tokens=9, stop="c")[0] for prompt in prompts]
        translations = Translator(
            translator(seed), PairEncoding(CharTokenizer("abc", special=True), CharTokenizer("xyz", special=True), 11)
        )
        sources = ["abc", "a", "abcabc", "cb", "cc"]
        assert translations.write(sources, how) == [translations.write([source], how)[0] for source in sources]


@pytest.mark.parametrize("how", [Greedy(), Sampling(seed=3), Beams(3)])
def test_what_is_said_as_it_comes_is_the_text(how: Any) -> None:
    said: list[str] = []
    generator = TextGenerator(language_model(2), CHARACTERS)
    assert generator.write(["abc"], how, tokens=7, say=said.append) == ["".join(said)]
    assert said[0] == "abc"
    assert isinstance(how, Beams) or len(said) == 9  # the prompt, seven tokens, and what is left


def test_no_half_character_is_said() -> None:
    """A model over bytes that are no text: what is said is what is decoded."""
    from glassrun.models.language_model import LanguageModel
    from writing import fill

    model = fill(LanguageModel(256, 9, num_layers=1, d_model=6, num_heads=3, d_ff=11), 3)
    generator = TextGenerator(model, TextEncoding(ByteTokenizer(special=False), 9))
    said: list[str] = []
    (text,) = generator.write(["é"], Sampling(3.0), tokens=60, say=said.append)
    assert "".join(said) == text
    assert "�" in text


def test_a_stop_ends_the_text_with_itself() -> None:
    generator = TextGenerator(language_model(2), CHARACTERS)
    whole = generator.write(["a"], Sampling(), tokens=50)[0]
    letter = whole[5]
    assert generator.write(["a"], Sampling(), tokens=50, stop=letter) == [whole[: whole.index(letter, 1) + 1]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"prompts": [""]}, "at least one character"),
        ({"prompts": ["a", "x"]}, "text 2 of 2: .*not trained on: 'x'"),
        ({"prompts": ["a"], "tokens": 0}, "tokens 0: expected a whole number from 1 up"),
        ({"prompts": ["a"], "tokens": 1.5}, "tokens 1.5: expected a whole number"),
        ({"prompts": ["a"], "stop": "ab"}, "expected a text of one token, found 2 tokens"),
    ],
)
def test_texts_that_cannot_be_read_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        TextGenerator(language_model(2), CHARACTERS).write(how=Greedy(), **given)
