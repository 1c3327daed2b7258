"""The optimizers of `torch.optim` under the contract: which parameters each is given, and the state that it keeps.

None but the two of Adam is fused, and none is `foreach`: those treat parameters together, and some fail for one whose
first gradient comes later than the others'.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from glassrun.config import Recipe
from glassrun.sections.optimizers import Muon
from glassrun.train.memory import owned

Named = Sequence[tuple[str, nn.Parameter]]
Groups = list[dict[str, Any]]

_NORMS = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._NormBase,  # batch and instance norm
)
# Facts of the data that say how many logits a model gives.
_OUTPUTS = ("num_classes", "vocabulary_size", "target_vocabulary_size")


class Together:
    """Several optimizers, each with parameters of its own, that are one to the trainer, with one state."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        self.state: dict[Any, Any] = defaultdict(dict)
        for part in parts:
            part.state = self.state
        self.param_groups = [group for part in parts for group in part.param_groups]

    def step(self) -> None:
        for part in self.parts:
            part.step()


Optimizer = torch.optim.Optimizer | Together


def build(recipe: Recipe, model: nn.Module, facts: Mapping[str, int]) -> Optimizer:
    """The recipe's optimizer over a model's trained parameters.

    Arguments:
        recipe: its section `optimizer` is read.
        model: its modules say which parameters belong to a norm, an embedding or a linear layer.
        facts: of the data; Muon leaves out linear layers that give as many features as there are classes or tokens.
    """
    section, named = recipe.optimizer, trained(model)
    if isinstance(section, Muon):
        return _muon(section, named, model, facts)
    return _BUILD[section.kind](section, _groups(named, model, section.weight_decay))


def trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters that are trained, by name, shared ones once."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _groups(named: Named, model: nn.Module, weight_decay: float) -> Groups:
    """The parameters that decay, then those that do not: norms and biases.

    A norm's are those of torch's norm layers. A bias is one of fewer than two dimensions, or whose own name begins with
    `bias`, as torch's `bias_k` or a table of biases by position. All else decays: weights of linear layers and
    convolutions, and also embeddings, learned positions and class tokens.
    """
    norms = {id(p) for module in model.modules() if isinstance(module, _NORMS) for p in module.parameters()}

    def decays(name: str, parameter: nn.Parameter) -> bool:
        own = name.rpartition(".")[2]
        return parameter.ndim >= 2 and id(parameter) not in norms and not own.startswith("bias")

    groups = [
        {"params": [p for name, p in named if decays(name, p)], "weight_decay": weight_decay},
        {"params": [p for name, p in named if not decays(name, p)], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


_BUILD: dict[str, Callable[[Any, Groups], torch.optim.Optimizer]] = {
    "adamw": lambda s, groups: torch.optim.AdamW(groups, lr=s.lr, betas=s.betas, eps=s.eps, fused=True),
    "adam": lambda s, groups: torch.optim.Adam(groups, lr=s.lr, betas=s.betas, eps=s.eps, fused=True),
    "sgd": lambda s, groups: torch.optim.SGD(
        groups, lr=s.lr, momentum=s.momentum, nesterov=s.nesterov, foreach=False, fused=False
    ),
    "rmsprop": lambda s, groups: torch.optim.RMSprop(
        groups, lr=s.lr, alpha=s.alpha, eps=s.eps, momentum=s.momentum, foreach=False
    ),
    "adagrad": lambda s, groups: torch.optim.Adagrad(groups, lr=s.lr, eps=s.eps, foreach=False, fused=False),
    "nadam": lambda s, groups: torch.optim.NAdam(
        groups, lr=s.lr, betas=s.betas, eps=s.eps, momentum_decay=s.momentum_decay, foreach=False
    ),
    "radam": lambda s, groups: torch.optim.RAdam(groups, lr=s.lr, betas=s.betas, eps=s.eps, foreach=False),
    "adafactor": lambda s, groups: torch.optim.Adafactor(
        groups, lr=s.lr, beta2_decay=s.beta2_decay, eps=(None, s.smallest_scale), d=s.clip_update, foreach=False
    ),
}


def _muon(section: Muon, named: Named, model: nn.Module, facts: Mapping[str, int]) -> Optimizer:
    """Muon for the matrices of hidden layers, AdamW for the rest, at one rate.

    One rate serves both because Muon's update is scaled to the size of AdamW's, 0.2 · √max(rows, columns) times the
    orthogonal matrix (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2).
    """
    matrices = hidden_matrices(model, facts)
    hidden = [parameter for _, parameter in named if id(parameter) in matrices]
    rest = [(name, parameter) for name, parameter in named if id(parameter) not in matrices]
    parts: list[torch.optim.Optimizer] = []
    if hidden:
        parts.append(
            torch.optim.Muon(
                hidden,
                lr=section.lr,
                momentum=section.momentum,
                weight_decay=section.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    if rest:
        groups = _groups(rest, model, section.weight_decay)
        parts.append(torch.optim.AdamW(groups, lr=section.lr, betas=section.betas, eps=section.eps, fused=True))
    return Together(*parts)


def hidden_matrices(model: nn.Module, facts: Mapping[str, int]) -> set[int]:
    """The `id` of each weight that Muon takes: of every `nn.Linear`, without embeddings and output layers.

    An embedding's is one that an `nn.Embedding` shares. An output layer is one that gives as many features as there are
    classes or tokens in the data, or a single one, and does not lie inside a layer of a list (`nn.ModuleList`): hidden
    ones can be as wide as a vocabulary by chance.
    """
    outputs = {1, *(facts[name] for name in _OUTPUTS if name in facts)}
    modules = list(model.modules())
    embeddings = {id(module.weight) for module in modules if isinstance(module, nn.Embedding)}
    layers = [layer for module in modules if isinstance(module, nn.ModuleList) for layer in module]
    inside = {inner for layer in layers for inner in layer.modules() if inner is not layer}
    linear = [module for module in modules if isinstance(module, nn.Linear)]
    hidden = [module for module in linear if module in inside or module.out_features not in outputs]
    return {id(module.weight) for module in hidden} - embeddings


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Set the rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def state_tensors(optimizer: Optimizer, named_parameters: Named) -> dict[str, Tensor]:
    """The optimizer's state as `parameter/key`, in the order of the parameters and then of the keys."""
    found: dict[str, Tensor] = {}
    for name, parameter in named_parameters:
        for key, value in sorted(optimizer.state.get(parameter, {}).items()):
            assert isinstance(value, Tensor), f"{name}/{key}: torch's optimizers keep tensors alone, counters too"
            found[f"{name}/{key}"] = value
    return found


def restore_state(optimizer: Optimizer, named_parameters: Named, tensors: Mapping[str, Tensor]) -> None:
    """Put saved state in place, each tensor in storage of its own."""
    by_name = dict(named_parameters)
    for full, tensor in tensors.items():
        name, _, key = full.rpartition("/")
        optimizer.state[by_name[name]][key] = owned(tensor)
