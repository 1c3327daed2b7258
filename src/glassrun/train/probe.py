"""The probe: one fixed example that was kept back from training, put into the model to see what happens inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

from torch import Tensor

from glassrun.capturing.maps import AttentionMap
from glassrun.data.encoding import ImageEncoding, PairEncoding, TextEncoding
from glassrun.data.source import Dataset
from glassrun.tasks.base import Batch, Task

MOST_TOKENS = 24  # of a text: more could not be read beside a map
_SEARCHED_PAIRS = 200


@dataclass(frozen=True)
class Probe:
    """An example as the model is called with it, and what the places of its sequences are called.

    Arguments:
        split: where it is from, for example "test"; "" for a text of the user's.
        inputs: the model's arguments, each a batch of one.
        text: the text that is read, or a translation's source; "" for an image.
        read: its tokens as they are shown.
        written: a translation's target, from its begin to its end, as it is shown.
    """

    split: str
    inputs: tuple[Tensor, ...]
    text: str = ""
    read: Sequence[str] = ()
    written: Sequence[str] = ()

    def axes(self, seen: AttentionMap) -> Axes:
        """What stands at the rows and columns of an attention map on this example."""
        rows, columns = seen.weights.shape[-2:]
        before, after = self.written[:-1], self.written[1:]
        if seen.kind == "cross":
            if (rows, columns) == (len(after), len(self.read)):
                return Axes(after, self.read, "token being written", "source token")
        elif before and columns == len(before) and (seen.masking.startswith("causal") or columns != len(self.read)):
            return Axes(before, before)
        elif columns == len(self.read):
            return Axes(self.read, self.read)
        return Axes(_patches(rows), _patches(columns))


@dataclass(frozen=True)
class Axes:
    """The labels and the titles of a map's rows and columns."""

    queries: Sequence[str]
    keys: Sequence[str]
    query_title: str = "query"
    key_title: str = "key"


def probe_of(task: Task, dataset: Dataset) -> Probe:
    """The first example of the test split; without one of the validation split, without that of the training split.

    A text is cut to its first tokens; of pairs it is the first whose maps can be read, else the shortest of some.
    """
    split = next(name for name in ("test", "validation", "train") if name in dataset.splits)
    batch = task.collate([dataset.splits[split].example(_chosen(dataset, split), 0)])
    encoding = dataset.encoding
    if isinstance(encoding, ImageEncoding):
        return Probe(split, (batch["image"],))
    if isinstance(encoding, TextEncoding):
        batch = {"inputs": batch["inputs"][:, :MOST_TOKENS].contiguous()}
    return of_tokens(split, batch, encoding)


def of_tokens(split: str, batch: Batch, encoding: TextEncoding | PairEncoding) -> Probe:
    """A batch of one text or one pair as a probe."""
    if isinstance(encoding, TextEncoding):
        plain = batch["inputs"][0].tolist()
        return Probe(split, (batch["inputs"],), encoding.tokenizer.decode(plain), encoding.tokenizer.shown(plain))
    source, target = batch["source"], batch["target"]
    return Probe(
        split,
        (source, target[:, :-1].contiguous()),
        encoding.source.decode(source[0].tolist()),
        encoding.source.shown(source[0].tolist()),
        encoding.target.shown(target[0].tolist()),
    )


def _chosen(dataset: Dataset, split: str) -> int:
    if not isinstance(dataset.encoding, PairEncoding):
        return 0
    examples = [dataset.splits[split].example(i, 0) for i in range(min(_SEARCHED_PAIRS, len(dataset.splits[split])))]
    lengths = [max(len(example["source"]), len(example["target"])) for example in examples]
    return next((i for i, length in enumerate(lengths) if length <= MOST_TOKENS), lengths.index(min(lengths)))


def _patches(count: int) -> list[str]:
    """Names of an image's patches by row and column, after a class token if there is one; else numbers from 1.

    >>> _patches(5), _patches(3)
    (['class', '1,1', '1,2', '2,1', '2,2'], ['1', '2', '3'])
    """
    for extra in (0, 1):
        side = isqrt(count - extra)
        if side > 1 and side * side == count - extra:
            return ["class"][:extra] + [f"{place // side + 1},{place % side + 1}" for place in range(side * side)]
    return [str(place) for place in range(1, count + 1)]
