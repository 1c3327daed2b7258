"""The sections `data` and `data.tokenizer` of a recipe: where the examples come from, and how texts become tokens."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from glassrun.identity import Free, IfGiven
from glassrun.sections.augment import Augmentations
from glassrun.sections.base import Count, Section


class Bpe(Section):
    """Byte-pair encoding over bytes, learned from the training split: `vocabulary_size` tokens in all."""

    kind: Literal["bpe"]
    vocabulary_size: Annotated[int, Field(ge=257, le=2**20)]


class PairsBpe(Bpe):
    """The same for source and target; `shared` learns one vocabulary from both."""

    vocabulary_size: Annotated[int, Field(ge=261, le=2**20)]  # four special ones and 256 bytes, and a merge
    shared: bool = False


class TokenizerFile(Section):
    """A tokenizer.json of the user's, in the form of the tokenizers library; what is in it is in the data manifest."""

    kind: Literal["file"]
    path: Annotated[str, Field(min_length=1), Free]


def _tokenizer(bpe: type[Bpe]) -> BeforeValidator:
    """Choose a tokenizer by its name, or its class by its `kind`."""

    def choose(value: Any) -> Any:
        if isinstance(value, BaseModel) or value in ("char", "byte"):
            return value
        classes: dict[str, type[Section]] = {"bpe": bpe, "file": TokenizerFile}
        kind = value.get("kind") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in classes:
            raise ValueError(
                f"expected char, byte, {{kind: bpe, vocabulary_size: N}} or {{kind: file, path: FILE}}, found {value!r}"
            )
        return classes[kind].model_validate_json(json.dumps(value))

    return BeforeValidator(choose)


TextTokenizer = Literal["char", "byte"] | Bpe | TokenizerFile
OneTokenizer = Annotated[TextTokenizer, _tokenizer(Bpe)]
PairTokenizer = Annotated[Literal["char", "byte"] | PairsBpe | TokenizerFile, _tokenizer(PairsBpe)]


class Data(Section):
    """Where the examples come from.

    `workers` threads prepare batches ahead; 0 prepares each when it is needed. `lock` names a file that says which
    examples they must be (see `data.lock`).
    """

    workers: Annotated[int, Field(ge=0, le=64), Free] = 0
    lock: Annotated[str | None, Free] = None


class BuiltInData(Data):
    """Data that needs no file of the user's: a path would be ignored, so it is an error."""

    path: Annotated[None, Free] = None
    validation: Annotated[None, Free] = None
    test: Annotated[None, Free] = None


class FileData(Data):
    """Data in the user's files; `validation` and `test` name files that are splits of their own."""

    path: Annotated[str | None, Free] = None
    validation: Annotated[str | None, Free] = None
    test: Annotated[str | None, Free] = None

    @model_validator(mode="after")
    def _has_a_path(self) -> Self:
        if not self.path:
            raise ValueError("path is missing: say where the data lies, for example --set data.path=FILE")
        return self


class DigitsData(BuiltInData):
    """The 1,797 handwritten digits (8 × 8) that ship in scikit-learn."""

    source: Literal["digits"]
    split: Literal["hash"] = "hash"
    augment: Annotated[Augmentations, IfGiven] = ()


class ImagesData(FileData):
    """Images by class in folders, or idx files, or with a table. `image_size` scales all to so many pixels square."""

    source: Literal["images"]
    target: Literal["class", "labels", "numbers"] = "class"  # labels and numbers are in a table (CSV) in the folder
    split: Literal["official", "hash"] | None = None  # None: official where the files have a test part, else hash
    image_size: Annotated[int, Field(ge=2)] | None = None
    augment: Annotated[Augmentations, IfGiven] = ()


class TextData(FileData):
    """One text, cut into windows of `context` tokens."""

    source: Literal["text"]
    split: Literal["official", "tail"] | None = None  # None: official where validation is given, else tail
    tokenizer: OneTokenizer = "char"
    context: Count = 64


