"""Exhibit name to exhibit, in the order in which they are shown: the one place where names are turned into code."""

from __future__ import annotations

from glassrun.errors import ConfigError, nearest
from glassrun.look.exhibits import (
    attention,
    cnn_architecture,
    feature_map,
    feed_forward,
    multi_head,
    parameter_sharing,
    positional_encoding,
    reproducibility,
    self_and_cross,
    warmup,
)
from glassrun.look.exhibits.base import Exhibit

EXHIBITS: dict[str, Exhibit] = {
    exhibit.name: exhibit
    for exhibit in (
        attention.EXHIBIT,
        multi_head.EXHIBIT,
        self_and_cross.EXHIBIT,
        positional_encoding.EXHIBIT,
        feed_forward.EXHIBIT,
        cnn_architecture.EXHIBIT,
        feature_map.EXHIBIT,
        parameter_sharing.EXHIBIT,
        warmup.EXHIBIT,
        reproducibility.EXHIBIT,
    )
}


def find(name: str) -> Exhibit:
    """The exhibit of that name.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name not in EXHIBITS:
        raise ConfigError(f"exhibit {name!r}: there is none of that name; {nearest(name, EXHIBITS)}")
    return EXHIBITS[name]
