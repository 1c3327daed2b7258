"""Independent ways to compute what the blocks compute: slow, and plain to read."""

import math

import torch


def attention_by_heads(module, x, memory, *, causal=False):
    """Multi-head attention one head after the other, from the weights of a `MultiHeadAttention` without positions.

    Returns:
        Each head's output before the output projection, a list of Float[batch, query, d_k].
    """
    heads, groups, d_k = module.num_heads, module.num_key_value_heads, module.d_k
    weights = module.projections.weight.split(d_k)
    biases = [0.0] * len(weights) if module.projections.bias is None else module.projections.bias.split(d_k)
    outputs = []
    for head in range(heads):
        group = head // (heads // groups)
        places = head, heads + group, heads + groups + group
        q, k, v = (
            tokens @ weights[place].T + biases[place] for tokens, place in zip((x, memory, memory), places, strict=True)
        )
        scores = q @ k.mT / math.sqrt(d_k)
        if causal:
            scores = scores + torch.full(scores.shape[-2:], -math.inf, dtype=scores.dtype).triu(1)
        outputs.append(scores.softmax(-1) @ v)
    return outputs
