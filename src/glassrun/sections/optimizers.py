"""The `optimizer` section: one class a kind; what each computes is said in `train.optimizer`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from glassrun.identity import IfGiven
from glassrun.sections.base import NonNegative, Positive, Section, Share

Betas = tuple[Share, Share]


class Optimizer(Section):
    """What every optimizer has: the rate that the schedule reaches, weight decay, and clipping of the gradient."""

    kind: str
    lr: NonNegative
    weight_decay: NonNegative = 0.0
    clip_norm: Positive | None = None
    clip_value: Annotated[Positive | None, IfGiven] = None

    @model_validator(mode="after")
    def _clips_once(self) -> Self:
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("clip_norm and clip_value are both set; take one, and set the other to null")
        return self


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    kind: Literal["adamw"] = "adamw"
    lr: NonNegative = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.01
    clip_norm: Positive | None = 1.0


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015); weight decay enters the gradient."""

    kind: Literal["adam"]
    lr: NonNegative = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: Positive = 1e-8
    clip_norm: Positive | None = 1.0


class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"]
    lr: NonNegative = 0.1
    momentum: Share = 0.9
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class RMSprop(Optimizer):
    """The gradient over the root of its mean square (Tieleman & Hinton 2012)."""

    kind: Literal["rmsprop"]
    lr: NonNegative = 1e-2
    alpha: Share = 0.99
    eps: Positive = 1e-8
    momentum: Share = 0.0


class Adagrad(Optimizer):
    """The gradient over the root of the sum of all its squares (Duchi, Hazan & Singer 2011)."""

    kind: Literal["adagrad"]
    lr: NonNegative = 1e-2
    eps: Positive = 1e-10


class NAdam(Optimizer):
    """Adam with Nesterov's momentum (Dozat 2016)."""

    kind: Literal["nadam"]
    lr: NonNegative = 2e-3
    betas: Betas = (0.9, 0.999)
    eps: Positive = 1e-8
    momentum_decay: NonNegative = 4e-3
    clip_norm: Positive | None = 1.0


class RAdam(Optimizer):
    """Adam whose step is held back while its second moment rests on few gradients (Liu et al. 2020)."""

    kind: Literal["radam"]
    lr: NonNegative = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: Positive = 1e-8
    clip_norm: Positive | None = 1.0


class Adafactor(Optimizer):
    """Adam's second moment from one value a row and one a column (Shazeer & Stern 2018)."""

    kind: Literal["adafactor"]
    lr: NonNegative = 1e-2
    beta2_decay: Annotated[float, Field(le=0.0)] = -0.8
    smallest_scale: Positive = 1e-3
    clip_update: Annotated[float, Field(ge=1.0)] = 1.0


class Muon(Optimizer):
    """Orthogonalised momentum for the matrices of hidden layers (Jordan et al. 2024), AdamW for all else."""

    kind: Literal["muon"]
    lr: NonNegative = 1e-3
    momentum: Share = 0.95
    betas: Betas = (0.9, 0.95)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.1
    clip_norm: Positive | None = 1.0


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adamw": AdamW,
    "adam": Adam,
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
    "nadam": NAdam,
    "radam": RAdam,
    "adafactor": Adafactor,
    "muon": Muon,
}
