"""A forward pass in which everything is run by Python, and that leaves a model and the generators as they were."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from torch import nn

from glassrun.generators import undisturbed


@contextmanager
def unchanged(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Afterwards buffers hold what they held, and random generators stand where they stood, whatever happened.

    In training mode a pass moves buffers, such as the averages of batch norms.

    Inside, nn.TransformerEncoder and nn.MultiheadAttention take their usual path instead of one kernel for all
    (`torch.backends.mha`), which calls no modules, so that no hook of theirs would run; and functions that were
    compiled by torch.compile run as they were written.
    """
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    fast = torch.backends.mha.get_fastpath_enabled()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # else nothing was compiled, and importing it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(undisturbed())
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(torch.no_grad())
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for module, name, buffer, before in buffers:
                if not torch.equal(buffer, before):
                    with torch.inference_mode() if buffer.is_inference() else nullcontext():
                        buffer.copy_(before)
                module._buffers[name] = buffer  # some modules put another tensor in its place
