"""The three networks that differ in what they share."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from glassrun.look.sharing_study import CHANNELS, KINDS, Examples, accuracy, made, moved, study, train

SHAPE = (2, 8, 4)


def examples(count=40, seed=1):
    """The class is which half is bright."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (count,), generator=generator)
    images = 0.1 * torch.randn(count, *SHAPE, generator=generator)
    images[labels == 1, :, :4] += 1.0
    images[labels == 0, :, 4:] += 1.0
    return Examples(images, labels)


def test_parameters_by_hand():
    counts = {kind: sum(p.numel() for p in made(kind, SHAPE, 5, 1).layers.parameters()) for kind in KINDS}
    first, second = CHANNELS * (2 * 9 + 1), CHANNELS * (CHANNELS * 9 + 1)
    assert counts == {
        "convolution": first + second,
        "locally connected": 32 * first + 8 * second,
        "fully connected": CHANNELS * 32 * (2 * 32 + 1) + CHANNELS * 8 * (CHANNELS * 8 + 1),
    }


def test_a_convolution_is_the_locally_connected_layer_with_one_kernel_for_all():
    shared, apart = made("convolution", SHAPE, 5, 1), made("locally connected", SHAPE, 5, 2)
    state = {}
    for name, parameter in shared.state_dict().items():
        places = 32 if name.startswith("layers.0") else 8
        state[name] = parameter.expand(places, *parameter.shape) if name.startswith("layers") else parameter
    apart.load_state_dict(state)
    images = examples().images
    torch.testing.assert_close(apart(images), shared(images))


def test_all_kinds_make_as_many_maps():
    for kind in KINDS:
        assert made(kind, SHAPE, 5, 1).layers[0](examples().images).shape == (40, CHANNELS, 8, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_follows_from_the_seed_and_has_hes_variance(kind):
    before = torch.random.get_rng_state()
    first, again, other = (made(kind, (4, 8, 8), 5, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))
    fan_in = 4 * 64 if kind == "fully connected" else 4 * 9
    assert float(next(first.parameters()).detach().std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)


def test_moved_fills_with_the_first_pixel():
    image = torch.arange(1.0, 7.0).reshape(1, 1, 2, 3)
    assert moved(image, 0, 1)[0, 0].tolist() == [[1, 1, 2], [1, 4, 5]]
    assert moved(image, 0, -1)[0, 0].tolist() == [[2, 3, 1], [5, 6, 1]]
    assert moved(image, 1, 0)[0, 0].tolist() == [[1, 1, 1], [1, 2, 3]]
    assert moved(image, -1, -2)[0, 0].tolist() == [[6, 1, 1], [1, 1, 1]]
    assert torch.equal(moved(image, 0, 0), image)


def test_accuracy_is_over_all_shifts():
    class Left(torch.nn.Module):
        def forward(self, images):
            return torch.stack([images[:, 0, 0, 0], images[:, 0, 0, 1]], 1)

    images = torch.tensor([[0.0, 1.0, 0.0]]).reshape(1, 1, 1, 3)
    told = Examples(images, torch.tensor([1]))
    assert accuracy(Left(), told) == 1.0
    assert accuracy(Left(), told, ((0, 0), (0, -1))) == 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_training_learns_and_repeats(kind):
    data = examples()
    models = [made(kind, SHAPE, 2, 1) for _ in range(2)]
    before = F.cross_entropy(models[0](data.images), data.labels)
    for model in models:
        train(model, data, steps=30, seed=5)
    assert F.cross_entropy(models[0](data.images), data.labels) < before / 3
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))


def test_a_study_has_every_number_and_repeats():
    threads = torch.get_num_threads()
    told = []
    first, again = (
        study(examples(60), examples(30, seed=2), sizes=(10, 40), seeds=(1, 2), steps=8, tell=told.append)
        for _ in range(2)
    )
    assert torch.get_num_threads() == threads
    assert first.sizes == (10, 40)
    assert list(first.parameters) == list(first.times) == list(KINDS)
    assert first.times["convolution"] == 1.0
    assert len(told) == 2 * len(KINDS)
    for test, kinds in first.accuracies.items():
        for kind, values in kinds.items():
            assert values.shape == (2, 2)
            assert (values > 0.5).all()  # better than chance
            np.testing.assert_array_equal(values, again.accuracies[test][kind])
