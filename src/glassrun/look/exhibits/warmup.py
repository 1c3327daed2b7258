"""Learning-rate warmup."""

from __future__ import annotations

from glassrun.look.exhibits.base import Exhibit, Material
from glassrun.look.page import Part


def make(material: Material) -> Part:
    """The exhibit's part of the page."""
    raise NotImplementedError


EXHIBIT = Exhibit("learning-rate-warmup", "Learning-rate warmup", "", lambda _: False, make)
