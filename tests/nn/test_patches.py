"""Patches: a linear map of each, and nothing between them."""

import torch

from glassrun.nn.patches import PatchEmbedding


def test_it_is_the_same_linear_map_of_every_patch():
    torch.manual_seed(0)
    embedding = PatchEmbedding(3, 5, 7)
    image = torch.randn(2, 3, 10, 15)
    weight, bias = embedding.projection.weight.flatten(1), embedding.projection.bias
    expected = [
        image[:, :, row : row + 5, column : column + 5].flatten(1) @ weight.T + bias
        for row in (0, 5)
        for column in (0, 5, 10)  # counted row by row
    ]
    torch.testing.assert_close(embedding(image), torch.stack(expected, dim=1))


def test_what_does_not_fill_a_patch_is_left_out():
    embedding = PatchEmbedding(1, 3, 2)
    image = torch.randn(1, 1, 8, 7)
    assert torch.equal(embedding(image), embedding(image[:, :, :6, :6]))
    assert embedding(image).shape == (1, 4, 2)


def test_a_patch_moves_its_own_features_alone():
    embedding = PatchEmbedding(1, 2, 3)
    image = torch.randn(1, 1, 6, 4)
    changed = image.clone()
    changed[0, 0, 3, 2] += 1  # in the second row of patches, the second column
    moved = (embedding(changed) != embedding(image)).any(-1)[0]
    assert moved.tolist() == [False, False, False, True, False, False]
