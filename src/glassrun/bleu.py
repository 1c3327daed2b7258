"""BLEU: how near translations are to those that people made, computed by sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glassrun.errors import DataError, MissingDependency


@dataclass(frozen=True)
class Bleu:
    """A corpus's score, and sacrebleu's own words for how it was computed, without which no score can be compared.

    Attributes:
        score: from 0 to 100.
        signature: number of references, case, tokenisation, smoothing, version.
    """

    score: float
    signature: str

    def __str__(self) -> str:
        return f"BLEU {int(self.score * 100) / 100:.2f} ({self.signature})"


def bleu(translations: Sequence[str], references: Sequence[str], *, lowercase: bool) -> Bleu:
    """The score of a corpus, with one reference each and sacrebleu's own tokenisation (13a).

    Arguments:
        translations, references: as many, in the same order.
        lowercase: whether case does not count.

    Raises:
        BadInput: their numbers differ, or sacrebleu is not installed.

    Source: Papineni et al. 2002; Post 2018, "A Call for Clarity in Reporting BLEU Scores".
    """
    if len(translations) != len(references):
        raise DataError(f"expected a reference for each text, found {len(references)} for {len(translations)} texts")
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ModuleNotFoundError:
        raise MissingDependency("sacrebleu", "BLEU", extra="recipes") from None
    metric = BLEU(lowercase=lowercase)
    score = metric.corpus_score(list(translations), [list(references)])
    return Bleu(float(score.score), str(metric.get_signature()))
