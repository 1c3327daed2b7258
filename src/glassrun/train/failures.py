"""Errors that come out of a model, told in the user's terms."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import torch
from torch import nn

from glassrun.errors import GlassrunError, ModelError


@contextmanager
def explained(model: nn.Module, step: int) -> Iterator[None]:
    """Turn what a forward or backward pass raises into a ModelError that names module, line and cause."""
    try:
        yield
    except GlassrunError:
        raise
    except Exception as error:
        where = _module_of(error.__traceback__, model)
        inside = f" in {where}" if where else " in the backward pass or the task"
        text = " ".join(str(error).split())
        if "does not have a deterministic implementation" in text:
            operation = text.split(" does not have")[0]
            raise ModelError(
                f"step {step}: the operation {operation}{inside} has no deterministic form, so a run with it would not "
                "repeat. Replace it in the model"
            ) from None
        raise ModelError(
            f"step {step}: the model failed{inside}: {type(error).__name__}: {text[:500]} ({_line_of(error)})"
        ) from error


def _module_of(trace: TracebackType | None, model: nn.Module) -> str:
    """The name and class of the innermost module whose forward was running."""
    names = {id(module): name for name, module in model.named_modules()}
    found = ""
    while trace is not None:
        module = trace.tb_frame.f_locals.get("self")
        if isinstance(module, nn.Module) and id(module) in names:
            found = f"module {names[id(module)] or '(the model itself)'} ({type(module).__name__})"
        trace = trace.tb_next
    return found


def _line_of(error: Exception) -> str:
    """The innermost line that is not torch's own."""
    torch_folder = str(Path(torch.__file__).parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(torch_folder)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "inside torch"
