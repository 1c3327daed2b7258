"""English sentences of a small grammar and their German translation; made from word lists, keyed by the seed.

What a translator must learn is in them. A German article and adjective follow the noun's gender and its case; after an
adverb the verb comes before its subject ("heute sieht der Hund …"); and with an auxiliary the main verb stands at the
end ("der Hund will den roten Ball sehen"), so the order of the words is another than in English.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from glassrun.data.encoding import PairEncoding
from glassrun.data.manifest import manifest
from glassrun.data.pairs import Pair, facts, fitting, preprocessing
from glassrun.data.source import Dataset
from glassrun.data.splits import by_hash, content_key
from glassrun.data.tokenizers import WordTokenizer
from glassrun.errors import DataError
from glassrun.keys import derive
from glassrun.sections.data import SentencesData

Gender = Literal["masculine", "feminine", "neuter"]
Case = Literal["nominative", "accusative", "dative"]
_T = TypeVar("_T")

_MAX_LENGTH = 20  # tokens; the longest English sentence has 14 words


@dataclass(frozen=True)
class Noun:
    english: str
    german: str
    gender: Gender


@dataclass(frozen=True)
class Verb:
    """A verb's base, its form with "he", and its participle, in both languages; without an object if intransitive."""

    english: tuple[str, str, str]
    german: tuple[str, str, str]
    transitive: bool


@dataclass(frozen=True)
class Auxiliary:
    """A word, or two, that changes the verb: to its base ("must see"), or to its participle ("has seen")."""

    english: str
    german: str
    participle: bool = False


BEINGS = (
    Noun("dog", "Hund", "masculine"),
    Noun("fox", "Fuchs", "masculine"),
    Noun("bird", "Vogel", "masculine"),
    Noun("king", "König", "masculine"),
    Noun("cat", "Katze", "feminine"),
    Noun("mouse", "Maus", "feminine"),
    Noun("cow", "Kuh", "feminine"),
    Noun("queen", "Königin", "feminine"),
    Noun("horse", "Pferd", "neuter"),
    Noun("sheep", "Schaf", "neuter"),
    Noun("pig", "Schwein", "neuter"),
    Noun("chicken", "Huhn", "neuter"),
)
THINGS = (
    Noun("ball", "Ball", "masculine"),
    Noun("apple", "Apfel", "masculine"),
    Noun("flower", "Blume", "feminine"),
    Noun("lamp", "Lampe", "feminine"),
    Noun("book", "Buch", "neuter"),
    Noun("picture", "Bild", "neuter"),
)
PLACES = (
    Noun("tree", "Baum", "masculine"),
    Noun("garden", "Garten", "masculine"),
    Noun("bridge", "Brücke", "feminine"),
    Noun("church", "Kirche", "feminine"),
    Noun("house", "Haus", "neuter"),
    Noun("castle", "Schloss", "neuter"),
)
ADJECTIVES = (
    ("small", "klein"),
    ("big", "groß"),
    ("old", "alt"),
    ("good", "gut"),
    ("beautiful", "schön"),
    ("red", "rot"),
    ("white", "weiß"),
    ("black", "schwarz"),
    ("blue", "blau"),
    ("brown", "braun"),
)
VERBS = (
    Verb(("see", "sees", "seen"), ("sehen", "sieht", "gesehen"), True),
    Verb(("hear", "hears", "heard"), ("hören", "hört", "gehört"), True),
    Verb(("find", "finds", "found"), ("finden", "findet", "gefunden"), True),
    Verb(("love", "loves", "loved"), ("lieben", "liebt", "geliebt"), True),
    Verb(("seek", "seeks", "sought"), ("suchen", "sucht", "gesucht"), True),
    Verb(("carry", "carries", "carried"), ("tragen", "trägt", "getragen"), True),
    Verb(("draw", "draws", "drawn"), ("zeichnen", "zeichnet", "gezeichnet"), True),
    Verb(("know", "knows", "known"), ("kennen", "kennt", "gekannt"), True),
    Verb(("sleep", "sleeps", "slept"), ("schlafen", "schläft", "geschlafen"), False),
    Verb(("sing", "sings", "sung"), ("singen", "singt", "gesungen"), False),
    Verb(("dance", "dances", "danced"), ("tanzen", "tanzt", "getanzt"), False),
    Verb(("wait", "waits", "waited"), ("warten", "wartet", "gewartet"), False),
)
AUXILIARIES = (
    Auxiliary("wants to", "will"),
    Auxiliary("must", "muss"),
    Auxiliary("can", "kann"),
    Auxiliary("will", "wird"),
    Auxiliary("has", "hat", participle=True),
)
ADVERBS = (("today", "heute"), ("here", "hier"))
PREPOSITIONS = (("behind", "hinter"), ("beside", "neben"), ("before", "vor"))  # of a place, all with the dative

_DEFINITE: dict[Case, dict[Gender, str]] = {
    "nominative": {"masculine": "der", "feminine": "die", "neuter": "das"},
    "accusative": {"masculine": "den", "feminine": "die", "neuter": "das"},
    "dative": {"masculine": "dem", "feminine": "der", "neuter": "dem"},
}
_INDEFINITE: dict[Case, dict[Gender, str]] = {
    "nominative": {"masculine": "ein", "feminine": "eine", "neuter": "ein"},
    "accusative": {"masculine": "einen", "feminine": "eine", "neuter": "ein"},
    "dative": {"masculine": "einem", "feminine": "einer", "neuter": "einem"},
}
# Where the article does not show gender and case (ein Hund), the adjective does (ein kleiner Hund).
_STRONG_ENDINGS: dict[Gender, str] = {"masculine": "er", "feminine": "e", "neuter": "es"}


