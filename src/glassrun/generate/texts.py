"""Texts in, texts out: what a run's encoding and its model write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from glassrun.data.encoding import PairEncoding, TextEncoding
from glassrun.data.tokenizers import BEGIN, END, Spelling, Tokenizer
from glassrun.errors import ConfigError, DataError
from glassrun.generate.beams import beam_search
from glassrun.generate.decoding import Beams, Decoding, key
from glassrun.generate.write import write
from glassrun.generate.writers import TextWriter, TranslationWriter, Writer

Say = Callable[[str], None]

_ROWS = 64  # texts that are written at once
_TOKENS = 200  # that are written to a prompt where nobody says how many


@dataclass(frozen=True)
class _Beginning:
    """What a text is written from: what the model reads, and the first tokens of what it writes."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]


@dataclass(frozen=True)
class TextGenerator:
    """A language model with its encoding: goes on from prompts.

    >>> from glassrun.data.tokenizers import CharTokenizer
    >>> from glassrun.generate.decoding import Greedy
    >>> class Next(nn.Module):
    ...     def forward(self, tokens):
    ...         return nn.functional.one_hot((tokens + 1) % 5, 5).float()
    >>> generator = TextGenerator(Next(), TextEncoding(CharTokenizer("abcde", special=False), 8))
    >>> generator.write(["ab", "d"], Greedy(), tokens=4)
    ['abcdea', 'deabc']
    """

    model: nn.Module
    encoding: TextEncoding
    usual_temperature: ClassVar[float] = 0.8

    def write(
        self,
        prompts: Sequence[str],
        how: Decoding,
        *,
        tokens: int | None = None,
        stop: str | None = None,
        say: Say | None = None,
    ) -> list[str]:
        """Each prompt and what follows it.

        Arguments:
            prompts: each at least a token.
            how: tokens are chosen.
            tokens: the most that are written to each.
            stop: a text of one token, after which nothing is written.
            say: of a single prompt, called with it and with each part as it comes; never with half a character.

        Raises:
            BadInput: a prompt is empty or has characters that the model does not know, or `stop` is not one token.
        """
        tokenizer = self.encoding.tokenizer
        ends = () if stop is None else (_one_token(stop, tokenizer),)
        count = _TOKENS if tokens is None else _positive(tokens)
        beginnings = _each(prompts, self._beginning)
        if say:
            say(prompts[0])
        written = _write(self._writer, beginnings, how, tokenizer, count=count, stop=ends, say=say)
        return [prompt + after for prompt, after in zip(prompts, written, strict=True)]

    def _beginning(self, prompt: str) -> _Beginning:
        tokens = tuple(self.encoding.tokenizer.encode(prompt).tolist())
        if not tokens:
            raise DataError("expected at least one character to go on from, found none")
        return _Beginning((), tokens)

    def _writer(self, beginnings: Sequence[_Beginning]) -> Writer:  # noqa: ARG002 - a prompt is what the rows begin with
        return TextWriter(self.model, self.encoding.context)


@dataclass(frozen=True)
class Translator:
    """An encoder-decoder with its encoding: writes the target of a source."""

    model: nn.Module
    encoding: PairEncoding
    usual_temperature: ClassVar[float] = 0.0

    def write(
        self,
        sources: Sequence[str],
        how: Decoding,
        *,
        tokens: int | None = None,
        stop: str | None = None,
        say: Say | None = None,
    ) -> list[str]:
        """The target of each source.

        Arguments:
            sources: as the lines that the model was trained on.
            how, say: as for `TextGenerator`.
            tokens: the most that are written to each, at most as many as the model can write.
            stop: nothing; a target has an end of its own.

        Raises:
            BadInput: a source is empty or too long, or there is no room for so many tokens.
        """
        if stop is not None:
            raise ConfigError(f"stop {stop!r} would be ignored: a translation ends by itself. Leave it out")
        most = self.encoding.max_length - 1  # beside the begin token
        if tokens is not None and tokens > most:
            raise ConfigError(f"tokens {tokens}: expected at most {most}: the model was trained on no longer target")
        count = most if tokens is None else _positive(tokens)
        beginnings = _each(sources, self._beginning)
        return _write(self._writer, beginnings, how, self.encoding.target, count=count, stop=(END,), say=say)

    def _beginning(self, source: str) -> _Beginning:
        return _Beginning(tuple(self.encoding.encode_source(source.strip()).tolist()), (BEGIN,))

    def _writer(self, beginnings: Sequence[_Beginning]) -> Writer:
        return TranslationWriter(self.model, torch.tensor([beginning.reads for beginning in beginnings]))


