"""`load`: from a path to a model; the one place where names of families are turned into code."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from torch import nn

from glassrun.errors import ModelError, nearest
from glassrun.pretrained import bert, convnext, gpt2, llama, native, resnet, t5, vit
from glassrun.pretrained.folder import CONFIG, Folder
from glassrun.pretrained.plan import Plan, fill
from glassrun.pretrained.settings import Settings
from glassrun.pretrained.weights import of_file, of_folder

# `model_type` of a config.json to the family's plan.
FAMILIES: dict[str, Callable[[Settings, Collection[str]], Plan]] = {
    "bert": bert.plan,
    "convnext": convnext.plan,
    native.FAMILY: native.plan,
    "gpt2": gpt2.plan,
    "llama": llama.plan,
    "resnet": resnet.plan,
    "t5": t5.plan,
    "vit": vit.plan,
}


def load(path: str | Path, *, without: Sequence[str] = ()) -> nn.Module:
    """A model with the weights of a local Hugging Face folder, in evaluation mode and float32.

    Every tensor of the files is used and every tensor of the model filled, or the error names them; so is every value
    of config.json that the model cannot honour. The folder may be a stranger's: no code of it runs, no pickle is
    obeyed, no file outside it is read. A tokenizer that lies in it is not read.

    Arguments:
        path: a folder with config.json and safetensors files (or `pytorch_model.bin`, which is read with torch's
            `weights_only`); or a file with the weights of a ResNet under torchvision's names.
        without: names of tensors in the files to leave out, such as those of a head that the model has not.

    Returns:
        One of the models in `glassrun.models`. Its logits are the original library's up to rounding.

    Raises:
        ModelError: there is no such model, or it is damaged, of a family that is not known, or of a kind that no model
            of ours can compute.
    """
    try:
        place = Path(path).expanduser()
        is_file = place.is_file()
    except (OSError, RuntimeError) as error:  # a name that is too long, or of a user who is not there
        why = getattr(error, "strerror", None) or error
        raise ModelError(f"{path!s:.200}: no such folder or file: {why}") from None
    if is_file:
        weights = of_file(place)
        return fill(resnet.torchvision(weights.shapes, weights.where), weights, without)
    if not place.is_dir():
        raise ModelError(
            f"{path}: no such folder or file. Weights are read from the disk, not from a hub: download first"
        )
    folder = Folder(place)
    values = folder.json(CONFIG)
    family = values.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise ModelError(f"{place / CONFIG}: model_type is {family!r:.60}; {nearest(str(family), FAMILIES)}")
    weights = of_folder(folder)
    settings = Settings(values, str(place / CONFIG), len(weights.shapes))
    found = FAMILIES[family](settings, weights.shapes)
    settings.finish()
    return fill(found, weights, without)
