"""The masks of attention. The whole file runs with the shape annotations enforced."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from glassrun.functional import masks as source
from shapes import checked

causal_mask, sliding_window_mask, padding_mask = (
    checked(function) for function in (source.causal_mask, source.sliding_window_mask, source.padding_mask)
)
properties = settings(max_examples=25, deadline=None)
sizes = st.integers(1, 11)


def test_causal_mask_is_the_lower_triangle_at_the_end():
    assert causal_mask(3, 5).int().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert causal_mask(3, 2).int().tolist() == [[0, 0], [1, 0], [1, 1]]
    assert causal_mask(3, 5).dtype == torch.bool


@properties
@given(sizes, sizes, sizes)
def test_each_mask_by_its_distances(queries, keys, window):
    causal, near = causal_mask(queries, keys), sliding_window_mask(queries, max(keys, queries), window)
    for i in range(queries):
        assert causal[i].tolist() == [j <= i + keys - queries for j in range(keys)]
        place = i + max(keys, queries) - queries
        assert near[i].tolist() == [abs(j - place) < window for j in range(max(keys, queries))]


def test_a_window_of_one_is_the_token_itself():
    assert torch.equal(sliding_window_mask(7, 7, 1), torch.eye(7, dtype=torch.bool))


def test_padding_mask_hand_computed():
    tokens = torch.tensor([[3, 5, 3], [0, 7, 8]])
    assert padding_mask(tokens, 3).tolist() == [[[[False, True, False]]], [[[True, True, True]]]]


def test_wrong_shapes_are_noticed():
    with pytest.raises(TypeCheckError):
        padding_mask(torch.zeros(2, 3, 5, dtype=torch.int64), 0)
