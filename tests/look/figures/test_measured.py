"""The figure of what studies measured."""

from __future__ import annotations

from glassrun.look.figures.measured import measured
from glassrun.look.figures.style import png
from glassrun.look.stored import Measurement, Panel


def found(levels: list[float], values: list[float]) -> list[Measurement]:
    return [Measurement({"images": level}, 1, {"loss": value}) for level, value in zip(levels, values, strict=True)]


def test_labels_that_would_touch_are_left_out_from_the_last_one_down() -> None:
    numbers = found([100, 300, 1000, 1411], [4.0, 3.0, 2.0, 1.0])
    (axes,) = measured(numbers, [Panel("loss", "images", log_x=True)] * 1).axes
    assert list(axes.get_xticks()) == [100, 300, 1000, 1411]
    wide = [label.get_text() for label in axes.get_xticklabels()]
    narrow = [
        label.get_text()
        for label in measured(numbers, [Panel("loss", "images", log_x=True)] * 3).axes[0].get_xticklabels()
    ]
    assert wide[-1] == narrow[-1] == "1411"
    assert narrow == ["100", "300", "", "1411"]


def test_less_than_a_power_of_ten_has_plain_numbers() -> None:
    (axes,) = measured(found([1, 2, 3], [1.1, 2.0, 6.0]), [Panel("loss", "images", log_y=True)]).axes
    axes.figure.canvas.draw()
    shown = [label.get_text() for label in axes.get_yticklabels(which="both") if label.get_text()]
    assert {"1", "2", "5"} <= set(shown)
    assert all("10" not in text for text in shown if text != "10")


def two_lines(measure: str, names: tuple[str, str] = ("a", "b")) -> list[Measurement]:
    return [
        Measurement({"images": images, "net": net}, 1, {measure: float(images)}) for net in names for images in (1, 2)
    ]


def test_one_legend_stands_below_all_panels() -> None:
    figure = measured([*two_lines("loss"), *two_lines("gap")], [Panel(y, "images", "net") for y in ("loss", "gap")])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    assert legend.get_title().get_text() == "net"
    assert all(axes.get_legend() is None for axes in figure.axes)
    png(figure)  # lays it out
    top = legend.get_window_extent().y1
    for axes in figure.axes:
        assert top <= axes.get_tightbbox().y0


def test_panels_that_show_other_things_have_a_legend_each() -> None:
    numbers = [*two_lines("loss"), *two_lines("gap", ("b", "c"))]
    figure = measured(numbers, [Panel(y, "images", "net") for y in ("loss", "gap")])
    assert not figure.legends
    shown = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert shown == [["a", "b"], ["b", "c"]]


def test_panels_without_series_have_none() -> None:
    figure = measured(found([1, 2], [1.0, 2.0]), [Panel("loss", "images")])
    assert not figure.legends
    assert figure.axes[0].get_legend() is None


def test_a_long_label_stays_beside_its_axis() -> None:
    name = "mean square of the update over all of its parameters, in squared rates"
    numbers = [Measurement({"images": images}, 1, {name: float(images)}) for images in (1, 2)]
    figure = measured(numbers, [Panel(name, "images")])
    png(figure)
    label = figure.axes[0].yaxis.label
    assert label.get_text().split() == name.split()
    box = label.get_window_extent()
    assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
