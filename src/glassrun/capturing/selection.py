"""What of a pass is wanted: modules by name or pattern, heads, queries, and how many bytes they may take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from glassrun.errors import CaptureError, nearest

Names = bool | str | Sequence[str]
Chosen = tuple[tuple[int, ...], tuple[int, ...]]  # heads and queries of one map


@dataclass(frozen=True)
class Modules:
    """A choice of modules.

    Arguments:
        patterns: names or patterns as of file names (`*` for any text); True for all modules, False for none.
        option: the argument that they were given as, for messages.
    """

    patterns: bool | tuple[str, ...]
    option: str

    @classmethod
    def of(cls, given: Names, option: str) -> Modules:
        """The choice as people give it.

        Raises:
            CaptureError: it is neither True, False, a name, nor a sequence of names.
        """
        if isinstance(given, bool):
            return cls(given, option)
        patterns = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else ()
        if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
            raise CaptureError(f"{option}={given!r}: give True, False, a module's name, a pattern, or a list of them")
        return cls(patterns, option)

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def has(self, name: str) -> bool:
        """Whether a module is chosen by its own name."""
        if isinstance(self.patterns, bool):
            return self.patterns
        return any(fits(pattern, name) for pattern in self.patterns)

    def reaches(self, name: str) -> bool:
        """Whether a module is chosen by its own name or by that of a module around it."""
        return any(map(self.has, with_those_around(name)))

    def unmet(self, names: Iterable[str]) -> list[str]:
        """The patterns that fit none of these names."""
        patterns = () if isinstance(self.patterns, bool) else self.patterns
        names = list(names)
        return [pattern for pattern in patterns if not any(fits(pattern, name) for name in names)]

    def check(self, known: Sequence[str], others: Mapping[str, str]) -> None:
        """Whether each pattern names a module.

        Arguments:
            known: the modules' names.
            others: further names of modules that lie in several places, each with the one that is known.

        Raises:
            CaptureError: one does not; the message has the nearest names.
        """
        for pattern in self.unmet(known):
            if pattern in others:
                raise CaptureError(
                    f"{self.option}: {pattern!r} is the same module as {others[pattern]!r}: ask for that"
                )
            raise CaptureError(
                f"{self.option}: no module of the model is {pattern!r}; {_nearest(pattern, [n for n in known if n])}"
            )


def fits(pattern: str, name: str) -> bool:
    """Whether a name is the pattern or fits it.

    >>> fits("layers.*.attention", "layers.3.attention"), fits("layers", "layers.3")
    (True, False)
    """
    return name == pattern or fnmatchcase(name, pattern)


def with_those_around(name: str) -> list[str]:
    """A module and the modules around it, the innermost first, without the model itself.

    >>> with_those_around("encoder.0.attention")
    ['encoder.0.attention', 'encoder.0', 'encoder']
    """
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


_SHOWN_NAMES = 12


def _nearest(pattern: str, known: list[str]) -> str:
    said = nearest(pattern, known)
    if len(known) <= _SHOWN_NAMES:
        return said
    hint = said.partition("Known: ")[0]
    return f"{hint}It has {len(known)}; print([name for name, _ in model.named_modules()]) lists them"


def places(chosen: Sequence[int] | None, count: int, option: str, what: str) -> tuple[int, ...]:
    """Chosen numbers, counted from 0; negative ones count from the end.

    Arguments:
        chosen: None for all.
        count: how many there are.
        option: `heads` or `queries`.
        what: where they are, for the message.

    Raises:
        CaptureError: one is out of range.

    >>> places([0, -1], 5, "queries", "attention")
    (0, 4)
    """
    if chosen is None:
        return tuple(range(count))
    for number in chosen:
        if not -count <= number < count:
            raise CaptureError(
                f"{option}: {number} is out of range, {what} has {count} {option}, 0 to {count - 1}; choose among "
                "these, or other modules with attention=…"
            )
    return tuple(number % count for number in chosen)


def numbers(given: Sequence[int] | None, option: str) -> tuple[int, ...] | None:
    """Numbers as people give them.

    Raises:
        CaptureError: there is none, or something else than whole numbers.
    """
    if given is None:
        return None
    try:
        found = tuple(int(number) for number in given if int(number) == number)
    except (TypeError, ValueError, OverflowError):  # infinity is no whole number
        found = ()
    if not found or len(found) != len(tuple(given)):
        raise CaptureError(f"{option}={given!r}: give a list of whole numbers counted from 0, or None for all")
    return found


class Budget:
    """Counts bytes before they are taken.

    Raises:
        CaptureError: the limit is no positive number.
    """

    def __init__(self, limit: float) -> None:
        if not isinstance(limit, int | float) or not limit > 0:
            raise CaptureError(f"budget={limit!r}: give a positive number of bytes")
        self._limit, self._taken = limit, 0

    def take(self, count: int, what: str, instead: str) -> None:
        """Count so many bytes more.

        Arguments:
            count: bytes.
            what: for which thing, for the message.
            instead: what to ask for in its place.

        Raises:
            CaptureError: with them it would be more than the limit.
        """
        if self._taken + count > self._limit:
            before = f" beside {size(self._taken)} before it" if self._taken else ""
            raise CaptureError(
                f"{what} would take {size(count)}{before}; the budget is {size(self._limit)}. {instead}, or give a "
                "larger budget=… (in bytes)"
            )
        self._taken += count


def size(count: float) -> str:
    """Bytes for people.

    >>> size(4 * 12 * 100_000**2)
    '447 GiB'
    """
    units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]
    place = 0
    while count >= 1024 and place < len(units) - 1:
        count /= 1024
        place += 1
    return f"{count:.3g} {units[place]}"
