"""Who is told what the training loop does: one that writes it down, one that compares, one that is silent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glassrun.digest import digest_bytes
from glassrun.errors import BadInput, Diverged, RunFolderError
from glassrun.record.checkpoint_files import Checkpoint, path_of, read
from glassrun.record.files import Appender
from glassrun.record.fingerprint import Fingerprinter
from glassrun.record.ledger import Line, Step, TensorTable, complete_lines, first_phase, link
from glassrun.record.run_folder import RunFolder
from glassrun.train import checkpoint as checkpoints
from glassrun.train.evaluate import Evaluation
from glassrun.train.loop import Outcome
from glassrun.train.state import State

Tell = Callable[[dict[str, Any]], None]


class Silent:
    """For the workers other than rank 0: they compute the same, and say nothing."""

    def step(self, outcome: Outcome) -> None:
        pass

    def evaluation(self, evaluation: Evaluation) -> None:
        pass

    def snapshot(self, state: State) -> None:
        pass

    def checkpoint(self, state: State) -> None:
        pass


class Writing:
    """Writes the run folder. Steps whose lines are there already, after a kill, are compared instead.

    The order of writes at a step is: row of `ledger.tensors`, line of `ledger.jsonl`, evaluations, snapshot,
    checkpoint. So each thing that is there has all that it builds on.
    """

    def __init__(self, folder: RunFolder, names: list[str], start: Checkpoint | None, tell: Tell) -> None:
        self.folder, self.tell = folder, tell
        self.every = folder.every
        self.last_step = folder.recipe.train.steps
        self.lines = folder.lines()
        self.metrics = folder.metrics_lines()
        first = start.step if start else 0
        self.chain = self.lines[first - 1].chain if first else str(folder.header["identity"])
        self.metrics_kept = [line for line, values in self.metrics if values["step"] <= first]
        self.pending = [(line, values) for line, values in self.metrics if values["step"] > first]
        self.table = TensorTable(names)
        self.rows = _rows(folder, self.table)
        self.looked_into = True  # until the model turns out to be one that cannot be
        self._ledger = Appender(folder.ledger_path, sum(map(len, complete_lines(folder.ledger_path))))
        self._metrics = Appender(folder.metrics_path, sum(len(line) for line, _ in self.metrics))
        self._tensors = Appender(
            folder.tensors_path, len(self.table.header) + sum(len(row) for row in self.rows.values())
        )

    def step(self, outcome: Outcome) -> None:
        step = outcome.step
        self._row(step.step, outcome.tensors)
        self.chain = link(self.chain, step)
        if step.step <= len(self.lines):
            _compare(self.lines[step.step - 1], step, "repeated after the kill")
        else:
            line = Line(step, self.chain, outcome.seconds, outcome.update_norm)
            self._ledger.append(line.encode())
        self.tell(progress(step, outcome.seconds))

    def evaluation(self, evaluation: Evaluation) -> None:
        line = evaluation.encode()
        if self.pending:
            expected, values = self.pending.pop(0)
            _compare_metrics(values, expected, evaluation, line)
        else:
            self._metrics.append(line)
        self.metrics_kept.append(line)
        self.tell({"event": "evaluation", "step": evaluation.step, "split": evaluation.split} | evaluation.metrics)

    def snapshot(self, state: State) -> None:
        from glassrun.train import snapshots

        if not self.looked_into:
            return
        try:
            taken = snapshots.take(state, self.chain)
        except BadInput as error:
            self.looked_into = False
            self.tell({"event": "note", "text": f"no snapshots are kept: {error}"})
            return
        snapshots.write(self.folder.path, taken)

    def checkpoint(self, state: State) -> None:
        for file in (self._tensors, self._ledger, self._metrics):
            file.sync()
        path = path_of(self.folder.path, state.step)
        if not path.exists():
            checkpoints.save(
                self.folder.path, state, chain=self.chain, metrics_digest=digest_bytes(b"".join(self.metrics_kept))
            )
        checkpoints.prune(self.folder.path, self.folder.recipe.train.keep_checkpoints)

    def close(self) -> None:
        """Flush everything to the disk."""
        for file in (self._tensors, self._ledger, self._metrics):
            file.sync()
            file.close()

    def _row(self, step: int, tensors: list[int | None]) -> None:
        if step % self.every and step != self.last_step:
            return
        row = self.table.encode(step, tensors)
        expected = self.rows.get(step)
        if expected is None:
            self._tensors.append(row)
        elif row != expected:
            raise Diverged(f"step {step}: a tensor's fingerprint is not the one in {self.folder.tensors_path}")


class Comparing:
    """Compares what is computed with a run folder, as it comes; changes nothing."""

    def __init__(self, folder: RunFolder, start: Checkpoint | None, tell: Tell, *, first: int, last: int) -> None:
        self.folder, self.tell, self.first, self.last = folder, tell, first, last
        self.lines = folder.lines()
        begin = start.step if start else 0
        self.chain = self.lines[begin - 1].chain if begin else str(folder.header["identity"])
        self.complete = folder.header["status"] == "complete"
        self.expected = {(v["step"], v["split"]): (line, v) for line, v in folder.metrics_lines() if v["step"] > begin}
        self.identical = 0
        self.metrics_identical = 0
        self.names, self.rows = folder.tensors()

    def step(self, outcome: Outcome) -> None:
        step, line = outcome.step, self.lines[outcome.step.step - 1]
        _compare(line, step, "replayed", self._first_tensor(outcome))
        self.chain = link(self.chain, step)
        assert self.chain == line.chain, "equal fields give an equal chain"
        self.identical += step.step >= self.first
        self.tell(progress(step, outcome.seconds))

    def evaluation(self, evaluation: Evaluation) -> None:
        found = self.expected.pop((evaluation.step, evaluation.split), None)
        if found is None:
            if not self.complete and evaluation.step == len(self.lines):
                return  # the run was killed between the step and its evaluation
            raise Diverged(
                f"step {evaluation.step}: phase evaluation: {self.folder.metrics_path} has no line for the split "
                f"{evaluation.split}, which a replay evaluates here"
            )
        line, values = found
        _compare_metrics(values, line, evaluation, evaluation.encode())
        self.metrics_identical += evaluation.step >= self.first

    def snapshot(self, state: State) -> None:
        pass  # a picture of what is compared anyway

    def checkpoint(self, state: State) -> None:
        path = path_of(self.folder.path, state.step)
        if not path.exists():
            return
        expected = read(path).values["fingerprints"]["optimizer"]
        found = checkpoints.optimizer_fingerprint(state, Fingerprinter())
        if found != expected:
            raise Diverged(f"step {state.step}: phase optimizer: the optimizer's state is {found}, recorded {expected}")

    def _first_tensor(self, outcome: Outcome) -> str:
        """The first tensor that is not as recorded at this step, gradients before parameters; empty for none."""
        recorded = self.rows.get(outcome.step.step)
        if recorded is None or len(recorded) != len(outcome.tensors):  # changed code can make another model
            return ""
        different = [name for name, a, b in zip(self.names, recorded, outcome.tensors, strict=True) if a != b]
        return next((name for name in sorted(different, key=lambda name: not name.startswith("gradient"))), "")

    def finish(self) -> None:
        """All steps are done: nothing that was recorded may be left over."""
        left = sorted(key for key in self.expected if key[0] <= self.last)
        if left:
            step, split = left[0]
            raise Diverged(
                f"step {step}: phase evaluation: {self.folder.metrics_path} has a line for the split {split} that a "
                "replay does not make"
            )


def progress(step: Step, seconds: float) -> dict[str, Any]:
    """What a display shows of a step."""
    return {
        "event": "step",
        "step": step.step,
        "loss": step.loss,
        "learning_rate": step.learning_rate,
        "examples": step.examples,
        "seconds": seconds,
    }


def _rows(folder: RunFolder, table: TensorTable) -> dict[int, bytes]:
    """The rows that are in `ledger.tensors` for recorded steps; the file is made where there is none."""
    if not folder.lines():
        appender = Appender(folder.tensors_path, 0)
        appender.append(table.header)
        appender.close()
        return {}
    names, rows = folder.tensors()
    if names != table.names:
        raise RunFolderError(f"{folder.tensors_path}: it names other tensors than this model has")
    return {step: table.encode(step, values) for step, values in rows.items()}


def _compare(line: Line, found: Step, how: str, tensor: str = "") -> None:
    difference = first_phase(line.step, found)
    if difference is None:
        return
    phase, name = difference
    expected = getattr(line.step, name)
    first = f"; the first tensor that differs: {tensor}" if tensor else ""
    raise Diverged(
        f"step {found.step}: phase {phase}: {name} {how} is {getattr(found, name)!r}, recorded {expected!r}{first}"
    )


def _compare_metrics(values: dict[str, Any], expected: bytes, evaluation: Evaluation, found: bytes) -> None:
    if expected == found:
        return
    for name, value in evaluation.metrics.items():
        if values.get(f"{name}_hex") != float(value).hex():
            raise Diverged(
                f"step {evaluation.step}: phase evaluation: {name} on the split {evaluation.split} is {value!r}, "
                f"recorded {values.get(name)!r}"
            )
    raise Diverged(
        f"step {evaluation.step}: phase evaluation: expected the line of the split {values.get('split')} at step "
        f"{values.get('step')}, found {evaluation.split}"
    )