class PythonTopicsData(BuiltInData):
    """The reference topics that ship with CPython (`pydoc_data.topics`), cut into windows of `context` tokens."""

    source: Literal["python-topics"]
    split: Literal["tail"] = "tail"
    tokenizer: OneTokenizer = "char"
    context: Count = 64


class PairsData(FileData):
    """Two parallel text files, `path: source,target`, a line each."""

    source: Literal["pairs"]
    split: Literal["official", "hash"] | None = None  # None: official where validation or test is given, else hash
    lowercase: Annotated[bool, IfGiven] = False
    tokenizer: PairTokenizer = "char"
    max_length: Count = 256  # tokens; a pair with a longer side is left out, and counted in the manifest


class DatesData(BuiltInData):
    """Dates as people write them, in the languages of Babel's locale data, and their ISO form."""

    source: Literal["dates"]
    split: Literal["hash"] = "hash"
    examples: Count = 60_000
    languages: tuple[str, ...] | None = None  # None: all of `glassrun.data.dates.LANGUAGES`
    first_year: Annotated[int, Field(ge=1000, le=9999)] = 1000
    last_year: Annotated[int, Field(ge=1000, le=9999)] = 2999

    @model_validator(mode="after")
    def _has_years(self) -> Self:
        if self.last_year < self.first_year:
            raise ValueError(f"last_year is {self.last_year}, before first_year {self.first_year}")
        return self


class SentencesData(BuiltInData):
    """English sentences of a small grammar, and their German translation."""

    source: Literal["sentences"]
    split: Literal["hash"] = "hash"
    examples: Count = 20_000


class HubImages(Section):
    """Which columns of a table are pictures and their classes. With `image_size`, all are scaled to that size."""

    image: str = "image"
    label: str = "label"
    image_size: Annotated[int, Field(ge=2)] | None = None


class HubText(Section):
    """Which column of a table is text; its rows, one after the other, are cut into windows of `context` tokens."""

    column: str = "text"
    tokenizer: OneTokenizer = "char"
    context: Count = 64


class HubPairs(Section):
    """Which columns of a table are a text and its translation; or, inside the column `translation`, which keys."""

    source: str
    target: str
    translation: str | None = None
    lowercase: Annotated[bool, IfGiven] = False
    tokenizer: PairTokenizer = "char"
    max_length: Count = 256


class HubData(Data):
    """A data set in the form of the Hugging Face hub: of a local folder, or of a repository there at a revision."""

    source: Literal["hub"]
    path: Annotated[str | None, Free] = None
    repository: Annotated[str | None, Free] = None
    revision: Annotated[str | None, Free] = None  # None: main; the commit that it stands for is in the data manifest
    subset: str | None = None
    split: Literal["official", "hash", "tail"] | None = None  # None: official where there is another part than train
    images: HubImages | None = None
    text: HubText | None = None
    pairs: HubPairs | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if (self.path is None) == (self.repository is None):
            raise ValueError("expected either path (a folder) or repository (its name on the hub)")
        if self.path is not None and self.revision is not None:
            raise ValueError("revision would be ignored with path: it is a repository's")
        if len(self.reads) != 1:
            raise ValueError(
                f"expected exactly one of images, text and pairs, found {' and '.join(self.reads) or 'none'}: it says "
                "which columns are read"
            )
        if self.split == ("hash" if self.text else "tail"):
            raise ValueError(f"split: {self.split} is not for {self.reads[0]}")
        return self

    @property
    def reads(self) -> list[str]:
        """images, text or pairs."""
        return [name for name in HUB_TASKS if getattr(self, name) is not None]


HUB_TASKS = {
    "images": ("classify",),
    "text": ("language-model", "masked-language-model"),
    "pairs": ("translate",),
}


DATA: dict[str, type[Data]] = {
    "digits": DigitsData,
    "images": ImagesData,
    "text": TextData,
    "python-topics": PythonTopicsData,
    "pairs": PairsData,
    "dates": DatesData,
    "sentences": SentencesData,
    "hub": HubData,
}
