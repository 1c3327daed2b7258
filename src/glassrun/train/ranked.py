"""A worker's part in training a run under torchrun: meet, agree on what is trained, train or wait, part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glassrun import config
from glassrun.train import writer
from glassrun.train.opening import open_folder

Tell = Callable[[dict[str, Any]], None]


def run(job: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Rank 0 has the folder and says what it trains; ranks beyond the power of two wait until it is done."""
    recipe = config.validate(job["config"], "recipe")
    folder = None if job["rank"] else open_folder(job, recipe)
    from glassrun.train.meeting import Meeting

    meeting = Meeting(job["meeting"], job["rank"])
    if folder is not None:
        recipe = recipe.model_copy(update={"seed": folder.recipe.seed})
        meeting.say({"config": recipe.plain()})
        why = {"why": "torchrun started the workers again"} if folder.began else {}
        result = writer.train(folder, recipe, job | why | {"store": meeting.store}, tell)
    else:
        recipe = config.validate(meeting.hear()["config"], "recipe")
        if job["rank"] < job["world_size"]:
            writer.compute(None, recipe, job | {"store": meeting.store}, tell)
        result = {}
    meeting.part()
    return result
