"""Images of the user's: folders by class, idx files, or pictures with a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glassrun.data import idx, pictures
from glassrun.data.compressed import what_is_at
from glassrun.data.folders import entries, files_below
from glassrun.data.manifest import file_digest, file_digests, manifest
from glassrun.data.pixels import LabelledImages, Pixels, encoded, facts, image_key, preprocessing
from glassrun.data.source import Dataset
from glassrun.data.splits import SHARES, WITHOUT_TEST, by_hash, content_key
from glassrun.data.table import Table, read, same_columns, table_in, values_and_scales
from glassrun.errors import ConfigError, DataError
from glassrun.sections.data import ImagesData

_LEVELS = 255
_MOST_IN_MEMORY = 256 * 2**20  # bytes of pixels; more are decoded when they are needed
_PARTS = {"train": "train", "training": "train", "validation": "validation", "val": "validation", "valid": "validation"}
_PARTS |= {"test": "test", "testing": "test"}


@dataclass
class Found:
    """Images of one part: train, validation, test, or "all" where the source does not say.

    `names` are what each is of: its class, or its labels or numbers as text.
    """

    part: str
    pixels: Pixels
    names: list[str]
    files: dict[str, str]
    table: Table | None = None


def load(section: ImagesData) -> Dataset:
    """The images, split officially where the files have a test part, else by a hash of each image.

    Raises:
        DataError: a file or folder is missing, empty, damaged, or its images do not fit the others.
    """
    found = _all_parts(section)
    if section.split == "hash" and (section.validation or section.test):
        raise ConfigError("data.split: hash would ignore data.validation and data.test; leave them out")
    assert section.path is not None, "checked by the recipe"
    return dataset(
        found,
        source=section.source,
        split=section.split,
        image_size=section.image_size,
        target=section.target,
        where=section.path,
        files={name: digest for part in found for name, digest in part.files.items()},
    )


def dataset(
    found: list[Found],
    *,
    source: str,
    split: Literal["official", "hash", "tail"] | None,
    image_size: int | None,
    target: Literal["class", "labels", "numbers"] = "class",
    where: str,
    files: Mapping[str, str],
    versions: Mapping[str, str] | None = None,
) -> Dataset:
    """Images as a data set.

    Arguments:
        found: the parts, train or "all" among them.
        source: its name.
        split, image_size, target: of the recipe.
        where: names the images in errors.
        files, versions: where they came from, for the manifest.

    Raises:
        DataError: the images of one part do not fit the others, or too few are there.
    """
    _same_shape(found)
    pixels = _Joined([part.pixels for part in found])
    names = [name for part in found for name in part.names]
    keys = [image_key(pixels[index], name) for index, name in enumerate(names)]
    parts = [part.part for part in found for _ in part.names]
    indices, rule = _indices(split, where, target, parts, keys)
    tables = [part.table for part in found if part.table is not None]
    scales: list[tuple[float, float]] = []
    labels: NDArray[np.int64] | NDArray[np.float32]
    if tables:
        classes = same_columns(tables)
        labels, scales = values_and_scales(tables, indices["train"])
    else:
        classes = _classes([names[index] for index in indices["train"]])
        labels = _labels(names, classes, parts, where)
    splits = {name: LabelledImages(pixels, keys, labels, chosen, classes) for name, chosen in indices.items()}
    encoding = encoded(splits, _LEVELS, target, scales)
    scaling = [{"step": "scale", "size": image_size}] if image_size else []
    described = manifest(
        source,
        splits=splits,
        rule=rule,
        preprocessing=[*scaling, *preprocessing(encoding)],
        files=files,
        versions=versions,
    )
    return Dataset(splits, described, facts(encoding), encoding)


def _all_parts(section: ImagesData) -> list[Found]:
    """What `path`, `validation` and `test` hold."""
    assert section.path is not None, "checked by the recipe"
    found = list(_parts_at(section, section.path, "all"))
    for part, place in (("validation", section.validation), ("test", section.test)):
        if place is not None:
            if any(other.part == part for other in found):
                raise ConfigError(f"data.{part}: {section.path} already has a {part} part; leave one of them out")
            found += _parts_at(section, place, part)
    if any(other.part != "all" for other in found):
        found = [replace(f, part="train") if f.part == "all" else f for f in found]
    if not any(other.part in ("all", "train") for other in found):
        raise DataError(f"{section.path}: expected a training part, found only {found[0].part}")
    return found


def _parts_at(section: ImagesData, place: str, part: str) -> Iterator[Found]:
    """The parts of one place: folders of pictures with a table, or two idx files, a folder of them, or by class."""
    size = section.image_size
    if section.target != "class":
        yield from _with_tables(section, Path(place), part)
        return
    if "," in place and what_is_at(Path(place)) == "nothing":
        first, _, second = place.partition(",")
        yield _idx(part, Path(first.strip()), Path(second.strip()), size)
        return
    folder = Path(place)
    if (at := what_is_at(folder)) != "a folder":
        raise DataError(
            f"{folder}: expected a folder of pictures by class or of idx files, or IMAGES,LABELS (two idx files), "
            f"found {at}"
        )
    if pairs := idx.pairs_in(folder):
        # Of a folder that is named as the test set, its own training part is not meant.
        chosen = {part: pairs[part]} if part in pairs else pairs
        for name, (images, labels) in chosen.items():
            yield _idx(name if part == "all" and len(pairs) > 1 else part, images, labels, size)
        return
    for name, child in _split_folders(folder, part).items():
        yield _by_class(name, child, size)


def _with_tables(section: ImagesData, folder: Path, part: str) -> Iterator[Found]:
    """A folder with a table, or the folders train, validation and test inside with one each."""
    if (at := what_is_at(folder)) != "a folder":
        raise DataError(f"{folder}: expected a folder of pictures with a table of their {section.target}, found {at}")
    places = {part: folder} if table_in(folder) else _split_folders(folder, part)
    for name, child in places.items():
        path = table_in(child)
        if path is None:
            raise DataError(
                f"{child}: data.target is {section.target}: expected a table of them beside the pictures, a CSV file "
                "whose first column is called file; found none"
            )
        assert section.target != "class", "checked by the caller"
        table = read(path, section.target)
        files = file_digests([path]) | _digest_of_all(child, table.pictures)
        yield Found(name, decoded(table.pictures, section.image_size), table.contents(), files, table)


def _split_folders(folder: Path, part: str) -> dict[str, Path]:
    """The folders train, validation and test inside, or the folder itself as `part`."""
    inside = _folders(folder)
    named = [(_PARTS[child.name.lower()], child) for child in inside if child.name.lower() in _PARTS]
    parts = dict(named)
    if part != "all" or "train" not in parts:
        return {part: folder}
    if len(named) < len(inside) or len(parts) < len(named):
        odd = next((child for child in inside if child not in parts.values()), inside[-1])
        raise DataError(
            f"{folder}: expected folders by class, or train with validation and test, found both: {odd.name} beside "
            "train. Name the parts: data.path, data.validation and data.test"
        )
    return parts


def _idx(part: str, images: Path, labels: Path, size: int | None) -> Found:
    pixels, numbers = idx.images_and_labels(images, labels)
    if size is not None:
        pixels = np.stack([pictures.scaled(image, size, size) for image in pixels])
    files = file_digests((images, labels))
    return Found(part, pixels, [str(number) for number in numbers.tolist()], files)


def _by_class(part: str, folder: Path, size: int | None) -> Found:
    """Pictures in one folder per class."""
    paths: list[Path] = []
    names: list[str] = []
    for child in _folders(folder):
        inside = [path for path in files_below(child) if path.suffix.lower() in pictures.SUFFIXES]
        if not inside:
            raise DataError(f"{child}: expected pictures ({', '.join(pictures.SUFFIXES)}) of the class, found none")
        paths += inside
        names += [child.name] * len(inside)
    if not paths:
        raise DataError(
            f"{folder}: expected one folder of pictures per class, or idx files, found neither"
            " (a table of labels or numbers is read where data.target says so)"
        )
    pixels = decoded(paths, size)
    return Found(part, pixels, names, _digest_of_all(folder, paths))


def _digest_of_all(folder: Path, paths: list[Path]) -> dict[str, str]:
    digest = content_key(*(file_digest(path).encode() for path in paths)).hex()
    return {f"{folder.name} ({len(paths)} pictures)": digest}


def _folders(folder: Path) -> list[Path]:
    return [child for child in entries(folder) if child.is_dir() and not child.name.startswith(".")]


def decoded(paths: Sequence[Path | pictures.Held], size: int | None) -> Pixels:
    """All pictures, each decoded once to see that it is whole; kept in memory if that is small."""
    forms = [pictures.size_and_channels(path) for path in paths]
    channels = max(form[2] for form in forms)
    if size is None and (odd := next((i for i, form in enumerate(forms) if form[:2] != forms[0][:2]), None)):
        raise DataError(
            f"{paths[odd]} is {forms[odd][1]} × {forms[odd][0]} pixels, "
            f"but {paths[0]} is {forms[0][1]} × {forms[0][0]}: a model takes images of one "
            "size. Set data.image_size (pixels, square) to scale all"
        )
    height, width = (size, size) if size is not None else forms[0][:2]
    files = _Files(paths, channels, height, width)
    if len(paths) * channels * height * width > _MOST_IN_MEMORY:
        return files
    return np.stack([files[index] for index in range(len(paths))])


@dataclass(frozen=True)
class _Files:
    """Pictures that are decoded when they are needed."""

    paths: Sequence[Path | pictures.Held]
    channels: int
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return pictures.scaled(pictures.read(self.paths[index], self.channels), self.height, self.width)


class _Joined:
    """Several parts' images, one after the other."""

    def __init__(self, parts: Sequence[Pixels]) -> None:
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        place = int(np.searchsorted(self.ends, index, side="right"))
        return self.parts[place][index - (int(self.ends[place - 1]) if place else 0)]


