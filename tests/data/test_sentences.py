"""Sentences of a small grammar and their translation."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from pydantic import ValidationError

from glassrun.data import sentences
from glassrun.data.sentences import (
    ADJECTIVES,
    ADVERBS,
    AUXILIARIES,
    BEINGS,
    PLACES,
    PREPOSITIONS,
    THINGS,
    VERBS,
    phrase,
)
from glassrun.data.source import Dataset
from glassrun.data.tokenizers import UNKNOWN
from glassrun.errors import DataError
from glassrun.sections.data import SentencesData

# German grammar as a textbook prints it: article, adjective ending, gender, case.
DECLENSION = """
der e  masculine nominative   ein er   masculine nominative
den en masculine accusative   einen en masculine accusative
dem en masculine dative       einem en masculine dative
die e  feminine nominative    eine e   feminine nominative
die e  feminine accusative    eine e   feminine accusative
der en feminine dative        einer en feminine dative
das e  neuter nominative      ein es   neuter nominative
das e  neuter accusative      ein es   neuter accusative
dem en neuter dative          einem en neuter dative
"""
ROWS = [tuple(DECLENSION.split()[i : i + 4]) for i in range(0, len(DECLENSION.split()), 4)]
NOUNS = {noun.german: noun for noun in (*BEINGS, *THINGS, *PLACES)}
STEMS = {german: english for english, german in ADJECTIVES}
BASES = {verb.german[0] for verb in VERBS}
PARTICIPLES = {verb.german[2] for verb in VERBS}
FINITE = {verb.german[1] for verb in VERBS} | {auxiliary.german for auxiliary in AUXILIARIES}
DRAWN = [sentences.example(1, number) for number in range(2000)]


def load(**fields: Any) -> Dataset:
    return sentences.load(SentencesData(source="sentences", **fields), 1)


@pytest.mark.parametrize(("article", "ending", "gender", "case"), ROWS)
def test_articles_and_adjectives_are_declined_as_in_the_textbook(
    article: str, ending: str, gender: Any, case: Any
) -> None:
    definite = not article.startswith("e")
    nouns = [noun for noun in NOUNS.values() if noun.gender == gender]
    assert len(nouns) >= 2
    for noun, adjective in itertools.product(nouns, ADJECTIVES):
        assert phrase(noun, None, case, definite=definite)[1] == f"{article} {noun.german}"
        found = phrase(noun, adjective, case, definite=definite)[1]
        assert found == f"{article} {adjective[1]}{ending} {noun.german}"


def test_the_english_article_follows_the_next_word() -> None:
    apple = next(noun for noun in THINGS if noun.english == "apple")
    red, old = (next(a for a in ADJECTIVES if a[0] == name) for name in ("red", "old"))
    assert phrase(apple, None, "accusative", definite=False)[0] == "an apple"
    assert phrase(apple, red, "accusative", definite=False)[0] == "a red apple"
    assert phrase(BEINGS[0], old, "nominative", definite=False)[0] == "an old dog"
    assert phrase(apple, old, "dative", definite=True)[0] == "the old apple"


def test_the_finite_verb_is_the_second_part_and_the_rest_of_it_the_last() -> None:
    """In every sentence: a parse of the German one, word by word."""
    adverbs = {german for _, german in ADVERBS}
    for english, german in DRAWN:
        words = german.split()
        place = next(i for i, word in enumerate(words) if word in FINITE)
        assert place == 1 if words[0] in adverbs else words[place - 1] in NOUNS
        if words[place] == "hat":
            assert words[-1] in PARTICIPLES, english
        elif words[place] in {auxiliary.german for auxiliary in AUXILIARIES}:
            assert words[-1] in BASES, english
        else:
            assert not {*words} & (BASES | PARTICIPLES), english


def test_every_phrase_has_the_case_of_its_place() -> None:
    """The subject is nominative, what comes after it accusative, and after a preposition dative."""
    prepositions = {german for _, german in PREPOSITIONS}
    for _, german in DRAWN:
        words = german.split()
        wanted = iter(["nominative", "accusative"])
        start = 0
        for end, word in enumerate(words):
            if word in prepositions:
                wanted = iter(["dative"])
            if word in ("der", "die", "das", "den", "dem") or word.startswith("ein"):
                start = end
            if word in NOUNS:
                case = next(wanted)
                ending = words[end - 1].removeprefix(next((s for s in STEMS if words[end - 1].startswith(s)), ""))
                rows = [row for row in ROWS if row[0] == words[start] and row[2:] == (NOUNS[word].gender, case)]
                assert rows, german
                assert end - start == 1 or ending == rows[0][1], german


def test_both_sides_say_the_same() -> None:
    """Every noun and adjective of the one has its translation in the other, as often and in the same order."""
    nouns = {noun.english: noun.german for noun in NOUNS.values()}
    for english, german in DRAWN:
        assert [nouns[word] for word in english.split() if word in nouns] == [w for w in german.split() if w in NOUNS]
        stems = [next((STEMS[s] for s in STEMS if word.startswith(s)), None) for word in german.split()]
        described = [word for word in english.split() if word in dict(ADJECTIVES)]
        assert [stem for stem in stems if stem] == described


def test_no_two_sentences_are_translated_alike() -> None:
    assert len({english for english, _ in DRAWN}) == len(set(DRAWN)) == len({german for _, german in DRAWN})


def test_examples_reach_every_word() -> None:
    english, german = sentences.vocabularies()
    drawn = [sentences.example(2, number) for number in range(4000)]
    assert {word for text, _ in drawn for word in text.split()} == set(english.words)
    # The vocabulary has adjectives and articles in every case, some of them with no noun that asks for it.
    assert {word for _, text in drawn for word in text.split()} <= set(german.words)


def test_an_example_follows_from_seed_and_number() -> None:
    assert sentences.example(5, 3) == sentences.example(5, 3)
    assert len({sentences.example(1, number) for number in range(300)}) > 280
    assert len({sentences.example(seed, 0) for seed in range(300)}) > 280


# --- as a data source ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load(examples=2000)


def test_the_splits_share_no_sentence_and_hold_all(dataset: Dataset) -> None:
    found = {name: {source for source, _ in split.pairs} for name, split in dataset.splits.items()}  # type: ignore[attr-defined]
    assert list(found) == ["train", "validation", "test"]
    assert all(not found[a] & found[b] for a, b in itertools.combinations(found, 2))
    assert sum(map(len, dataset.splits.values())) == 2000
    assert sum(dataset.manifest["left_out"].values()) == 0
    assert dataset.manifest["rule"] == "hash of the English sentence, 80/10/10"


def test_more_examples_move_no_sentence(dataset: Dataset) -> None:
    few = load(examples=500)
    for name, split in few.splits.items():
        assert set(split.pairs) <= set(dataset.splits[name].pairs)  # type: ignore[attr-defined]
    assert few.encoding.to_plain() == dataset.encoding.to_plain()


def test_no_word_is_unknown_and_every_sentence_is_short_enough(dataset: Dataset) -> None:
    for split in dataset.splits.values():
        for index in range(len(split)):
            found = split.example(index, 1)
            assert UNKNOWN not in found["source"]
            assert UNKNOWN not in found["target"]
            assert max(map(len, found.values())) <= dataset.facts["max_length"]


def test_the_seed_matters() -> None:
    section = SentencesData(source="sentences", examples=50)
    assert sentences.load(section, 1).manifest["splits"] != sentences.load(section, 2).manifest["splits"]
    assert sentences.load(section, 1).manifest == sentences.load(section, 1).manifest


def test_too_few_examples_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentences, "content_key", lambda *_: b"\xff" * 16)  # all into the test split
    with pytest.raises(DataError, match=r"data\.examples: 3 are too few"):
        load(examples=3)


def test_a_path_would_be_ignored_and_is_refused() -> None:
    with pytest.raises(ValidationError, match="path"):
        load(path="sentences.txt")
