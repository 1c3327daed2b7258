"""From another library's tensors to a model of ours: which of our names is filled from which of theirs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from glassrun.errors import ModelError
from glassrun.pretrained.weights import Weights

_MOST_PROBLEMS = 6  # in one message
_MOST_TABLES = 2**30  # bytes of buffers that no file holds; rotary positions of a million tokens have half of it


@dataclass(frozen=True)
class Source:
    """Where a tensor of ours comes from: several of theirs, one below the other, each turned round or not.

    Arguments:
        names: of theirs; the first axis of ours is cut among them.
        shares: how much of it each has, in relation to the others.
        factors: what each of them is multiplied with; nothing where there are none.
        turned: theirs is stored [in, out], ours [out, in].
        shaped: theirs has axes of length one more or less; the elements are the same in the same order.
    """

    names: tuple[str, ...]
    shares: tuple[int, ...] = (1,)
    factors: tuple[float, ...] = ()
    turned: bool = False
    shaped: bool = False

    def within(self, prefix: str) -> Source:
        return replace(self, names=tuple(prefix + name for name in self.names))


def same(name: str) -> Source:
    """Theirs as it is."""
    return Source((name,))


def turned(name: str) -> Source:
    """Theirs with its two axes exchanged."""
    return Source((name,), turned=True)


def shaped(name: str) -> Source:
    """Theirs without or with more axes of length one."""
    return Source((name,), shaped=True)


def scaled(name: str, factor: float) -> Source:
    """Theirs, every number of it multiplied."""
    return Source((name,), factors=(factor,))


def stacked(*names: str, shares: tuple[int, ...] = (), factors: tuple[float, ...] = ()) -> Source:
    """Several of theirs below each other, equally high unless `shares` says how high."""
    return Source(names, shares or (1,) * len(names), factors)


def layers(count: int, ours: str, theirs: str, table: Mapping[str, Source]) -> dict[str, Source]:
    """The names of one layer for `count` of them; `{}` in the two prefixes stands for the layer's number.

    >>> layers(1, "layers.{}.", "h.{}.", {"norm.weight": same("ln.weight")})
    {'layers.0.norm.weight': Source(names=('h.0.ln.weight',), shares=(1,), factors=(), turned=False, shaped=False)}
    """
    return {
        ours.format(i) + name: source.within(theirs.format(i)) for i in range(count) for name, source in table.items()
    }


def weight_and_bias(table: Mapping[str, str]) -> dict[str, Source]:
    """Of modules that have a weight and a bias each: ours to theirs.

    >>> {ours: source.names for ours, source in weight_and_bias({"norm": "ln"}).items()}
    {'norm.weight': ('ln.weight',), 'norm.bias': ('ln.bias',)}
    """
    return {f"{ours}.{part}": same(f"{theirs}.{part}") for ours, theirs in table.items() for part in ("weight", "bias")}


@dataclass(frozen=True)
class Plan:
    """How a family's folder becomes a model.

    Arguments:
        build: makes the model, with whatever values in it.
        sources: for each of its parameters and buffers, where it comes from.
        prefix: what the names of the file may begin with or not, whatever class wrote it.
        endings: older ends of names to those that `sources` has.
        ties: names of the file that must hold the same as another, because the model has one tensor for both.
        derived: names of the file that hold what follows from the configuration, and are not read.
        optional: tensors of ours that stay as they are built where the file has none for them.
    """

    build: Callable[[], nn.Module]
    sources: Mapping[str, Source]
    prefix: str = ""
    endings: Mapping[str, str] = field(default_factory=dict)
    ties: Mapping[str, str] = field(default_factory=dict)
    derived: Collection[str] = frozenset()
    optional: Collection[str] = frozenset()


def fill(plan: Plan, weights: Weights, without: Collection[str]) -> nn.Module:
    """The plan's model with the file's tensors, in evaluation mode, all of float32.

    Shapes are compared on a model that has no memory yet, so that no file and no configuration can ask for any that
    the files do not hold.

    Raises:
        ModelError: a tensor is missing, of another shape, or has no place in the model.
    """
    theirs = _their_names(weights, plan)
    try:
        with _NoDraws(), torch.device("meta"):
            empty = plan.build()
    except (ModelError, RuntimeError, TypeError, ValueError, ArithmeticError) as error:  # sizes that no tensor can have
        what = str(error).partition("\n")[0]  # torch's go on with a trace
        raise ModelError(f"{weights.where}: no model can be made of the sizes that are given for it: {what}") from None
    hollow = _tensors(empty)
    tables = sum(buffer.nbytes for name, buffer in empty.named_buffers() if name not in hollow)
    if tables > _MOST_TABLES:
        raise ModelError(
            f"{weights.where}: the model would need tables of {tables:,} bytes that are in no file, such as those of "
            f"its positions; expected at most {_MOST_TABLES:,}. Give it a smaller maximum of positions"
        )
    wanted = {name: plan.sources[name] for name in hollow if name in plan.sources}
    wanted = {name: s for name, s in wanted.items() if name not in plan.optional or s.names[0] in theirs}
    _check(weights, theirs, hollow, wanted, plan, without)
    with _NoDraws():
        model = plan.build()
    with torch.no_grad():
        tensors = _tensors(model)
        for name in wanted:
            tensor = tensors[name]
            parts = [weights.read(theirs[_one_of(part, theirs, plan)]) for part in wanted[name].names]
            if any(part.is_floating_point() != tensor.is_floating_point() for part in parts):
                raise ModelError(
                    f"{weights.where}: {wanted[name].names[0]}: expected {tensor.dtype}, found {parts[0].dtype}"
                )
            tensor.copy_(_put_together(parts, wanted[name], tensor.shape))
    _check_ties(weights, theirs, plan)
    return model.eval()


class _NoDraws(TorchFunctionMode):
    """Layers that are made inside draw nothing: it would be written over, and the generators are the caller's.

    (On the meta device the first draw also imports torch's compiler, measured at 5 s.)
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (Tensor.normal_, Tensor.uniform_) or getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a file must hold: parameters, shared ones once, and the buffers that do not follow from others."""
    kept = model.state_dict(keep_vars=True)
    seen: dict[int, str] = {}
    return {name: tensor for name, tensor in kept.items() if seen.setdefault(id(tensor), name) == name}


def _their_names(weights: Weights, plan: Plan) -> dict[str, str]:
    """Names as `sources` has them, to the names in the file."""
    found: dict[str, str] = {}
    for name in weights.shapes:
        short = name.removeprefix(plan.prefix)
        for old, new in plan.endings.items():
            short = short.removesuffix(old) + new if short.endswith(old) else short
        if short in found:
            raise ModelError(f"{weights.where}: {name!r} and {found[short]!r} are the same tensor's names")
        found[short] = name
    return found


def _one_of(name: str, theirs: Collection[str], plan: Plan) -> str:
    """A name, or one that is tied to it where only that is in the file."""
    if name not in theirs:
        return next((tied for tied, to in plan.ties.items() if to == name and tied in theirs), name)
    return name


def _check(
    weights: Weights,
    theirs: Mapping[str, str],
    hollow: Mapping[str, Tensor],
    wanted: Mapping[str, Source],
    plan: Plan,
    without: Collection[str],
) -> None:
    """See that files and model have the same tensors, of the same shapes."""
    parts = {name: [_one_of(part, theirs, plan) for part in source.names] for name, source in wanted.items()}
    missing = [f"{part} (for {name})" for name, names in parts.items() for part in names if part not in theirs]
    missing += [name for name in hollow if name not in wanted and name not in plan.optional]
    used = {part for names in parts.values() for part in names}
    problems = [
        *([f"these tensors are missing: {_listed(missing)}"] if missing else []),
        *_other_shapes(weights, theirs, hollow, wanted, parts),
        *_left_over(theirs, used, plan, without),
    ]
    if problems:
        raise ModelError("\n".join(f"{weights.where}: {problem}" for problem in problems[:_MOST_PROBLEMS]))


def _other_shapes(
    weights: Weights,
    theirs: Mapping[str, str],
    hollow: Mapping[str, Tensor],
    wanted: Mapping[str, Source],
    parts: Mapping[str, list[str]],
) -> Iterator[str]:
    for name, source in wanted.items():
        shapes = [weights.shapes[theirs[part]] for part in parts[name] if part in theirs]
        ours = tuple(hollow[name].shape)
        if len(shapes) == len(source.names) and not _fits(source, shapes, ours):
            expected = f"{_shape(ours)}{', turned round' if source.turned else ''}"
            if len(shapes) > 1:
                expected += f" together, their heights as {' to '.join(map(str, source.shares))},"
            yield f"{', '.join(parts[name])}: expected {expected} for {name}, found {' and '.join(map(_shape, shapes))}"


def _left_over(theirs: Mapping[str, str], used: Collection[str], plan: Plan, without: Collection[str]) -> Iterator[str]:
    left = [name for name in theirs if name not in used and name not in plan.ties and name not in plan.derived]
    left = [name for name in left if name not in without and theirs[name] not in without]
    if left:
        yield (
            f"these tensors have no place in the model: {_listed(left)}. To load it without them, name them: "
            f"load(path, without=[{left[0]!r}, …])"
        )
    if unknown := [name for name in without if name not in theirs and name not in theirs.values()]:
        yield f"without: there is no tensor {_listed(unknown)}"
    if needed := [name for name in without if name in used]:
        yield f"without: the model cannot do without {_listed(needed)}"


def _fits(source: Source, shapes: list[tuple[int, ...]], ours: tuple[int, ...]) -> bool:
    """Whether tensors of these shapes, put together, have our shape."""
    if source.shaped:
        return [size for size in shapes[0] if size != 1] == [size for size in ours if size != 1]
    if source.turned:
        return len(shapes[0]) == 2 and shapes[0][::-1] == ours
    if len(shapes) == 1:
        return shapes[0] == ours
    unit, rest = divmod(ours[0], sum(source.shares))
    return not rest and shapes == [(unit * share, *ours[1:]) for share in source.shares]


def _put_together(parts: list[Tensor], source: Source, shape: torch.Size) -> Tensor:
    """A tensor of ours from theirs; what takes it copies it: nothing of a file is adopted (see train.memory)."""
    if source.factors:
        parts = [part.float() * factor for part, factor in zip(parts, source.factors, strict=True)]
    if source.shaped:
        return parts[0].reshape(shape)
    if source.turned:
        return parts[0].T
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _check_ties(weights: Weights, theirs: Mapping[str, str], plan: Plan) -> None:
    for tied, to in plan.ties.items():
        if tied in theirs and to in theirs and not torch.equal(weights.read(theirs[tied]), weights.read(theirs[to])):
            raise ModelError(
                f"{weights.where}: config.json says that {tied} is {to}, but the two tensors differ: set "
                "tie_word_embeddings to false in config.json"
            )


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "a single number"


def _listed(names: Iterable[str]) -> str:
    """At most five names, in a form that shows on one line whatever is in them."""
    shown = list(names)
    text = ", ".join(name if name.isprintable() else repr(name) for name in shown[:5])
    return text + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
