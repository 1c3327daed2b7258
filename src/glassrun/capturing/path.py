"""Where in a model a forward pass is: the modules that were entered and not left yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from glassrun.capturing.flow import tensors_in

Left = Callable[[str, nn.Module, Any], None]


class Path:
    """The modules around what is running, the innermost last.

    Arguments:
        left: called with each module's name, the module, and what it returned.
    """

    def __init__(self, left: Left) -> None:
        self._left = left
        self._entered: list[tuple[str, nn.Module, Any]] = []

    @property
    def name(self) -> str:
        """Of the innermost module."""
        return self._entered[-1][0] if self._entered else ""

    @property
    def inputs(self) -> list[Tensor]:
        """The tensors that it was called with."""
        return list(tensors_in(self._entered[-1][2])) if self._entered else []

    def described(self) -> str:
        """The innermost module for messages: its name, its kind, and the shapes it was called with."""
        if not self._entered:
            return "the model"
        name, module, _ = self._entered[-1]
        shapes = ", ".join(map(_described, self.inputs))
        return f"{name or 'the model'!s} ({type(module).__name__}{f', called with {shapes}' if shapes else ''})"

    @contextmanager
    def watching(self, modules: Mapping[str, nn.Module]) -> Iterator[None]:
        """Follow the passes of these modules; the hooks go when the context ends, whatever happens inside."""
        hooks: list[Any] = []
        try:
            for name, module in modules.items():
                # Ours comes first before a module, so that a hook of the user's runs inside of it, and last behind it,
                # so that we see what the next module gets.
                hooks.append(module.register_forward_pre_hook(self._enter(name), with_kwargs=True, prepend=True))
                hooks.append(module.register_forward_hook(self._leave(name)))
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._entered.append((name, module, (args, kwargs)))

        return hook

    def _leave(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            del args
            # A module that failed, and whose error the model took care of, was entered and never left.
            while self._entered and self._entered.pop()[0] != name:
                pass
            self._left(name, module, output)

        return hook


def _described(x: Tensor) -> str:
    kind = str(x.dtype).removeprefix("torch.").capitalize()
    return f"nested {kind}" if x.is_nested else f"{kind}{list(x.shape)}"
