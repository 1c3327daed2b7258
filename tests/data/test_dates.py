"""Dates as people write them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import date, timedelta
from importlib.metadata import version
from typing import Any

import pytest
from babel import Locale
from babel.dates import format_date
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from glassrun import config
from glassrun.data import dates
from glassrun.data.dates import LANGUAGES, Calendar, forms
from glassrun.data.source import Dataset
from glassrun.data.tokenizers import UNKNOWN
from glassrun.errors import ConfigError, DataError
from glassrun.sections.data import DatesData

PROPERTY = settings(max_examples=30, deadline=None, database=None, derandomize=True)
BABEL_FORMS = [form for form in forms() if "{th}" not in form.pattern]
TWO_YEARS = [date(2023, 1, 1) + timedelta(days=number) for number in range(731)]  # one of them a leap year


CALENDARS: dict[Any, Calendar] = {}


def example(seed: int, number: int, *, languages: Sequence[str], first_year: int, last_year: int) -> tuple[str, str]:
    key = (*languages, first_year, last_year)
    if key not in CALENDARS:
        CALENDARS[key] = Calendar(languages, first_year, last_year)
    return CALENDARS[key].example(seed, number)


def load(**fields: Any) -> Dataset:
    return dates.load(DatesData(source="dates", **fields), 1)


# --- forms -----------------------------------------------------------------------------------------------------------


def test_there_are_many_languages_with_several_forms_each() -> None:
    assert len(LANGUAGES) >= 12
    assert len(set(LANGUAGES)) == len(LANGUAGES)
    for language in LANGUAGES:
        assert len([form for form in forms() if form.language == language]) >= 2


def test_babels_own_patterns_are_there() -> None:
    for language in LANGUAGES:
        own = {form.pattern for form in forms() if form.language == language}
        locale = Locale.parse(language)
        assert locale.date_formats["full"].pattern in own
        assert locale.date_formats["long"].pattern in own


@pytest.mark.parametrize("form", BABEL_FORMS, ids=[f"{form.language}-{form.pattern}" for form in BABEL_FORMS])
def test_a_form_is_written_as_babel_writes_it(form: dates.Form) -> None:
    """Every month with every weekday and day of month, and years of all centuries that a recipe may name."""
    days = [*TWO_YEARS[::5], *(date(year, year % 12 + 1, year % 28 + 1) for year in range(1000, 3000, 37))]
    for day in days:
        expected = format_date(day, form.pattern, locale=form.language).replace("\u202f", " ")
        assert form.write(day) == expected


ORDINALS = {1: "1st", 2: "2nd", 3: "3rd", 4: "4th", 10: "10th", 11: "11th", 12: "12th", 13: "13th", 20: "20th"}
ORDINALS |= {21: "21st", 22: "22nd", 23: "23rd", 24: "24th", 30: "30th", 31: "31st"}


@pytest.mark.parametrize(("day", "ordinal"), ORDINALS.items())
def test_english_ordinals(day: int, ordinal: str) -> None:
    written = {form.pattern: form.write(date(2024, 3, day)) for form in forms() if "{th}" in form.pattern}
    assert written == {
        "MMMM d'{th}', y": f"March {ordinal}, 2024",
        "d'{th}' 'of' MMMM y": f"{ordinal} of March 2024",
        "'the' d'{th}' 'of' MMMM, y": f"the {ordinal} of March, 2024",
    }


def test_no_text_means_two_dates() -> None:
    """All forms of all languages over two years, as they are, in small letters and in capitals."""
    meanings: dict[str, date] = {}
    for form, day in itertools.product(forms(), TWO_YEARS):
        written = form.write(day)
        for text in {written, written.lower(), written.upper()}:
            assert meanings.setdefault(text, day) == day, f"{text!r} is {day} and {meanings[text]}"
    assert len(meanings) > 100_000


def test_every_form_names_the_month_or_begins_with_the_year() -> None:
    """Else 03/04/2024 would be read one way in one country and the other way in the next."""
    for form in forms():
        march, april = form.write(date(2024, 3, 7)), form.write(date(2024, 4, 7))
        in_words = march.translate(str.maketrans("", "", "0123456789")) != april.translate(
            str.maketrans("", "", "0123456789")
        )
        assert in_words or "月" in march or "월" in march or march.startswith("2024"), form


def test_a_form_means_another_date_in_another_year() -> None:
    for form in forms():
        assert form.write(date(2023, 5, 4)) != form.write(date(2024, 5, 4))


# --- examples --------------------------------------------------------------------------------------------------------


def is_written(text: str, day: date, languages: tuple[str, ...]) -> bool:
    return any(
        text in (written, written.lower(), written.upper())
        for form in forms()
        if form.language in languages
        for written in (form.write(day),)
    )


@PROPERTY
@given(
    seed=st.integers(0, 2**63 - 1),
    number=st.integers(0, 10**9),
    languages=st.lists(st.sampled_from(LANGUAGES), min_size=1, max_size=4, unique=True).map(sorted).map(tuple),
    years=st.tuples(st.integers(1000, 9999), st.integers(1000, 9999)).map(sorted),
)
def test_an_example_follows_its_arguments(seed: int, number: int, languages: tuple[str, ...], years: list[int]) -> None:
    arguments: dict[str, Any] = {"languages": languages, "first_year": years[0], "last_year": years[1]}
    text, iso = example(seed, number, **arguments)
    assert example(seed, number, **arguments) == (text, iso)
    day = date.fromisoformat(iso)
    assert day.isoformat() == iso
    assert years[0] <= day.year <= years[1]
    assert is_written(text, day, languages)


def test_examples_reach_every_language_form_and_day() -> None:
    arguments: dict[str, Any] = {"languages": ("en", "fr"), "first_year": 2024, "last_year": 2024}
    found = [example(3, number, **arguments) for number in range(8000)]
    assert len({iso for _, iso in found}) == 366
    for form in forms():
        if form.language in ("en", "fr"):
            assert any(form.write(date.fromisoformat(iso)) == text for text, iso in found), form.pattern


def test_one_text_in_ten_is_in_capitals_and_two_in_small_letters() -> None:
    """English months have capital letters of their own; 4,000 examples, within four standard deviations."""
    drawn = [example(3, number, languages=("en",), first_year=2024, last_year=2024)[0] for number in range(4000)]
    cased = [text for text in drawn if text.lower() != text.upper()]
    for share, found in ((0.1, sum(map(str.isupper, cased))), (0.2, sum(map(str.islower, cased)))):
        assert abs(found - share * len(cased)) < 4 * (len(cased) * share * (1 - share)) ** 0.5


def test_numbers_and_seeds_give_different_examples() -> None:
    arguments: dict[str, Any] = {"languages": LANGUAGES, "first_year": 1000, "last_year": 2999}
    assert len({example(1, number, **arguments) for number in range(300)}) > 290
    assert len({example(seed, 0, **arguments) for seed in range(300)}) > 290


# --- as a data source ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load(examples=3000, first_year=1990, last_year=2009)


def test_the_examples_are_those_of_the_numbers(dataset: Dataset) -> None:
    found = sorted(pair for split in dataset.splits.values() for pair in split.pairs)
    arguments: dict[str, Any] = {"languages": LANGUAGES, "first_year": 1990, "last_year": 2009}
    assert found == sorted(example(1, number, **arguments) for number in range(3000))
    assert sum(dataset.manifest["left_out"].values()) == 0


def test_no_date_of_the_test_split_is_in_training_in_any_form(dataset: Dataset) -> None:
    iso = {name: {target for _, target in split.pairs} for name, split in dataset.splits.items()}
    assert list(iso) == ["train", "validation", "test"]
    assert all(iso.values())
    for a, b in itertools.combinations(iso, 2):
        assert not iso[a] & iso[b]


def test_more_examples_move_no_date(dataset: Dataset) -> None:
    def place_of(dataset: Dataset) -> dict[str, str]:
        return {target: name for name, split in dataset.splits.items() for _, target in split.pairs}

    before, after = place_of(load(examples=500, first_year=1990, last_year=2009)), place_of(dataset)
    assert {iso: after[iso] for iso in before} == before


def test_no_character_is_unknown(dataset: Dataset) -> None:
    for split in dataset.splits.values():
        for index in range(len(split)):
            found = split.example(index, 1)
            assert UNKNOWN not in found["source"]
            assert UNKNOWN not in found["target"]


def test_the_vocabulary_knows_every_form_of_every_day_and_depends_on_no_sample(dataset: Dataset) -> None:
    few = load(examples=50, first_year=1000, last_year=1001)
    assert few.encoding.to_plain() == dataset.encoding.to_plain()
    known = set(dataset.encoding.source.to_plain()["characters"])
    for form, day in itertools.product(forms(), TWO_YEARS[::3]):
        text = form.write(day)
        assert set(text) | set(text.lower()) | set(text.upper()) <= known


def test_every_form_fits_the_longest_text() -> None:
    """Left-out dates would be lost without a word: none is."""
    longest = max(len(form.write(day).upper()) for form in forms() for day in TWO_YEARS)
    assert longest + 1 <= load(examples=50).facts["max_length"]


def test_languages_and_years_are_followed() -> None:
    dataset = load(examples=300, languages=("fr", "ja"), first_year=1999, last_year=2000)
    for split in dataset.splits.values():
        for text, iso in split.pairs:
            assert iso[:4] in ("1999", "2000")
            assert is_written(text, date.fromisoformat(iso), ("fr", "ja"))
    assert "月" in dataset.encoding.source.to_plain()["characters"]
    assert "月" not in load(examples=300, languages=("fr",)).encoding.source.to_plain()["characters"]
    step = dataset.manifest["preprocessing"][0]
    assert step == {"step": "make", "languages": ["fr", "ja"], "first_year": 1999, "last_year": 2000}


def test_the_order_of_languages_does_not_matter() -> None:
    first = load(examples=50, languages=("fr", "de")).manifest
    assert first == load(examples=50, languages=("de", "fr", "de")).manifest


def test_the_seed_matters() -> None:
    section = DatesData(source="dates", examples=50)
    assert dates.load(section, 1).manifest["splits"] != dates.load(section, 2).manifest["splits"]
    assert dates.load(section, 1).manifest == dates.load(section, 1).manifest


def test_the_manifest_names_babel(dataset: Dataset) -> None:
    assert dataset.manifest["versions"] == {"babel": version("babel")}
    assert dataset.manifest["rule"] == "hash of the ISO date, 80/10/10"


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.languages: 'dee' is not known; did you mean 'de'\?"):
        load(languages=("fr", "dee"))
    with pytest.raises(ConfigError, match="at least one language"):
        load(languages=())


@pytest.mark.parametrize("years", [{"first_year": 999}, {"last_year": 10_000}, {"first_year": 2000, "last_year": 1999}])
def test_years_that_cannot_be_are_refused(years: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=r"first_year|last_year"):
        load(**years)
    recipe = {
        "name": "a",
        "task": "translate",
        "data": {"source": "dates"} | years,
        "model": {"kind": "encoder-decoder"},
    }
    with pytest.raises(ConfigError, match=r"first_year|last_year"):
        config.load(recipe)


def test_too_few_examples_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dates, "content_key", lambda *_: b"\xff" * 16)  # all into the test split
    with pytest.raises(DataError, match=r"data\.examples: 3 are too few"):
        load(examples=3)


def test_a_path_would_be_ignored_and_is_refused() -> None:
    with pytest.raises(ValidationError, match="path"):
        load(path="dates.txt")
