"""What the exhibits of convolutional networks are made from: a trained network, and an image that was held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from glassrun.config import ImportedModel
from glassrun.data.augment import Augmented
from glassrun.data.encoding import ImageEncoding
from glassrun.data.pixels import LabelledImages
from glassrun.errors import ModelError
from glassrun.look.exhibits.base import Material
from glassrun.models.arguments import CNNArguments as CNN
from glassrun.models.arguments import ConvNeXtArguments as ConvNeXt
from glassrun.models.arguments import LeNetArguments as LeNet
from glassrun.models.arguments import ResNetArguments as ResNet
from glassrun.models.arguments import VGGArguments as VGG
from glassrun.sections.data import DigitsData, HubData, ImagesData

if TYPE_CHECKING:
    from glassrun.run import Run

_RECIPE, _STEPS = "digits-cnn", 200


@dataclass(frozen=True)
class Subject:
    """A trained network with what it was trained on.

    Attributes:
        model: in evaluation mode.
        image: the first image that was held out, as the model takes it: Float[1, channels, height, width].
        images: the held-out split that it is from.
        encoding: of the images.
        split: the split's name.
        told: which network this is, for people; begins a sentence.
    """

    model: nn.Module
    image: Tensor
    images: LabelledImages
    encoding: ImageEncoding
    split: str
    told: str


def fits(run: Run) -> bool:
    """Whether a run is of a convolutional network on images; a model of the user's is looked into when it is built."""
    recipe = run.recipe
    data = recipe.data
    of_images = data.images is not None if isinstance(data, HubData) else isinstance(data, DigitsData | ImagesData)
    known = isinstance(recipe.model, ImportedModel | CNN | ConvNeXt | LeNet | ResNet | VGG)
    return recipe.task == "classify" and of_images and known


def subject(material: Material) -> Subject:
    """The user's run where it fits, else a small CNN that is trained on digits now.

    Raises:
        BadInput: the run has no checkpoint, its data are not where they were, or its model is no convolutional network.
    """
    own = material.run is not None and fits(material.run)
    run = material.run if own and material.run is not None else material.trained(_RECIPE, train__steps=_STEPS)
    dataset, model = run.dataset, run.model
    split = next(name for name in ("test", "validation", "train") if name in dataset.splits)
    images = dataset.splits[split]
    if isinstance(images, Augmented):
        images = images.split
    convolutions(model)  # an error, if there is none
    recipe = run.recipe
    told = f"The network of the run {run.path.name}" if own else f"A small CNN, trained on {_STEPS} batches of digits"
    image = torch.from_numpy(images.example(0, 0)["image"])[None]
    return Subject(model, image, images, dataset.encoding, split, f"{told} (seed {recipe.seed})")


def convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Its convolutions of images by name.

    Raises:
        ModelError: there is none.
    """
    found = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    if not found:
        raise ModelError(
            f"{type(model).__name__}: expected a convolutional network, found no torch.nn.Conv2d in it: choose a run "
            "of another model, or leave --run out"
        )
    return found


def most_balanced(layer: nn.Conv2d, count: int) -> list[int]:
    """The filters whose weights come nearest to a sum of zero, for their size: brightness alone moves them least."""
    kernels = layer.weight.detach().flatten(1)
    imbalance = kernels.sum(1).abs() / kernels.abs().sum(1).clamp(min=torch.finfo(kernels.dtype).tiny)
    return sorted(imbalance.argsort()[:count].tolist())