def _same_shape(found: list[Found]) -> None:
    """All parts must hold images of one size; grey ones are taken as colour where others are in colour."""
    first = found[0].pixels[0].shape
    for part in found[1:]:
        if (shape := part.pixels[0].shape)[1:] != first[1:]:
            raise DataError(
                f"the {part.part} images are {shape[2]} × {shape[1]} pixels, the {found[0].part} ones {first[2]} × "
                f"{first[1]}: expected one size; data.image_size scales all"
            )
    channels = max(part.pixels[0].shape[0] for part in found)
    for part in found:
        if part.pixels[0].shape[0] < channels:
            part.pixels = _Coloured(part.pixels, channels)


@dataclass(frozen=True)
class _Coloured:
    """Grey images with their one channel repeated."""

    pixels: Pixels
    channels: int

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return np.repeat(self.pixels[index], self.channels, axis=0)


def _indices(
    split: str | None, where: str, target: str, parts: list[str], keys: list[bytes]
) -> tuple[dict[str, NDArray[np.int64]], str]:
    """Each split's images, and the rule in words."""
    official = "test" in parts or "validation" in parts
    if split == "official" and not official:
        raise DataError(f"{where}: data.split is official, but there is no test or validation part")
    if split == "hash" or not official:
        return _filled(by_hash(keys, SHARES), where), f"hash of the image and its {target}, 80/10/10"
    of = np.array(parts)
    given = {name: np.flatnonzero(of == name) for name in ("train", "validation", "test") if (of == name).any()}
    if "validation" in given:
        return given, "official"
    train = given["train"]
    cut = by_hash([keys[index] for index in train], WITHOUT_TEST)
    own = {name: train[chosen] for name, chosen in cut.items()}
    rule = f"official test; validation by hash of the image and its {target}, 90/10"
    return _filled(own | {"test": given["test"]}, where), rule


def _filled(splits: dict[str, NDArray[np.int64]], where: str) -> dict[str, NDArray[np.int64]]:
    """The splits that hold something; training must."""
    if not len(splits["train"]):
        raise DataError(f"{where}: too few images: none fell into the training split")
    return {name: chosen for name, chosen in splits.items() if len(chosen)}


def _classes(names: list[str]) -> tuple[str, ...]:
    """The classes in order: numbers by value, else by name."""
    unique = set(names)
    if len(unique) < 2:
        raise DataError(f"expected images of at least two classes, found only {names[0]!r}")
    if all(name.isdecimal() for name in unique):
        return tuple(sorted(unique, key=lambda name: (int(name), name)))
    return tuple(sorted(unique))


def _labels(names: list[str], classes: tuple[str, ...], parts: list[str], where: str) -> NDArray[np.int64]:
    place = {name: label for label, name in enumerate(classes)}
    for name, part in zip(names, parts, strict=True):
        if name not in place:
            of = f"the {part} part" if part != "all" else where
            raise DataError(f"class {name!r} of {of} has no training image; classes there: {', '.join(classes[:20])}")
    return np.array([place[name] for name in names], dtype=np.int64)
