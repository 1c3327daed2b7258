"""A worker's part in training a run under torchrun: meet, agree on what is trained, train or wait, part."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from glassrun import config
from glassrun.errors import ConfigError
from glassrun.train import writer
from glassrun.train.opening import open_folder

if TYPE_CHECKING:
    from glassrun.train.meeting import Meeting

Tell = Callable[[dict[str, Any]], None]


def run(job: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Rank 0 has the folder and says what it trains; ranks beyond the power of two wait until it is done."""
    recipe = config.validate(job["config"], "recipe")
    folder = None if job["rank"] else open_folder(job, recipe)
    from glassrun.train.meeting import Meeting

    meeting = Meeting(job["meeting"], job["rank"])
    result: dict[str, Any] = {}
    if folder is not None:
        recipe = recipe.model_copy(update={"seed": folder.recipe.seed})
        meeting.say({"config": recipe.plain(), "numerics": _numerics(recipe)})
        why = {"why": "torchrun started the workers again"} if folder.began else {}
        result = writer.train(folder, recipe, job | why | {"store": meeting.store}, tell)
    else:
        recipe = _agreed(meeting, job["rank"])
        if job["rank"] < job["world_size"]:
            writer.compute(None, recipe, job | {"store": meeting.store}, tell)
    meeting.part()
    return result


def _agreed(meeting: Meeting, rank: int) -> config.Recipe:
    """The recipe as rank 0 says it; its machine's numerics must be those of this one.

    Raises:
        ConfigError: they are not.
    """
    from glassrun.record.environment import differences

    heard = meeting.hear()
    recipe = config.validate(heard["config"], "recipe")
    found = differences(heard["numerics"], _numerics(recipe))
    if found:
        raise ConfigError(
            f"torchrun: rank {rank} is on a machine that gives other bits than that of rank 0 (recorded there, here): "
            f"{'; '.join(found)}. Take machines that are alike, with the same versions installed"
        )
    return recipe


def _numerics(recipe: config.Recipe) -> dict[str, Any]:
    from glassrun.record.environment import numerics
    from glassrun.train.state import set_numerics

    set_numerics(recipe.numerics)
    return numerics()
