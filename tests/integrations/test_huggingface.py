"""The callback in a training of the real Hugging Face Trainer: its ledger is the one of the same loop by hand."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install 'glassrun[hub]'")
pytest.importorskip("accelerate", reason="needs accelerate: pip install 'glassrun[hub]'")

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import glassrun
from glassrun.integrations.huggingface import GlassrunCallback
from glassrun.record.run_folder import RunFolder

pytestmark = pytest.mark.filterwarnings("default")  # of the Trainer's own


def tiny() -> GPT2LMHeadModel:
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=11, n_positions=8, n_embd=6, n_layer=1, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    return GPT2LMHeadModel(config)


class Words(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        words = torch.randint(11, (8,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": words, "labels": words}


def train(path: Path, model: GPT2LMHeadModel, accumulate: int = 1) -> None:
    arguments = TrainingArguments(
        output_dir=str(path.with_name("trainer")),
        per_device_train_batch_size=3,
        gradient_accumulation_steps=accumulate,
        num_train_epochs=1,
        learning_rate=0.1,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.5,
        eval_strategy="epoch",
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        seed=5,
        train_sampling_strategy="sequential",
    )
    Trainer(
        model=model,
        args=arguments,
        train_dataset=Words(),
        eval_dataset=Words(),
        callbacks=[GlassrunCallback(path, {"lr": 0.1})],
    ).train()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_is_recorded(tmp_path: Path, accumulate: int) -> None:
    """Against a loop by hand that reads the gradients of the same steps: parameters and gradients to the bit."""
    train(tmp_path / "run", tiny(), accumulate)
    found = RunFolder.open(tmp_path / "run")
    found.check()
    header = found.header
    assert (header["status"], header["seed"], header["config"]) == ("complete", 5, {"lr": 0.1})
    assert header["notes"] == []

    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    words = Words()
    with glassrun.record(tmp_path / "hand") as run:
        for start in range(0, 12, 3 * accumulate):
            parts = [
                torch.stack([words[index]["input_ids"] for index in range(first, first + 3)])
                for first in range(start, start + 3 * accumulate, 3)
            ]
            items = torch.tensor(sum(part.numel() for part in parts))  # as the Trainer counts labels
            loss: Any = 0
            for part in parts:
                share = model(input_ids=part, labels=part, num_items_in_batch=items).loss
                share.backward()
                loss = loss + share.detach()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
            run.step(model=model, optimizer=optimizer, loss=loss, examples=3 * accumulate)
    expected = RunFolder.open(tmp_path / "hand")
    names = ("step", "examples", "loss", "learning_rate", "gradients", "parameters", "buffers")
    for a, b in zip(found.lines(), expected.lines(), strict=True):
        assert {name: getattr(a.step, name) for name in names} == {name: getattr(b.step, name) for name in names}
    assert len(found.lines()) == 4 // accumulate
    assert header["initial"] == expected.header["initial"]
    (evaluation,) = found.metrics()
    assert (evaluation["step"], evaluation["split"]) == (4 // accumulate, "validation")
    assert 0 < evaluation["loss"] < 3
    assert not any("per_second" in name or "runtime" in name for name in evaluation)


def test_two_trainings_have_one_chain(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(tmp_path / name, tiny())
    a, b = RunFolder.open(tmp_path / "a"), RunFolder.open(tmp_path / "b")
    assert a.header["chain"] == b.header["chain"]
    assert (a.path / "metrics.jsonl").read_bytes() == (b.path / "metrics.jsonl").read_bytes()


def test_without_transformers_the_message_says_what_to_install() -> None:
    program = "import sys; sys.modules['transformers'] = None; import glassrun.integrations.huggingface"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, timeout=300)
    assert "MissingDependency: GlassrunCallback needs the package transformers" in done.stderr
    assert "pip install 'glassrun[hub]'" in done.stderr
