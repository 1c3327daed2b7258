"""The recorder as a callback of the Hugging Face Trainer."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from glassrun.errors import MissingDependency
from glassrun.record.batch import length
from glassrun.record.recorder import Recorder, record

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError:
    raise MissingDependency("transformers", "GlassrunCallback", extra="hub") from None


class GlassrunCallback(TrainerCallback):
    """Records a training: one line of the ledger for each optimizer step, one of `metrics.jsonl` for each evaluation.

        Trainer(model, args, callbacks=[GlassrunCallback("runs/mine", config)], ...).train()

    The Trainer tells its callbacks neither batch nor loss, so both are taken by a hook on the model's forward: what it
    is called with, and the `loss` of what it returns. Under gradient accumulation a line's batch is all batches since
    the last step.

    Arguments:
        path: the run's folder; nothing may stand there when the training begins.
        config: as for `glassrun.record`.
        every: as for `glassrun.record`.

    The seed is the Trainer's own. The Trainer does not tell of an error: a training that raises one leaves the status
    "interrupted".
    """

    def __init__(self, path: str | Path, config: Any = None, *, every: int = 1) -> None:
        self.path, self.config, self.every = Path(path), config, every
        self.run: Recorder | None = None
        self._hook: Any = None
        self._batches: list[dict[str, Any]] = []
        self._losses: list[Tensor] = []

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **others: Any,
    ) -> None:
        self.run = record(self.path, self.config, seed=args.seed, every=self.every)
        self.run.__enter__()
        self._hook = others["model"].register_forward_hook(self._take, with_kwargs=True)

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **others: Any,
    ) -> None:
        assert self.run is not None, "a step comes after the beginning"
        self.run.step(
            model=others["model"],
            optimizer=others["optimizer"],
            loss=self._loss(),
            batch=self._batches,
            examples=sum(map(length, self._batches)),
            epoch=ceil(state.epoch or 0),
        )
        self._batches, self._losses = [], []

    def on_evaluate(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **others: Any,
    ) -> None:
        if self.run is not None:
            # How long it took is no result: it differs from run to run.
            timing = ("runtime", "per_second", "time")
            found = {name.removeprefix("eval_"): value for name, value in others["metrics"].items()}
            metrics = {name: value for name, value in found.items() if not name.endswith(timing)}
            self.run.evaluation("validation", {n: v for n, v in metrics.items() if isinstance(v, (int, float))})

    def on_train_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **others: Any,  # noqa: ARG002
    ) -> None:
        run, self.run = self.run, None
        if run is not None:
            self._hook.remove()
            run.__exit__(None, None, None)

    def _take(self, model: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        if not model.training:
            return
        self._batches.append({str(place): value for place, value in enumerate(given)} | named)
        loss = output.get("loss") if hasattr(output, "get") else getattr(output, "loss", None)
        if isinstance(loss, Tensor):
            self._losses.append(loss.detach())

    def _loss(self) -> Tensor | None:
        """Of all batches: the Trainer tells a model that can divide by it how many items they hold together."""
        if not self._losses:
            return None
        total = sum(self._losses[1:], self._losses[0])
        return total if self._batches[0].get("num_items_in_batch") is not None else total / len(self._losses)
