"""What an exhibit is, and what it is made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from glassrun.look.page import Part

if TYPE_CHECKING:
    from glassrun.run import Run


@dataclass
class Material:
    """What an exhibit may use.

    Arguments:
        scratch: a folder in which runs may be trained; the exhibits of one call share it.
        run: a run of the user's; an exhibit shows this one where it fits.
        may_train: whether an exhibit may train small runs of its own; a run's report may not, it must be quick.
        text: a sentence of the user's in the place of the exhibit's own.
        image: a picture of the user's in the place of the exhibit's own.
        tell: called with what goes on, while people wait.
    """

    scratch: Path
    run: Run | None = None
    may_train: bool = True
    text: str | None = None
    image: Path | None = None
    tell: Callable[[str], None] = field(default=lambda _: None)

    def trained(self, recipe: str, *, copy: int = 0, workers: int | None = None, **overrides: object) -> Run:
        """A run of a recipe, trained once for all exhibits that ask for the same.

        Arguments:
            recipe: a shipped recipe's name.
            copy: another number is another run of the same recipe, trained anew.
            workers: processes that train it, as for `run.train`.
            overrides: dotted keys with `__` for the dot, for example `train__steps=200`.
        """
        from glassrun import config, run

        values = {name.replace("__", "."): value for name, value in overrides.items()}
        checked = config.load(recipe, values)
        path = self.scratch / f"{checked.digest()}-{copy}"
        if not path.exists():
            self.tell(f"training {recipe}, {checked.train.steps} steps")
            return run.train(checked, out=path, workers=workers)
        return run.load(path)


@dataclass(frozen=True)
class Exhibit:
    """One subject, explained.

    Arguments:
        name: as the command line has it, for example `positional-encoding`.
        title: for people.
        question: the question that it answers.
        fits: whether it has something to show of a run, told from the run's recipe alone; None: of every run.
        make: makes the part of the page.
        takes: what else of the user's it shows: "text" or "image"; the command line refuses what would be ignored.
    """

    name: str
    title: str
    question: str
    fits: Callable[[Run], bool]
    make: Callable[[Material], Part]
    takes: frozenset[str] = frozenset()
