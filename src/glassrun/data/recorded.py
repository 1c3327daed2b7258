"""What a run has recorded of its data, so that going on, replaying and predicting need not find it out again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glassrun.data.encoding import Encoding, PairEncoding, TextEncoding, from_plain
from glassrun.data.manifest import manifest_digest
from glassrun.data.tokenizers import Tokenizer
from glassrun.errors import DataError


@dataclass(frozen=True)
class Recorded:
    """The encoding of a run that began, and its data manifest (see `data.manifest`)."""

    encoding: Encoding
    manifest: Mapping[str, Any]


def of_run(header: Mapping[str, Any], where: str) -> Recorded | None:
    """What `run.json` says of a run's data; None where the run has not begun.

    Raises:
        DataError: its tokenizers are not those of its manifest, or the manifest is not the one that the run began with.
    """
    if "encoding" not in header:
        return None
    try:
        found = Recorded(from_plain(header["encoding"]), header["data"])
        steps = found.manifest["preprocessing"]
        known = all(any(tokenizer.described().items() <= step.items() for step in steps) for tokenizer in _of(found))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{where}: not what a run says of its data: {type(error).__name__}: {error}") from None
    if not known or manifest_digest(found.manifest) != header["data_digest"]:
        raise DataError(f"{where}: its tokenizer is not the one that the run began with. Restore run.json from a copy")
    return found


def _of(found: Recorded) -> tuple[Tokenizer, ...]:
    encoding = found.encoding
    if isinstance(encoding, TextEncoding):
        return (encoding.tokenizer,)
    return (encoding.source, encoding.target) if isinstance(encoding, PairEncoding) else ()
