"""The exhibit of feature maps, and the photograph that it is made from."""

import importlib
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from glassrun.errors import DataError
from glassrun.look.exhibits.base import Material
from glassrun.look.exhibits.convolutional import subject
from glassrun.look.exhibits.feature_map import (
    EXHIBIT,
    known_maps,
    learned_maps,
    likeness,
    maps_by_layer,
    volume_and_map,
)
from glassrun.look.exhibits.photograph import photograph
from glassrun.look.render import render
from image_runs import MODELS, run_of, the_digits


def material(tmp_path, image=None, model="cnn"):
    return Material(tmp_path, run=run_of(MODELS[model]), may_train=False, image=image)


def saved(tmp_path, pixels):
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path


def quarters(height=48, width=64):
    """Dark, but bright below row 20 and right of column 30: one upright edge, one level edge, one corner."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[20:, 30:] = 255
    return pixels


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quarters")
    return EXHIBIT.make(material(folder, saved(folder, quarters())))


def test_the_photograph_is_scikit_learns(tmp_path):
    photo = photograph(material(tmp_path))
    assert (photo.name, photo.size) == ("china.jpg", (427, 640))
    assert 0.0 <= photo.color.min() < photo.color.max() <= 1.0


def test_known_filters_answer_where_the_picture_is_known(tmp_path):
    photo = photograph(material(tmp_path, saved(tmp_path, quarters())))
    maps = {found.title: found.values for found in known_maps(photo)}
    # A map's place i stands for the window that begins there, so an edge at 30 is seen from 28 and 29.
    assert {column for _, column in np.argwhere(maps["vertical edge"])} == {28, 29}
    assert {row for row, _ in np.argwhere(maps["horizontal edge"])} == {18, 19}
    assert np.argwhere(maps["corner"]).tolist() == [[r, c] for r in (18, 19) for c in (28, 29)]
    assert maps["vertical edge"].max() == 1.0
    assert maps["blur"].shape == (40, 56)


def test_sizes_and_peaks_are_told(part):
    assert "picture.png has 48 × 64 pixels; without padding, a kernel of 3 × 3 leaves a map of 46 × 62" in part.text
    rows = {row[0]: row for row in part.tables[0].rows}
    assert rows["corner"][1:4] == ("46\u00a0×\u00a062", "row 18, column 28", "+0.500")
    assert rows["vertical edge"][3] == "+1.000"
    assert "blur" not in rows


def test_learned_maps_are_those_of_the_models_first_layer(tmp_path):
    given = material(tmp_path, saved(tmp_path, np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)))
    chosen, photo = subject(given), photograph(given)
    encoding = chosen.encoding
    pixels = (torch.from_numpy(photo.grey)[None] - encoding.mean[0]) / encoding.std[0]
    layer = chosen.model.features[0].convolution
    expected = layer(pixels)[0, :, 1:-1, 1:-1].detach()  # without what sees the padding
    found = learned_maps(chosen, photo)
    assert [one.title for one in found] == [f"filter {n}" for n in range(4)]
    for number, one in enumerate(found):
        np.testing.assert_allclose(one.values, expected[number], atol=1e-5)


def test_what_a_filter_is_most_like(tmp_path):
    known = known_maps(photograph(material(tmp_path)))
    edge = next(found for found in known if found.title == "vertical edge")
    against = replace(edge, values=3 - 2 * edge.values)
    smaller = replace(edge, values=edge.values[1:-1, 1:-1])
    even = replace(edge, values=np.ones_like(edge.values))
    names, correlations = zip(*likeness([edge, against, smaller, even], known), strict=True)
    assert names[:3] == ("vertical edge",) * 3
    assert correlations == pytest.approx([1.0, -1.0, 1.0, 0.0], abs=1e-5)


def test_maps_by_layer_are_the_models_own(tmp_path):
    chosen = subject(material(tmp_path, model="resnet"))
    layers = maps_by_layer(chosen)
    names = [name for name, *_ in layers]
    assert len(names) == 5
    assert names[0] == "stem.0.convolution"
    assert names[-1] == "stages.1.1.branch.1.convolution"
    seen = []
    chosen.model.stages[1][1].branch[1].convolution.register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        chosen.model(chosen.image)
    _, maps, numbers = layers[-1]
    np.testing.assert_array_equal(maps, seen[0][0, numbers])


def test_the_filter_in_depth_answers_at_both_sides_of_the_balls_alone():
    volume, found, _ = volume_and_map()
    middle = len(volume) // 2
    assert np.abs(found[middle]).max() < 1e-6
    np.testing.assert_allclose(found, -found[::-1], atol=1e-6)  # the balls are the same from both sides
    assert found[:middle].max() > 0.4
    assert found[middle:].min() < -0.4
    assert volume[middle].max() == 1.0


@pytest.mark.parametrize("channels", [2, 3])
def test_images_with_other_channels(channels, tmp_path):
    grey = the_digits()
    splits = {name: replace(split, pixels=np.repeat(split.pixels, channels, 1)) for name, split in grey.splits.items()}
    old = grey.encoding
    encoding = replace(old, channels=channels, mean=old.mean * channels, std=old.std * channels)
    for split in splits.values():
        split.encoding = encoding
    dataset = replace(grey, splits=splits, facts=grey.facts | {"in_channels": channels}, encoding=encoding)
    run = run_of(MODELS["cnn"], dataset=dataset)
    given = Material(tmp_path, run=run, may_train=False, image=saved(tmp_path, quarters()))
    found = learned_maps(subject(given), photograph(given))
    if channels == 3:
        assert [one.values.shape for one in found] == [(46, 62)] * 4
    else:  # no photograph has so many
        assert not found
        part = EXHIBIT.make(given)
        assert len(part.figures) == 4
        assert "The learned filters read 2 channels" in part.notes[0]
        assert render(title="", subtitle="", parts=[part])


def test_a_picture_that_cannot_be_used_is_an_error_that_says_why(tmp_path):
    def refused(path, match):
        with pytest.raises(DataError, match=match):
            EXHIBIT.make(material(tmp_path, path))

    refused(tmp_path / "none.png", "none.png: expected a picture file, found nothing")
    broken = tmp_path / "broken.png"
    broken.write_bytes(saved(tmp_path, quarters()).read_bytes()[:60])
    refused(broken, "broken.png: expected a picture .* found damage")
    refused(saved(tmp_path, quarters(48, 31)), "at least 32 × 32 pixels, found 48 × 31")
    refused(saved(tmp_path, np.full((40, 40, 3), 200, np.uint8)), "found a single colour")


def test_a_large_picture_is_scaled_down(tmp_path):
    photo = photograph(material(tmp_path, saved(tmp_path, quarters(100, 1600))))
    assert photo.size == (40, 640)


def test_the_part_is_whole(part):
    assert ElementTree.fromstring(part.formula).tag == "math"
    assert len(part.figures) == 5
    for figure in part.figures:
        assert figure.svg.startswith("<svg") or figure.view
        assert figure.description or figure.caption
    views = [figure.view for figure in part.figures if figure.view]
    assert len(views) == 3
    assert all(np.isfinite(values).all() for view in views for values in view.arrays.values())
    for name in part.source:
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.long
def test_the_whole_photograph_is_small_enough_for_a_page_and_repeats(tmp_path):
    first, second = (EXHIBIT.make(material(tmp_path)) for _ in range(2))
    assert first.text == second.text
    assert [figure.svg for figure in first.figures] == [figure.svg for figure in second.figures]
    views = [figure.view for figure in first.figures if figure.view]
    numbers = sum(values.size for view in views for values in view.arrays.values())
    # The numbers go as float16 in base64.
    assert sum(len(figure.svg) for figure in first.figures) + numbers * 2 * 4 / 3 < 1_500_000
