"""The callback in a fit of the real Lightning: its ledger is the one of the same loop written by hand."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning", reason="needs Lightning: pip install 'glassrun[lightning]'")

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import glassrun
from glassrun.integrations.lightning import GlassrunCallback
from glassrun.record.run_folder import RunFolder

# Lightning warns of much that is as it should be here: few data workers, no logger.
pytestmark = pytest.mark.filterwarnings("default")


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2))


def data() -> TensorDataset:
    generator = torch.Generator().manual_seed(2)
    return TensorDataset(torch.randn(12, 5, generator=generator), torch.randn(12, 2, generator=generator))


class Module(LightningModule):
    """A regression; it may fail at a batch."""

    def __init__(self, fails_at: int = -1) -> None:
        super().__init__()
        self.network = network()
        self.fails_at = fails_at

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        if batch_idx == self.fails_at:
            raise ValueError("a bad batch")
        return nn.functional.mse_loss(self.network(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:  # noqa: ARG002
        self.log("val_loss", nn.functional.mse_loss(self.network(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.network.parameters(), lr=0.1)


def fit(path: Path, module: Module, accumulate: int = 1) -> None:
    trainer = Trainer(
        max_epochs=2,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=0.5,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[GlassrunCallback(path, {"lr": 0.1})],
    )
    trainer.fit(module, DataLoader(data(), batch_size=3), DataLoader(data(), batch_size=4))


def by_hand(path: Path, accumulate: int = 1) -> None:
    """The same training without Lightning."""

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

    model = Holder()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with glassrun.record(path, {"lr": 0.1}) as run:
        for epoch in (1, 2):
            parts: list[Any] = []
            losses = []
            for batch in DataLoader(data(), batch_size=3):
                parts.append(batch)
                losses.append(nn.functional.mse_loss(model.network(batch[0]), batch[1]) / accumulate)
                losses[-1].backward()
                if len(parts) < accumulate:
                    continue
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
                loss = losses[0] if accumulate == 1 else losses[0] + losses[1]
                run.step(model=model, optimizer=optimizer, loss=loss, batch=parts, examples=3 * len(parts), epoch=epoch)
                optimizer.zero_grad()
                parts, losses = [], []


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_fit_leaves_the_ledger_of_the_same_loop(tmp_path: Path, accumulate: int) -> None:
    fit(tmp_path / "fit", Module(), accumulate)
    by_hand(tmp_path / "hand", accumulate)
    found, expected = RunFolder.open(tmp_path / "fit"), RunFolder.open(tmp_path / "hand")
    found.check()
    assert [line.step for line in found.lines()] == [line.step for line in expected.lines()]
    assert len(found.lines()) == 8 // accumulate
    assert found.header["chain"] == expected.header["chain"]
    assert found.header["initial"] == expected.header["initial"]
    assert found.header["notes"] == []
    assert (found.header["status"], found.header["config"]) == ("complete", {"lr": 0.1})
    assert [(line["step"], line["split"]) for line in found.metrics()] == [
        (4 // accumulate, "validation"),
        (8 // accumulate, "validation"),
    ]
    assert all(line["val_loss"] > 0 for line in found.metrics())


def test_a_fit_that_fails_is_stopped_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a bad batch"):
        fit(tmp_path / "fit", Module(fails_at=2))
    header = RunFolder.open(tmp_path / "fit").header
    assert (header["status"], header["reason"], header["steps"]) == ("stopped", "ValueError: a bad batch", 2)


def test_without_lightning_the_message_says_what_to_install() -> None:
    program = "import sys; sys.modules['lightning'] = None; import glassrun.integrations.lightning"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, timeout=300)
    assert "MissingDependency: GlassrunCallback needs the package lightning" in done.stderr
    assert "pip install 'glassrun[lightning]'" in done.stderr
