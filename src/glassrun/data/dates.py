"""Dates as people write them in many languages, and their ISO form; made from Babel's locale data, keyed by the seed.

Only forms whose meaning is determined: the month has a name (or a sign of its own, as 月), or the year comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from glassrun.data.encoding import PairEncoding
from glassrun.data.manifest import manifest
from glassrun.data.pairs import Pair, facts, fitting, preprocessing
from glassrun.data.source import Dataset
from glassrun.data.splits import by_hash, content_key
from glassrun.data.tokenizers import CharTokenizer
from glassrun.errors import ConfigError, DataError, MissingDependency, nearest
from glassrun.keys import derive
from glassrun.sections.data import DatesData

LANGUAGES = ("ca", "da", "de", "en", "es", "fi", "fr", "hu", "it", "ja", "ko", "nl", "pl", "pt", "ru", "sv", "tr", "zh")

# What people also write, in the notation of Babel's own patterns (Unicode LDML). `{th}` is the English ordinal's end.
_ALSO = {
    "en": (
        "d MMMM y",
        "d MMM y",
        "EEE, d MMM y",
        "EEEE d MMMM y",
        "MMMM d'{th}', y",
        "d'{th}' 'of' MMMM y",
        "'the' d'{th}' 'of' MMMM, y",
        "y-MM-dd",
        "y/MM/dd",
        "y MMMM d",
    ),
    "fr": ("'le' d MMMM y", "'le' EEEE d MMMM y"),
    "de": ("'den' d. MMMM y", "EEE, d. MMM y"),
    "es": ("'el' d 'de' MMMM 'de' y", "d MMMM y"),
    "it": ("'il' d MMMM y",),
    "pt": ("d MMMM y",),
    "nl": ("'op' d MMMM y",),
    "sv": ("'den' d MMMM y",),
}
_CASES: tuple[Callable[[str], str], ...] = (*([str] * 7), *([str.lower] * 2), str.upper)  # by how often
_MAX_LENGTH = 64  # tokens; the longest form has about 50 characters


@dataclass(frozen=True)
class Form:
    """One way to write a date in one language."""

    language: str
    pattern: str
    pieces: tuple[Callable[[date], str], ...]

    def write(self, day: date) -> str:
        """The date as text.

        >>> next(form for form in forms() if form.pattern == "'le' d MMMM y").write(date(2026, 3, 3))
        'le 3 mars 2026'
        """
        # Some of Babel's patterns hold a narrow no-break space; people type a plain one.
        return "".join(piece(day) for piece in self.pieces).replace("\u202f", " ")


class Calendar:
    """The dates of some years, in every form of some languages.

    Arguments:
        languages: of `LANGUAGES`; an example's language is drawn from them evenly, and then its form.
        first_year, last_year: both included.
    """

    def __init__(self, languages: Sequence[str], first_year: int, last_year: int) -> None:
        self.forms = [forms([language]) for language in languages]
        self.first = date(first_year, 1, 1).toordinal()
        self.days = date(last_year, 12, 31).toordinal() - self.first + 1

    def example(self, seed: int, number: int) -> Pair:
        """The date that a number stands for, as people write it and as ISO 8601 does; keyed by (seed, number).

        >>> Calendar(["fr"], 1990, 2009).example(1, 0)
        ('lundi 13 septembre 1993', '1993-09-13')
        """
        rest, day = divmod(derive(seed, "date", number), self.days)
        rest, language = divmod(rest, len(self.forms))
        rest, form = divmod(rest, len(self.forms[language]))
        written = date.fromordinal(self.first + day)
        return _CASES[rest % len(_CASES)](self.forms[language][form].write(written)), written.isoformat()

    def alphabet(self) -> str:
        """Every character that any form of any date can have: it depends on no sample."""
        days = [date(2024, month, month) for month in range(1, 13)] + [date(2024, 1, day) for day in range(1, 8)]
        texts = [form.write(day) for own in self.forms for form in own for day in days]
        cased = {character for text in texts for case in (str, str.lower, str.upper) for character in case(text)}
        return "".join(sorted(cased | set("0123456789")))


def load(section: DatesData, seed: int) -> Dataset:
    """Dates drawn by (seed, number), split by a hash of the ISO date: no date of a split is in another in any form."""
    languages = _languages(section)
    calendar = Calendar(languages, section.first_year, section.last_year)
    pairs = [calendar.example(seed, number) for number in range(section.examples)]
    indices = by_hash([content_key(target.encode()) for _, target in pairs])
    parts = {name: [pairs[index] for index in chosen] for name, chosen in indices.items() if len(chosen)}
    if "train" not in parts:
        raise DataError(f"data.examples: {section.examples} are too few: none fell into the training split")
    source, target = CharTokenizer(calendar.alphabet(), special=True), CharTokenizer("0123456789-", special=True)
    encoding = PairEncoding(source, target, _MAX_LENGTH)
    splits, left_out = fitting(parts, encoding)
    described = manifest(
        section.source,
        splits=splits,
        rule="hash of the ISO date, 80/10/10",
        preprocessing=[
            {
                "step": "make",
                "languages": list(languages),
                "first_year": section.first_year,
                "last_year": section.last_year,
            },
            *preprocessing(encoding),
        ],
        versions={"babel": _version()},
        left_out=left_out,
    )
    return Dataset(splits, described, facts(encoding), encoding)


def _languages(section: DatesData) -> tuple[str, ...]:
    for language in section.languages or ():
        if language not in LANGUAGES:
            raise ConfigError(f"data.languages: {language!r} is not known; {nearest(language, LANGUAGES)}")
    if section.languages == ():
        raise ConfigError("data.languages: expected at least one language, found none")
    return tuple(sorted(set(section.languages or LANGUAGES)))


def forms(languages: Sequence[str] = LANGUAGES) -> tuple[Form, ...]:
    """Every way to write a date, by language and then by pattern.

    Raises:
        MissingDependency: Babel is not installed.
    """
    return tuple(
        Form(language, pattern, _pieces(language, pattern))
        for language in languages
        for pattern in sorted({*_patterns_of(language), *_ALSO.get(language, ())})
    )


def _locale(language: str) -> Any:
    try:
        from babel import Locale
    except ImportError:
        raise MissingDependency("babel", "the dates recipe", extra="recipes") from None
    return Locale.parse(language)


def _patterns_of(language: str) -> list[str]:
    """Babel's full, long and medium patterns and the one for "yMMMd", as far as they are determined."""
    locale = _locale(language)
    found = [locale.date_formats[length].pattern for length in ("full", "long", "medium")]
    found.append(locale.datetime_skeletons["yMMMd"].pattern)
    return [pattern for pattern in found if "MMM" in pattern or "LLL" in pattern or pattern.startswith("y")]


