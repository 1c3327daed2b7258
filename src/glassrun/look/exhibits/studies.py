"""What the studies found about an exhibit's subject: read from their stored results."""

from __future__ import annotations

from dataclasses import replace

from glassrun.look.figures.measured import measured
from glassrun.look.figures.style import svg
from glassrun.look.page import Figure, Part
from glassrun.look.stored import Stored, results


def with_studies(name: str, part: Part) -> Part:
    """The exhibit's part with a figure of every study that belongs to it."""
    return replace(part, figures=[*part.figures, *map(_figure, results(name))])


def _trained(result: Stored) -> str:
    where = f"{result.machine['cores']} cores of {result.machine['cpu']}"
    return f"{result.seconds:.0f} s of training on {where}" if result.seconds else f"computed on {where}"


def _figure(result: Stored) -> Figure:
    verdict = "Supported" if result.verdict.supported else "Not supported"
    seeds = ", ".join(map(str, result.seeds))
    return Figure(
        svg(measured(result.measurements, result.panels)),
        f"Studied with {len(result.seeds)} seeds",
        f"Claim: {result.claim.text} ({result.claim.source}.) {verdict}: {result.verdict.text}. {result.trained}. A "
        f"mark for each seed ({seeds}), lines for the means; a cross at the upper edge for one without a number. "
        f"{result.command}, {result.date}, {_trained(result)}.",
    )
