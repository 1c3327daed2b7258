"""What `glassrun show` tells of a run."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

from glassrun.record.run_folder import RECORDED, RunFolder, checkpoint_paths


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
        "loss": loss if loss is not None and isfinite(loss) else None,
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
        ("loss", _loss_text(values)),
        *((split, _metrics_text(found)) for split, found in values["metrics"].items()),
        ("parameters", values["params_fingerprint"] or "none yet"),
        ("chain", values["chain"] or "none yet"),
        *(("note", note) for note in values["notes"]),
    ]
    return "\n".join(f"{name:<11} {text}" for name, text in rows)


def _loss_text(values: dict[str, Any]) -> str:
    if values["loss"] is not None:
        return f"{values['loss']:.4f}"
    return "not finite" if values["steps"] else "none yet"


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
