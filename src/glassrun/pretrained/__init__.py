"""Weights from where people have them: a local folder or file becomes a model of ours.

    >>> from glassrun import pretrained
    >>> model = pretrained.load("gpt2/")                            # doctest: +SKIP
    >>> logits = model(tokens)                                      # doctest: +SKIP

As the start of a run, in a recipe: `model: {import: "glassrun.pretrained:load", path: gpt2/}`.
"""

from glassrun.pretrained.loading import load as load

__all__ = ["load"]