def _pieces(language: str, pattern: str) -> tuple[Callable[[date], str], ...]:
    """What a pattern writes, one part after the other."""
    from babel.dates import tokenize_pattern

    locale = _locale(language)
    return tuple(
        _literal(value) if isinstance(value, str) else _field(locale, *value) for _, value in tokenize_pattern(pattern)
    )


def _literal(text: str) -> Callable[[date], str]:
    if "{th}" in text:
        return lambda day: text.replace("{th}", _english_ordinal(day.day))
    return lambda _: text


def _field(locale: Any, letter: str, width: int) -> Callable[[date], str]:
    """A field of Unicode's date patterns: y the year, M and L the month, d the day, E and c the weekday."""
    context = "stand-alone" if letter in "Lc" else "format"
    length = "wide" if width >= 4 else "abbreviated"
    if letter == "y":
        return lambda day: str(day.year)
    if letter == "d":
        return lambda day: f"{day.day:0{width}}"
    if letter in "ML" and width <= 2:
        return lambda day: f"{day.month:0{width}}"
    if letter in "ML":
        months = dict(locale.months[context][length])
        return lambda day: str(months[day.month])
    assert letter in "Ec", f"the field {letter} is in no pattern that is used"
    weekdays = dict(locale.days[context][length])
    return lambda day: str(weekdays[day.weekday()])


def _english_ordinal(number: int) -> str:
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number not in (11, 12, 13) else 0, "th")


def _version() -> str:
    from importlib.metadata import version

    return version("babel")