def generator_of(model: nn.Module, encoding: TextEncoding | PairEncoding, task: object) -> TextGenerator | Translator:
    """What writes with a model of a task, and its encoding.

    Raises:
        ConfigError: the task's models do not write from left to right.
    """
    if task == "masked-language-model":
        raise ConfigError("the run's model fills gaps in a text, looking both ways; it cannot go on from one")
    return Translator(model, encoding) if isinstance(encoding, PairEncoding) else TextGenerator(model, encoding)


def _each(texts: Sequence[str], beginning: Callable[[str], _Beginning]) -> list[_Beginning]:
    """What each text is written from; of several, an error says which it is about."""
    found = []
    for number, text in enumerate(texts, start=1):
        try:
            found.append(beginning(text))
        except DataError as error:
            raise DataError(f"text {number} of {len(texts)}: {error}" if len(texts) > 1 else str(error)) from None
    return found


def _positive(tokens: int) -> int:
    if type(tokens) is not int or tokens < 1:
        raise ConfigError(f"tokens {tokens!r}: expected a whole number from 1 up")
    return tokens


def _write(
    writer: Callable[[Sequence[_Beginning]], Writer],
    beginnings: Sequence[_Beginning],
    how: Decoding,
    tokenizer: Tokenizer,
    *,
    count: int,
    stop: Sequence[int],
    say: Say | None,
) -> list[str]:
    """What is written to each; those of one length at once, so that nothing needs padding."""
    assert say is None or len(beginnings) == 1, "several texts would be said in one another"
    spelling = Spelling(tokenizer)
    hear = (lambda _, token: say(spelling.add(token))) if say else None
    written: dict[int, Sequence[int]] = {}
    for group in _groups(beginnings, 1 if isinstance(how, Beams) else _ROWS):
        chosen = [beginnings[index] for index in group]
        rows = torch.tensor([beginning.writes for beginning in chosen])
        if isinstance(how, Beams):
            written[group[0]] = beam_search(writer(chosen), rows, how, count=count, stop=stop)[0].tokens
        else:
            keys = [key((*beginning.reads, *beginning.writes)) for beginning in chosen]
            found = write(writer(chosen), rows, how, keys, count=count, stop=stop, hear=hear)
            written |= dict(zip(group, found, strict=True))
    texts = [tokenizer.decode(written[index]) for index in range(len(beginnings))]
    if say:
        say(texts[0] if isinstance(how, Beams) else spelling.end())
    return texts


def _groups(beginnings: Sequence[_Beginning], most: int) -> list[list[int]]:
    """The texts that are written at once: of one length on both sides, and at most so many."""
    by_length = defaultdict[tuple[int, int], list[int]](list)
    for index, beginning in enumerate(beginnings):
        by_length[len(beginning.reads), len(beginning.writes)].append(index)
    return [group[at : at + most] for group in by_length.values() for at in range(0, len(group), most)]


def _one_token(text: str, tokenizer: Tokenizer) -> int:
    tokens = tokenizer.encode(text).tolist()
    if len(tokens) != 1:
        raise ConfigError(f"stop {text!r}: expected a text of one token, found {len(tokens)} tokens")
    return int(tokens[0])
