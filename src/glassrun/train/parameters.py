"""That a forward pass leaves the parameters alone: every slice must start from the step's, and so must the update."""

from __future__ import annotations

from torch import Tensor, nn

from glassrun.errors import ModelError
from glassrun.train.attributes import only_ours
from glassrun.train.buffers import same_bits
from glassrun.train.memory import owned
from glassrun.train.workers import Workers


class ParameterGuard:
    """Compares all parameters, trained or not, with what they were: `begin`, then `check` after the last slice.

    Bits are compared, because torch counts no change that is made through `.data`. Models of ours change none.
    """

    def __init__(self, model: nn.Module, task: object) -> None:
        self.model = model
        self.watched = not only_ours(model, task)
        self.own = dict(model.named_parameters(remove_duplicate=False)) if self.watched else {}
        self.trained = {name: parameter.requires_grad for name, parameter in self.own.items()}
        self.buffers = set(dict(model.named_buffers(remove_duplicate=False)))
        self.before: dict[str, Tensor] = {}
        self.places: dict[str, int] = {}

    def begin(self) -> None:
        """The step starts: remember every parameter."""
        for name, parameter in self.own.items():
            if name in self.before:
                self.before[name].copy_(parameter.detach())
            else:
                self.before[name] = owned(parameter)
            self.places[name] = parameter.data_ptr()

    def check(self, step: int, workers: Workers | None = None) -> None:
        """The last slice is done.

        Arguments:
            step: for the message.
            workers: where some of them hold other bits and some do not, it is no forward that changed them, for that
                does the same everywhere; then the comparison of all workers after the update has the word.

        Raises:
            ModelError: a parameter was changed, replaced, registered, removed, or is (not) trained any more.
        """
        if not self.watched:
            return
        error = self._error(step)
        flags = workers.gather([0 if error is None else 1]) if workers else []
        if error is not None and (all(flag for (flag,) in flags) or "in place" not in str(error)):
            raise error

    def _error(self, step: int) -> ModelError | None:
        """What a forward did to the parameters, in words."""
        now = dict(self.model.named_parameters(remove_duplicate=False))
        new = [name for name in dict(self.model.named_buffers(remove_duplicate=False)) if name not in self.buffers]
        for name in [*now, *self.own, *new]:
            what = self._wrong(name, now)
            if what:
                return ModelError(
                    f"step {step}: the forward pass {what}: every slice of a batch must start from the same parameters "
                    "and buffers. Make them all in the model's factory; only the optimizer may change parameters; keep "
                    "what a forward updates in a buffer"
                )
        return None

    def _wrong(self, name: str, now: dict[str, nn.Parameter]) -> str:
        if name not in self.own:
            return f"registered the {'parameter' if name in now else 'buffer'} {name}"
        if name not in now:
            return f"removed the parameter {name}"
        parameter, before = now[name], self.before[name]
        if parameter is not self.own[name]:
            return f"put another parameter in the place of {name}"
        if parameter.requires_grad != self.trained[name]:
            return f"changed requires_grad of the parameter {name} to {parameter.requires_grad}"
        if (parameter.shape, parameter.dtype) != (before.shape, before.dtype) or not same_bits(parameter, before):
            return f"changed the parameter {name} in place"
        if parameter.data_ptr() != self.places[name]:  # products can depend on where a tensor lies
            return f"moved the parameter {name} to other memory"
        return ""