class _Choices:
    """Choices that follow from one number: its digits in a mixed radix."""

    def __init__(self, number: int) -> None:
        self.rest = number

    def of(self, options: Sequence[_T]) -> _T:
        self.rest, index = divmod(self.rest, len(options))
        return options[index]

    def perhaps(self, options: Sequence[_T]) -> _T | None:
        """None as often as all the options together."""
        chosen = self.of(options)
        return chosen if self.of((True, False)) else None


def example(seed: int, number: int) -> Pair:
    """The sentence that a number stands for, in English and in German; keyed by (seed, number).

    >>> example(1, 14)
    ('here the sheep has loved the ball', 'hier hat das Schaf den Ball geliebt')
    """
    choices = _Choices(derive(seed, "sentence", number))
    verb, auxiliary = choices.of(VERBS), choices.perhaps(AUXILIARIES)
    subject = _phrase(choices, BEINGS, "nominative")
    things = _phrase(choices, BEINGS + THINGS + PLACES, "accusative") if verb.transitive else ("", "")
    adverb, preposition = choices.perhaps(ADVERBS), choices.perhaps(PREPOSITIONS)
    place = _phrase(choices, PLACES, "dative") if preposition else ("", "")
    finite, last = _verb_forms(verb, auxiliary)
    early, where = adverb or ("", ""), preposition or ("", "")
    english = (early[0], subject[0], finite[0], last[0], things[0], where[0], place[0])
    first = (early[1], finite[1], subject[1]) if adverb else (subject[1], finite[1])
    german = (*first, things[1], where[1], place[1], last[1])
    return _joined(english), _joined(german)


def _verb_forms(verb: Verb, auxiliary: Auxiliary | None) -> tuple[Pair, Pair]:
    """What agrees with the subject, and what is left of the verb after an auxiliary; each in both languages."""
    if auxiliary is None:
        return (verb.english[1], verb.german[1]), ("", "")
    form = 2 if auxiliary.participle else 0
    return (auxiliary.english, auxiliary.german), (verb.english[form], verb.german[form])


def _phrase(choices: _Choices, nouns: Sequence[Noun], case: Case) -> Pair:
    noun, adjective, definite = choices.of(nouns), choices.perhaps(ADJECTIVES), choices.of((True, False))
    return phrase(noun, adjective, case, definite=definite)


def phrase(noun: Noun, adjective: Pair | None, case: Case, *, definite: bool) -> Pair:
    """A noun with its article and perhaps an adjective, in English and in German.

    >>> phrase(BEINGS[0], ("small", "klein"), "accusative", definite=False)
    ('a small dog', 'einen kleinen Hund')
    """
    words = (adjective[0], noun.english) if adjective else (noun.english,)
    article = "the" if definite else "an" if words[0][0] in "aeiou" else "a"
    german = (_DEFINITE if definite else _INDEFINITE)[case][noun.gender]
    described = adjective[1] + _ending(noun.gender, case, definite=definite) if adjective else ""
    return _joined((article, *words)), _joined((german, described, noun.german))


def _ending(gender: Gender, case: Case, *, definite: bool) -> str:
    """Of an adjective in the singular: weak after the definite article, mixed after the indefinite one."""
    if case == "dative" or (case == "accusative" and gender == "masculine"):
        return "en"
    return "e" if definite else _STRONG_ENDINGS[gender]


def _joined(parts: Sequence[str]) -> str:
    return " ".join(part for part in parts if part)


def vocabularies() -> tuple[WordTokenizer, WordTokenizer]:
    """Every word that an English and a German sentence can have: they depend on no sample."""
    nouns = (*BEINGS, *THINGS, *PLACES)
    pairs: list[Pair] = [*ADVERBS, *PREPOSITIONS]
    pairs += [(auxiliary.english, auxiliary.german) for auxiliary in AUXILIARIES]
    pairs += [pair for verb in VERBS for pair in zip(verb.english, verb.german, strict=True)]
    pairs += [
        phrase(noun, adjective, case, definite=definite)
        for noun in nouns
        for adjective in (None, *ADJECTIVES)
        for case in _DEFINITE
        for definite in (True, False)
    ]
    english, german = ({word for pair in pairs for word in pair[side].split()} for side in (0, 1))
    return WordTokenizer(english), WordTokenizer(german)


def encoding_of_words() -> PairEncoding:
    """How sentences become tokens: words, whatever the examples are."""
    return PairEncoding(*vocabularies(), _MAX_LENGTH)


def load(section: SentencesData, seed: int) -> Dataset:
    """Sentences drawn by (seed, number), split by a hash of the English one: none of a split is in another."""
    pairs = [example(seed, number) for number in range(section.examples)]
    indices = by_hash([content_key(source.encode()) for source, _ in pairs])
    parts = {name: [pairs[index] for index in chosen] for name, chosen in indices.items() if len(chosen)}
    if "train" not in parts:
        raise DataError(f"data.examples: {section.examples} are too few: none fell into the training split")
    encoding = encoding_of_words()
    splits, left_out = fitting(parts, encoding)
    described = manifest(
        section.source,
        splits=splits,
        rule="hash of the English sentence, 80/10/10",
        preprocessing=[{"step": "make", "grammar": 1}, *preprocessing(encoding)],
        left_out=left_out,
    )
    return Dataset(splits, described, facts(encoding), encoding)
