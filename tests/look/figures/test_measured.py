"""The figure of what studies measured."""

from __future__ import annotations

from glassrun.look.figures.measured import measured
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
