"""What `glassrun show` tells of a run, and of a recipe that has not run."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

from glassrun.config import Recipe
from glassrun.record.ledger import Line
from glassrun.record.run_folder import RunFolder, checkpoint_paths
from glassrun.record.run_json import RECORDED
from glassrun.train.schedule import learning_rate, warmup_steps

_BARS = "▁▂▃▄▅▆▇█"
_MOST_RATES = 32  # of a schedule


def summary(path: str | Path) -> dict[str, Any]:
    """A run as plain values, everything in its ledger and metrics checked.

    Raises:
        RunFolderError: there is no run, or it was changed.
    """
    folder = RunFolder.open(path)
    folder.check()
    lines, metrics = folder.lines(), folder.metrics()
    last = lines[-1] if lines else None
    loss = last.step.loss if last else None
    recorded = folder.header["kind"] == RECORDED
    return {
        "path": str(folder.path),
        "kind": folder.header["kind"],
        "name": folder.header["name"],
        "status": folder.status,
        "reason": folder.header.get("reason"),
        "steps": len(lines),
        "steps_planned": None if recorded else folder.recipe.train.steps,
        "seed": folder.header["seed"] if recorded else folder.recipe.seed,
        "schedule": None if recorded else _schedule(folder.recipe, _training_examples(folder)),
        "loss": loss if loss is not None and isfinite(loss) else None,
        "update_norm": _update_norm(lines),
        "metrics": _newest(metrics),
        "params_fingerprint": last.step.parameters if last else None,
        "chain": last.chain if last else None,
        "config_digest": folder.header["config_digest"],
        "data_digest": folder.header.get("data_digest"),
        "seconds": round(sum(line.seconds for line in lines), 3),
        "sessions": folder.header.get("sessions", []),
        "code": folder.header.get("code", {}).get("digest"),
        "checkpoints": [path.name for path in checkpoint_paths(folder.path)],
        "notes": folder.header.get("notes", []),
    }


def planned(recipe: Recipe) -> dict[str, Any]:
    """What a recipe that has not run says of itself, as plain values; its data are read where its warmup is in epochs.

    Raises:
        BadInput: the data are needed, and are not there.
    """
    examples = None
    if recipe.schedule.warmup_epochs is not None:
        from glassrun.data.registry import load

        seed = recipe.seed if isinstance(recipe.seed, int) else 0  # how many there are does not depend on it
        examples = len(load(recipe.data, seed).splits["train"])
    return {
        "name": recipe.name,
        "steps_planned": recipe.train.steps,
        "schedule": _schedule(recipe, examples),
        "config_digest": recipe.digest(),
    }


def planned_as_text(values: dict[str, Any]) -> str:
    """The same for people."""
    rows = [
        ("recipe", values["name"]),
        ("steps", str(values["steps_planned"])),
        ("schedule", schedule_text(values["schedule"])),
    ]
    return "\n".join(f"{name:<11} {text}" for name, text in rows)


def as_text(values: dict[str, Any]) -> str:
    """The same for people."""
    workers = [str(session["workers"]) for session in values["sessions"]]
    planned = "" if values["steps_planned"] is None else f" of {values['steps_planned']}"
    rows = [
        ("run", values["path"] + (", recorded from another program's loop" if values["kind"] == RECORDED else "")),
        ("status", values["status"] + (f": {values['reason']}" if values["reason"] else "")),
        (
            "steps",
            f"{values['steps']}{planned}, {values['seconds']:.1f} s of training"
            + (f", workers {' then '.join(workers)}" if workers else ""),
        ),
        *([("schedule", schedule_text(values["schedule"]))] if values["schedule"] else []),
        ("loss", _loss_text(values)),
        *([("updates", _updates_text(values["update_norm"]))] if values["update_norm"] else []),
        *((split, _metrics_text(found)) for split, found in values["metrics"].items()),
        ("parameters", values["params_fingerprint"] or "none yet"),
        ("chain", values["chain"] or "none yet"),
        *(("note", note) for note in values["notes"]),
    ]
    return "\n".join(f"{name:<11} {text}" for name, text in rows)


def _training_examples(folder: RunFolder) -> int | None:
    """How many the run trains on; None before it has read its data."""
    return folder.header["data"]["splits"]["train"]["examples"] if "data" in folder.header else None


def _schedule(recipe: Recipe, training_examples: int | None) -> dict[str, Any] | None:
    """The learning rate at some steps of the whole run, first, last and last of the warmup among them."""
    if training_examples is None and recipe.schedule.warmup_epochs is not None:
        return None  # nobody knows yet how many steps an epoch has
    steps, warmup = recipe.train.steps, warmup_steps(recipe, training_examples or 0)
    spread = {1 + place * (steps - 1) // (_MOST_RATES - 1) for place in range(_MOST_RATES)}
    chosen = sorted(spread | ({warmup} if 1 <= warmup <= steps else set()))
    rates = [[step, learning_rate(recipe, step, training_examples or 0)] for step in chosen]
    return {"kind": recipe.schedule.kind, "warmup_steps": warmup, "rates": rates}


def schedule_text(schedule: dict[str, Any]) -> str:
    """A schedule in a line: its kind, its form, and the rate at four of its steps.

    >>> schedule_text({"kind": "linear", "warmup_steps": 2, "rates": [[1, 0.5], [2, 1.0], [3, 0.5], [4, 0.0]]})
    'linear ▅█▅▁ 0.5 at step 1, 1 at step 2, 0.5 at step 3, 0 at step 4'
    """
    rates = schedule["rates"]
    most = max(rate for _, rate in rates) or 1.0
    bars = "".join(_BARS[round(rate / most * (len(_BARS) - 1))] for _, rate in rates)
    peak = next((place for place, (step, _) in enumerate(rates) if step == schedule["warmup_steps"]), 0)
    shown = sorted({0, peak, (peak + len(rates) - 1) // 2, len(rates) - 1})
    return f"{schedule['kind']} {bars} " + ", ".join(f"{rates[i][1]:.4g} at step {rates[i][0]}" for i in shown)


def _loss_text(values: dict[str, Any]) -> str:
    if values["loss"] is not None:
        return f"{values['loss']:.4f}"
    return "not finite" if values["steps"] else "none yet"


def _update_norm(lines: list[Line]) -> dict[str, Any] | None:
    """Of a run that records it: how far the first, the farthest and the last step moved the parameters."""
    found = [(line.step.step, line.update_norm) for line in lines if line.update_norm is not None]
    finite = [(step, norm) for step, norm in found if isfinite(norm)]
    if not finite:
        return None
    chosen = {"first": finite[0], "largest": max(finite, key=lambda pair: pair[1]), "last": finite[-1]}
    return {name: {"step": step, "norm": norm} for name, (step, norm) in chosen.items()}


def _updates_text(found: dict[str, Any]) -> str:
    parts = [f"{name} {at['norm']:.4g} at step {at['step']}" for name, at in found.items()]
    return f"norm: {', '.join(parts)}"


def _newest(metrics: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The last evaluation of each split, without the hexadecimal copies."""
    return {
        line["split"]: {k: v for k, v in line.items() if k != "split" and not k.endswith("_hex")} for line in metrics
    }


def _metrics_text(found: dict[str, Any]) -> str:
    """Every number with its name."""
    parts = [
        f"{name.replace('_', ' ')} {metric_text(name, value)}"
        for name, value in found.items()
        if name not in ("step", "examples") and value is not None
    ]
    size = f"{found['examples']} examples, " if found["examples"] else ""  # a recorded loop need not say it
    return f"{', '.join(parts)} ({size}step {found['step']})"


def metric_text(name: str, value: float) -> str:
    """A metric for people; shares as percentages, cut, not rounded up.

    >>> metric_text("accuracy", 0.98999)
    '98.99 %'
    """
    if name in ("accuracy", "exact_match", "token_accuracy"):
        return f"{int(value * 1e4 + 1e-6) / 100:.2f} %"  # 0.57 is a little less than 0.57
    return f"{value:.4f}"
