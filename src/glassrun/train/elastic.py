"""Going on by itself when a worker is killed, with fresh workers: the largest power of two that is left."""

from __future__ import annotations

from collections.abc import Callable

from glassrun.errors import WorkerLost
from glassrun.train.launch import Event, Hear

_FRUITLESS = 3  # times that a single worker may be killed in a row without one new step


def endure(attempt: Callable[[int, str | None], Event], workers: int, steps: Callable[[], int], hear: Hear) -> Event:
    """Attempt the work until it is done, each time with those workers that are left.

    Arguments:
        attempt: does the work on so many workers; it is told why the attempt before ended, None at first.
        workers: how many at first, a power of two.
        steps: how many steps are recorded by now.
        hear: called with a note each time the work goes on.

    Returns:
        The attempt's last event.

    Raises:
        WorkerLost: killing goes on though no step comes of it, or a worker failed without having been killed.
        GlassrunError: what a worker raised, which would only happen again.
    """
    why: str | None = None
    recorded, fruitless = steps(), 0
    while True:
        try:
            return attempt(workers, why)
        except WorkerLost as error:
            before, recorded = recorded, steps()
            fruitless = fruitless + 1 if workers == 1 and recorded <= before else 0
            if not error.killed or fruitless == _FRUITLESS:
                raise
            why, workers = str(error), left(workers, error.killed)
        hear({"event": "note", "text": f"{why}; going on by itself with {workers} worker{'s' if workers > 1 else ''}"})


def left(workers: int, killed: int) -> int:
    """The largest power of two of workers that is left; when all were killed, one fresh one.

    >>> [left(8, 1), left(8, 5), left(2, 1), left(1, 1)]
    [4, 2, 1, 1]
    """
    return 1 << (max(workers - killed, 1).bit_length() - 1)
