"""A run's model, built again and filled from a checkpoint."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from glassrun.errors import RunFolderError
from glassrun.generators import undisturbed
from glassrun.models import registry
from glassrun.record.run_folder import RunFolder
from glassrun.train import checkpoint as checkpoints
from glassrun.train.memory import own_parameters_and_buffers
from glassrun.train.state import seed_of

if TYPE_CHECKING:
    from torch import nn


def model_of(folder: RunFolder) -> nn.Module:
    """The model of a run's newest checkpoint, in evaluation mode; the data need not be there.

    Where the run averages its weights, it holds the averaged ones, as its evaluations did.

    Raises:
        RunFolderError: there is no checkpoint yet, or it is damaged.
    """
    found = folder.checkpoint()
    if found is None:
        raise RunFolderError(
            f"{folder.path}: the run has no checkpoint yet: go on with it first: glassrun resume {folder.path}"
        )
    sys.path += [entry for entry in folder.header["import_path"] if entry not in sys.path]
    # The user's factory may print, which is no output of ours, and moves the caller's generators.
    with undisturbed(), redirect_stdout(sys.stderr):
        model = registry.build(folder.recipe.model, folder.header["facts"], seed_of(folder.recipe))
    own_parameters_and_buffers(model)
    checkpoints.load_model(model, found)
    if folder.recipe.average:
        checkpoints.load_average(model, found, folder.recipe.average.decay)
    return model.eval()
