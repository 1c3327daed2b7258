"""BLEU: a value by hand, and the command that translates a file and compares it with people's translations."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from glassrun.bleu import bleu
from glassrun.errors import DataError, MissingDependency
from in_process import trained
from support import Command, Made


def test_a_score_by_hand() -> None:
    """Of "the cat sat on the mat" 5 of 6 words are in the reference (its second "the" is one too many), 3 of 5 pairs, 2
    of 4 triples and 1 of 3 quadruples; it is as long as the reference."""
    found = bleu(["the cat sat on the mat"], ["the cat sat on a mat"], lowercase=False)
    assert found.score == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    assert str(found).startswith("BLEU 53.72 (nrefs:1|case:mixed|")  # 53.728…: never rounded up


def test_a_short_translation_is_punished() -> None:
    """All its words and their pairs are right, but it has 5 of 6 words: e^(1 − 6/5)."""
    found = bleu(["the cat sat on a"], ["the cat sat on a mat"], lowercase=False)
    assert found.score == pytest.approx(100 * 2.718281828459045 ** (1 - 6 / 5))


def test_case_counts_only_where_the_model_has_one() -> None:
    assert bleu(["a dog sees a cat"], ["A Dog sees A Cat"], lowercase=True).score == pytest.approx(100.0)
    assert bleu(["a dog sees a cat"], ["A Dog sees A Cat"], lowercase=False).score < 50.0


def test_every_text_needs_a_reference() -> None:
    with pytest.raises(DataError, match="found 1 for 2 texts"):
        bleu(["a", "b"], ["a"], lowercase=False)


def test_the_message_without_sacrebleu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(MissingDependency, match=r"glassrun\[recipes\]"):
        bleu(["a"], ["a"], lowercase=False)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A translator that knows lower case alone, and a model that does not translate."""
    folder = tmp_path_factory.mktemp("runs")
    lower = made.recipe("odd-pairs", **{"data.lowercase": True})
    return {
        "lower": trained(lower, folder / "lower").path,
        "text": trained(made.recipe("odd-lm"), folder / "text").path,
    }


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    lines, people = tmp_path / "lines", tmp_path / "people"
    lines.write_text("glass run\nstep SHARD tree\n")
    people.write_text("ONE TWO\nThree\n")
    return lines, people


def test_lines_and_their_references(
    runs: dict[str, Path], files: tuple[Path, Path], command: Command, tmp_path: Path
) -> None:
    """A model's own translations in capitals are perfect references of a model without capitals."""
    lines, people = files
    first = command("predict", runs["lower"], "--lines", lines, "--references", people, "--json").json
    assert len(first["translations"]) == 2
    assert all(text == text.lower() for text in first["translations"])
    assert first["bleu"] < 100
    assert "case:lc" in first["signature"]
    own = tmp_path / "own"
    own.write_text("".join(f"{text.upper()}\n" for text in first["translations"]))
    said = command("predict", runs["lower"], "--lines", lines, "--references", own).out.splitlines()
    assert said[:2] == first["translations"]
    assert said[-1].startswith(f"BLEU {bleu(first['translations'], first['translations'], lowercase=True).score:.2f}")


def test_case_of_a_source_does_not_matter_to_such_a_model(runs: dict[str, Path], command: Command) -> None:
    said = [command("predict", runs["lower"], "--text", text).out for text in ("glass RUN", "Glass run")]
    assert said[0] == said[1]


def test_what_would_be_ignored_or_does_not_fit_is_refused(
    runs: dict[str, Path], files: tuple[Path, Path], command: Command
) -> None:
    lines, people = files
    one = lines.with_name("one")
    one.write_text("one\n")
    for arguments, message in (
        ((runs["lower"], "--text", "a", "--references", people), "would be ignored without --lines"),
        ((runs["lower"], "--lines", lines, "--references", one), "one for each of 2 lines, found 1"),
        ((runs["lower"], "--lines", lines, "--references", lines.with_name("none")), "none"),
        ((runs["text"], "--lines", lines, "--references", people), "--references"),
    ):
        done = command("predict", *arguments)
        assert done.code == 2
        assert message in done.err
        assert "Traceback" not in done.err
