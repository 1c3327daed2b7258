"""What is shown while a run goes on: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_PLAIN_EVERY = 2.0  # seconds between plain lines


class Display:
    """Hears the events of a run and shows them on standard error; results go to standard output."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.folder: str | None = None  # of the run, once it is known
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._progress: Progress | None = None
        self._task: Any = None
        self._steps = 0
        self._pace = _Pace()
        self._next_line = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the live line away."""
        if self._progress:
            self._progress.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        if not self._quiet:
            getattr(self, f"_{event['event']}")(event)

    def _folder(self, event: dict[str, Any]) -> None:
        self.folder = str(event["path"])
        self._say(f"run         {event['path']}")

    def _note(self, event: dict[str, Any]) -> None:
        self._say(f"note: {event['text']}")

    def _begin(self, event: dict[str, Any]) -> None:
        self.close()  # of an attempt whose worker was killed
        self._steps, self._pace = event["steps"], _Pace()
        if event["step"]:
            self._say(f"from the checkpoint after step {event['step']}")
        if not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("{task.completed}/{task.total}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
        )
        self._task = self._progress.add_task("", total=event["steps"], completed=event["step"], numbers="")
        self._progress.start()

    def _step(self, event: dict[str, Any]) -> None:
        rate = self._pace.examples_per_second(event)
        numbers = f"loss {event['loss']:.4f}  lr {event['learning_rate']:.2e}  {rate:,.0f} examples/s"
        if self._progress:
            self._progress.update(self._task, completed=event["step"], numbers=numbers)
        elif time.monotonic() >= self._next_line or event["step"] == self._steps:
            self._next_line = time.monotonic() + _PLAIN_EVERY
            left = self._pace.seconds_left(event, self._steps)
            self._say(f"step {event['step']}/{self._steps}  {numbers}  {left:.0f} s left")

    def _rerun(self, event: dict[str, Any]) -> None:
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _PLAIN_EVERY
            self._say(f"repeating step {event['step']} of {event['of']}")

    def _evaluation(self, event: dict[str, Any]) -> None:
        numbers = "  ".join(f"{k} {v:.4f}" for k, v in event.items() if isinstance(v, float))
        self._say(f"step {event['step']}  {event['split']}: {numbers}")

    def _done(self, event: dict[str, Any]) -> None:  # noqa: ARG002 - what came out is for standard output
        self.close()

    def _say(self, text: str) -> None:
        if self._progress:
            self._console.print(text, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)


class _Pace:
    """Examples and steps a second since the first step that was heard."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def examples_per_second(self, event: dict[str, Any]) -> float:
        return float(self._steps_per_second(event) * event["examples"])

    def seconds_left(self, event: dict[str, Any], steps: int) -> float:
        return float(steps - event["step"]) / max(self._steps_per_second(event), 1e-9)

    def _steps_per_second(self, event: dict[str, Any]) -> float:
        now = time.monotonic()
        if self._first is None:
            self._first = now, event["step"]
        started, step = self._first
        if event["step"] == step:
            return 1.0 / max(float(event["seconds"]), 1e-9)
        return float(event["step"] - step) / max(now - started, 1e-9)
