"""The recorder as a callback of Lightning's Trainer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import Tensor

from glassrun.errors import MissingDependency
from glassrun.record.batch import length
from glassrun.record.recorder import Recorder, record

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:
    raise MissingDependency("lightning", "GlassrunCallback", extra="lightning") from None


class GlassrunCallback(Callback):
    """Records a fit: one line of the ledger for each optimizer step, one of `metrics.jsonl` for each validation.

        Trainer(callbacks=[GlassrunCallback("runs/mine", config)]).fit(module, data)

    Under gradient accumulation a line's batch is all batches since the last step, and its loss their sum, which
    Lightning has divided already. Gradients are those after clipping.

    Arguments:
        path: the run's folder; nothing may stand there when the fit begins.
        config: as for `glassrun.record`.
        every: as for `glassrun.record`.

    The seed is the one that `lightning.seed_everything` was given.
    """

    def __init__(self, path: str | Path, config: Any = None, *, every: int = 1) -> None:
        self.path, self.config, self.every = Path(path), config, every
        self.run: Recorder | None = None
        self._batches: list[Any] = []
        self._losses: list[Tensor] = []
        self._steps = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        seed = os.environ.get("PL_GLOBAL_SEED")
        self.run = record(self.path, self.config, seed=None if seed is None else int(seed), every=self.every)
        self.run.__enter__()
        self._steps = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        assert self.run is not None, "a batch comes after the start"
        self._batches.append(batch)
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            self._losses.append(loss.detach())
        if trainer.global_step == self._steps:
            return
        self._steps = trainer.global_step
        self.run.step(
            model=pl_module,
            optimizer=trainer.optimizers,
            loss=sum(self._losses[1:], self._losses[0]) if self._losses else None,
            batch=self._batches,
            examples=sum(map(length, self._batches)),
            epoch=trainer.current_epoch + 1,
        )
        self._batches, self._losses = [], []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        if self.run is not None and trainer.callback_metrics:  # before the start, Lightning only tries validation out
            self.run.evaluation("validation", trainer.callback_metrics)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._leave(None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        self._leave(exception)

    def _leave(self, error: BaseException | None) -> None:
        run, self.run = self.run, None
        if run is not None:
            run.__exit__(type(error) if error else None, error, None)
