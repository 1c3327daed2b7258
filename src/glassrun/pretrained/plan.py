"""From another library's tensors to a model of ours: which of our names is filled from which of theirs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from glassrun.errors import ModelError
from glassrun.generators import undisturbed
from glassrun.pretrained.weights import Weights


@dataclass(frozen=True)
class Source:
    """Where a tensor of ours comes from: several of theirs, one below the other, each turned round or not.

    Arguments:
        names: of theirs; the first axis of ours is cut among them.
        factors: what each of them is multiplied with; nothing where there are none.
        turned: theirs is stored [in, out], ours [out, in].
        shaped: theirs has axes of length one more or less; the elements are the same in the same order.
    """

    names: tuple[str, ...]
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
    return Source((name,), (factor,))


def stacked(*names: str, factors: tuple[float, ...] = ()) -> Source:
    """Several of theirs below each other."""
    return Source(names, factors)


def layers(count: int, ours: str, theirs: str, table: Mapping[str, Source]) -> dict[str, Source]:
    """The names of one layer for `count` of them; `{}` in the two prefixes stands for the layer's number.

    >>> layers(1, "layers.{}.", "h.{}.", {"norm.weight": same("ln.weight")})
    {'layers.0.norm.weight': Source(names=('h.0.ln.weight',), factors=(), turned=False, shaped=False)}
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
        ties: names of the file that must hold the same as another, because the model has one tensor for both.
        derived: names of the file that hold what follows from the configuration, and are not read.
        optional: tensors of ours that stay as they are built where the file has none for them.
    """

    build: Callable[[], nn.Module]
    sources: Mapping[str, Source]
    prefix: str = ""
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
    theirs = _without_prefix(weights, plan.prefix)
    try:
        with torch.device("meta"):
            hollow = _tensors(plan.build())
    except (RuntimeError, TypeError, OverflowError) as error:  # sizes that no tensor can have
        raise ModelError(f"{weights.where}: no model can be of the sizes in config.json: {error}") from None
    wanted = {name: plan.sources[name] for name in hollow if name in plan.sources}
    wanted = {name: s for name, s in wanted.items() if name not in plan.optional or s.names[0] in theirs}
    _check(weights, theirs, hollow, wanted, plan, without)
    with undisturbed():
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


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a file must hold: parameters, shared ones once, and the buffers that do not follow from others."""
    kept = model.state_dict(keep_vars=True)
    seen: dict[int, str] = {}
    return {name: tensor for name, tensor in kept.items() if seen.setdefault(id(tensor), name) == name}


def _without_prefix(weights: Weights, prefix: str) -> dict[str, str]:
    """Names without the prefix, to the names in the file."""
    found: dict[str, str] = {}
    for name in weights.shapes:
        short = name.removeprefix(prefix)
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
    names = {name: [_one_of(part, theirs, plan) for part in source.names] for name, source in wanted.items()}
    used = {part for parts in names.values() for part in parts}
    problems = []
    missing = [f"{part} (for {name})" for name, parts in names.items() for part in parts if part not in theirs]
    missing += [name for name in hollow if name not in wanted and name not in plan.optional]
    if missing:
        problems.append(f"these tensors are missing: {_listed(missing)}")
    for name, source in wanted.items():
        shapes = [weights.shapes[theirs[part]] for part in names[name] if part in theirs]
        if len(shapes) == len(source.names) and not _fits(source, shapes, tuple(hollow[name].shape)):
            found = " and ".join(map(_shape, shapes))
            expected = f"{_shape(tuple(hollow[name].shape))}{', turned round' if source.turned else ''}"
            problems.append(f"{', '.join(names[name])}: expected {expected} for {name}, found {found}")
    left = [name for name in theirs if name not in used and name not in plan.ties and name not in plan.derived]
    left = [name for name in left if name not in without and theirs[name] not in without]
    if left:
        problems.append(
            f"these tensors have no place in the model: {_listed(left)}. To load it without them, name them: "
            f"load(path, without=[{left[0]!r}, …])"
        )
    unknown = [name for name in without if name not in theirs and name not in weights.shapes]
    if unknown:
        problems.append(f"without: there is no tensor {_listed(unknown)}")
    needed = [name for name in without if name in used]
    if needed:
        problems.append(f"without: the model cannot do without {_listed(needed)}")
    if problems:
        raise ModelError("\n".join(f"{weights.where}: {problem}" for problem in problems[:6]))


def _fits(source: Source, shapes: list[tuple[int, ...]], ours: tuple[int, ...]) -> bool:
    """Whether tensors of these shapes, put together, have our shape."""
    if source.shaped:
        return [size for size in shapes[0] if size != 1] == [size for size in ours if size != 1]
    if source.turned:
        return len(shapes[0]) == 2 and shapes[0][::-1] == ours
    if len(shapes) == 1:
        return shapes[0] == ours
    return all(shape and shape[1:] == ours[1:] for shape in shapes) and sum(shape[0] for shape in shapes) == ours[0]


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
