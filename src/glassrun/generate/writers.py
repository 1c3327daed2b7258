"""A model in the middle of writing: what comes after some rows of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from glassrun.errors import ModelError
from glassrun.tasks.base import logits_of

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class Writer(Protocol):
    """Rows of tokens, all of one length, and what a model has computed for them."""

    def next(self, rows: Int[Tensor, "rows length"]) -> Float[Tensor, "rows vocabulary"]:
        """The logits of the token after each row; the rows are those of the last call, each a token longer."""
        ...

    def select(self, kept: Int[Tensor, " kept"]) -> None:
        """Go on with these rows, in this order; a row may come several times."""
        ...


class TextWriter:
    """A model that goes on from tokens: called as model(tokens).

    With a model that has `new_cache`, the tokens that it has seen are not computed again, as long as all of them are
    within its context; beyond, the last ones move to other positions at every step.

    Arguments:
        model: in evaluation mode.
        context: it sees at most so many of the last tokens.
    """

    def __init__(self, model: nn.Module, context: int) -> None:
        self.model = model
        self.context = context
        self.cache = _new_cache(model)

    def next(self, rows: Int[Tensor, "rows length"]) -> Float[Tensor, "rows vocabulary"]:
        if self.cache is None or rows.shape[1] > self.context:
            self.cache = None
            return _last(self.model(rows[:, -self.context :]))
        return _last(self.model(rows[:, self.cache.length :], cache=self.cache))

    def select(self, kept: Int[Tensor, " kept"]) -> None:
        if self.cache is not None:
            self.cache.select(kept)


class TranslationWriter:
    """A model that writes to sources: called as model(sources, tokens).

    With a model that has `encode`, `decode` and `new_cache`, the sources are read once, and no token is computed again.

    Arguments:
        model: in evaluation mode.
        sources: Int[rows, source], all of one length, without padding.
    """

    def __init__(self, model: nn.Module, sources: Int[Tensor, "rows source"]) -> None:
        self.model = model
        self.sources = sources
        self.cache = _new_cache(model)
        self.read = None if self.cache is None else model.encode(sources)  # type: ignore[operator]

    def next(self, rows: Int[Tensor, "rows length"]) -> Float[Tensor, "rows vocabulary"]:
        if self.cache is None:
            return _last(self.model(self.sources, rows))
        return _last(self.model.decode(rows[:, self.cache.length :], *self.read, cache=self.cache))  # type: ignore

    def select(self, kept: Int[Tensor, " kept"]) -> None:
        self.sources = self.sources[kept]
        if self.cache is not None:
            self.cache.select(kept)
            self.read = tuple(part[kept] for part in self.read)  # type: ignore[union-attr]


def _new_cache(model: nn.Module) -> Any:
    """The model's own cache of keys and values, empty; None where it has none."""
    make = getattr(model, "new_cache", None)
    return None if make is None else make()


def _last(output: Any) -> Float[Tensor, "rows vocabulary"]:
    """The logits after the last token, in double precision.

    Raises:
        ModelError: one is no number, or none is finite.
    """
    logits = logits_of(output)[:, -1].double()
    if not logits.amax(-1).isfinite().all():  # a maximum is NaN if one of the logits is
        raise ModelError("the model gives logits that are no numbers, or none that is finite: it cannot write")
    return logits
