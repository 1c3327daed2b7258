"""Writes the folder of a run that is recorded from a loop that is not ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from glassrun.digest import digest_bytes
from glassrun.record import code, environment
from glassrun.record.files import Appender
from glassrun.record.ledger import Line, Step, TensorTable, complete_lines, link
from glassrun.record.run_folder import COMPLETE, STOPPED, RunFolder


class Sink(Protocol):
    """Where what is recorded goes."""

    def begin(self, initial: dict[str, Any], names: Sequence[str], /) -> None: ...
    def step(self, step: Step, values: Sequence[int | None], seconds: float, /) -> None: ...
    def evaluation(self, line: bytes) -> None: ...
    def note(self, text: str) -> None: ...
    def replayable(self) -> None: ...
    def close(self, reason: str | None) -> None: ...


class Silent:
    """For ranks other than 0: they compute the same, and write nothing."""

    def begin(self, initial: dict[str, Any], names: Sequence[str]) -> None:
        pass

    def step(self, step: Step, values: Sequence[int | None], seconds: float) -> None:
        pass

    def evaluation(self, line: bytes) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def replayable(self) -> None:
        pass

    def close(self, reason: str | None) -> None:
        pass


class Writing:
    """Writes the run folder, each thing after what it builds on: a row of `ledger.tensors`, then its ledger line."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._chain = str(folder.header["identity"])
        self._last: Step | None = None
        self._ledger = Appender(folder.ledger_path, 0)
        self._metrics = Appender(folder.metrics_path, 0)
        self._table: TensorTable | None = None
        self._tensors: Appender | None = None
        self._held: bytes | None = None  # the row of the last step, where `every` leaves it out

    def begin(self, initial: dict[str, Any], names: Sequence[str]) -> None:
        """The first step is done: what was before it, and what `ledger.tensors` will name."""
        self._note_numerics()
        self._folder.update(initial=initial)
        self._table = TensorTable(names)
        self._tensors = Appender(self._folder.tensors_path, 0)
        self._tensors.append(self._table.header)

    def step(self, step: Step, values: Sequence[int | None], seconds: float) -> None:
        assert self._table is not None, "begin comes before the first step"
        assert self._tensors is not None, "begin comes before the first step"
        row = self._table.encode(step.step, values)
        self._held = row if step.step % self._folder.every else None
        if self._held is None:
            self._tensors.append(row)
        self._chain = link(self._chain, step)
        self._ledger.append(Line(step, self._chain, seconds).encode())
        self._last = step

    def evaluation(self, line: bytes) -> None:
        self._metrics.append(line)

    def note(self, text: str) -> None:
        self._folder.update(notes=[*self._folder.header["notes"], text])

    def replayable(self) -> None:
        if not self._folder.header["replayable"]:
            self._folder.update(replayable=True)

    def close(self, reason: str | None) -> None:
        """The loop ended: flush everything to the disk, and say how."""
        if self._held is not None and self._tensors is not None:
            self._tensors.append(self._held)
        for file in (self._tensors, self._ledger, self._metrics):
            if file is not None:
                file.sync()
                file.close()
        last = self._last
        self._folder.update(
            status=STOPPED if reason else COMPLETE,
            reason=reason,
            code=code.kept(self._folder.path, self._folder.header["code"]),
            steps=last.step if last else 0,
            chain=self._chain if last else None,
            parameters=last.parameters if last else None,
            metrics_digest=digest_bytes(b"".join(complete_lines(self._folder.metrics_path))),
        )
        self._folder.unlock()

    def _note_numerics(self) -> None:
        recorded = self._folder.header["environment"]
        changed = environment.differences(recorded["numerics"], environment.numerics())
        if changed:
            self._folder.update(environment=recorded | {"numerics": environment.numerics()})
            self.note(
                "numerics were set after glassrun.record was entered; those at the first step are recorded "
                f"({'; '.join(changed).replace('recorded', 'on entry').replace('here', 'then')})"
            )
