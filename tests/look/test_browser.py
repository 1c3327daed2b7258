"""The renderer in a real browser with the network off: hover, choose, keys, zoom; and the page around it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glassrun.look import views
from glassrun.look.page import Figure, Part, Table, View
from glassrun.look.render import render, static
from in_browser import Opened, opened

STILL = '<svg xmlns="http://www.w3.org/2000/svg" width="100" height="40"><text y="20">the still</text></svg>'
QUERIES, KEYS = ["die", "kleine", "Katze"], ["the", "small", "cat", "sleeps", "."]
HOSTILE = "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>\u2028'\""

Open = Callable[..., Opened]


@pytest.fixture
def shown(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens a page with the given views."""
    contexts = []

    def show(*of: View, **options: Any) -> Opened:
        figures = [Figure(STILL, view=view, description="what a reader hears") for view in of]
        page = render(title="A page", subtitle="", parts=[Part("A part", figures=figures)])
        file = tmp_path / "page.html"
        file.write_text(page, encoding="utf-8")
        found = opened(browser, file, **options)
        contexts.append(found.page.context)
        return found

    yield show
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def module(browser: Any) -> Any:
    """The renderer's module alone, in an empty page; gives a function that calls it."""
    page = browser.new_context(offline=True).new_page()
    source = base64.b64encode(static("glass.js").encode()).decode()
    page.evaluate("async (source) => { window.glass = await import(`data:text/javascript;base64,${source}`); }", source)
    return page


def weights(*shape: int, seed: int = 1) -> Any:
    """Rows that sum to one."""
    drawn = np.random.default_rng(seed).random(shape)
    return drawn / drawn.sum(-1, keepdims=True)


def two_layers(steps: tuple[int, ...] = ()) -> tuple[View, Any]:
    frames = (len(steps),) if steps else ()
    first, second = weights(*frames, 2, 3, 5), weights(*frames, 3, 5, 5, seed=2)
    layers = [
        views.Maps("cross", first, QUERIES, KEYS, "token being written", "source token"),
        views.Maps("self", second, KEYS, KEYS),
    ]
    return views.attention(layers, steps=steps), (first, second)


def everything_under_the_pointer(page: Any, step: int = 6) -> set[str]:
    """What the readout says while the pointer goes over the whole map, so many pixels at a time."""
    return set(
        page.evaluate(
            """(step) => {
              const canvas = document.querySelector('.stage canvas'), box = canvas.getBoundingClientRect();
              const said = document.querySelector('.readout'), found = new Set();
              for (let y = 1; y < box.height; y += step)
                for (let x = 1; x < box.width; x += step) {
                  const [clientX, clientY] = [box.left + x, box.top + y];
                  canvas.dispatchEvent(new PointerEvent('pointermove', {clientX, clientY, bubbles: true}));
                  found.add(said.textContent);
                }
              return [...found];
            }""",
            step,
        )
    )


def readout(page: Any) -> str:
    return str(page.inner_text(".readout"))


# --- the module alone ------------------------------------------------------------------------------------------------


def test_the_colours_are_matplotlibs(module: Any) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="needs the extra figures")
    for name in ("Blues", "RdBu_r", "gray"):
        ours = np.asarray(module.evaluate("(name) => glass.colours(name)", name))
        theirs = matplotlib.colormaps[name](np.arange(256))[:, :3] * 255
        np.testing.assert_allclose(ours, theirs, atol=0.51)


def read(module: Any, payload: dict[str, Any], name: str) -> Any:
    """An array as the renderer decodes it."""
    shape, text = module.evaluate(
        """([payload, name]) => {
          const {shape, data} = glass.decode(payload).arrays[name];
          return [shape, Array.from(new Uint8Array(data.buffer), byte => String.fromCharCode(byte)).join('')];
        }""",
        [payload, name],
    )
    return np.frombuffer(text.encode("latin-1"), dtype="<f4").reshape(shape)


@pytest.mark.parametrize("scale", [1.0, 1e-7, 1e9])
def test_numbers_arrive_as_they_are(module: Any, scale: float) -> None:
    values = np.random.default_rng(3).normal(size=(3, 7, 5)) * scale
    values[0, 0, :4] = [np.nan, 0.0, -0.0, values.max()]
    payload = views.payload(views.heatmap(values))
    decoded = read(module, payload, "values")
    assert decoded.shape == (3, 7, 5)
    kind = np.float16 if payload["arrays"]["values"]["type"] == "float16" else np.float32
    assert kind == (np.float16 if scale == 1.0 else np.float32)
    np.testing.assert_array_equal(decoded, values.astype(kind).astype(np.float32))


def test_every_half_is_decoded_to_the_bit(module: Any) -> None:
    halves = np.arange(65536, dtype="<u2")
    data = base64.b64encode(halves.tobytes()).decode()
    payload = {"kind": "heatmap", "values": {}, "arrays": {"a": {"type": "float16", "shape": [65536], "data": data}}}
    np.testing.assert_array_equal(read(module, payload, "a"), halves.view("<f2").astype(np.float32))


@pytest.mark.parametrize(
    ("low", "high", "count", "expected"),
    [
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-3, 12, 4, [0, 5, 10]),
        (1.2e-4, 3.1e-4, 2, [2e-4, 3e-4]),
        (0, 600, 6, [0, 100, 200, 300, 400, 500, 600]),
    ],
)
def test_ticks_are_round(module: Any, low: float, high: float, count: int, expected: list[float]) -> None:
    found = module.evaluate("([low, high, count]) => glass.ticks(low, high, count)", [low, high, count])
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.43149, "0.431"), (1234.5, "1230"), (0.0, "0"), (2.5e-5, "2.5e-5"), (-3e7, "-3e+7"), (1.0, "1")],
)
def test_numbers_are_written_shortly(module: Any, value: float, expected: str) -> None:
    assert module.evaluate("(value) => glass.shortly(value)", value) == expected


def test_what_is_drawn_goes_without_a_trace_and_two_are_apart(module: Any) -> None:
    view, _ = two_layers()
    left = module.evaluate(
        """(payload) => {
          const [one, two] = [document.createElement('div'), document.createElement('div')];
          document.body.append(one, two);
          const [endOne, endTwo] = [glass.draw(one, payload), glass.draw(two, payload)];
          one.querySelectorAll('.strip button')[1].click();
          const pressed = [one, two].map(e => e.querySelectorAll('[aria-pressed=true] span')[0].textContent);
          endOne();
          const between = [one.innerHTML, two.querySelectorAll('canvas').length > 0];
          endTwo();
          return [pressed, between, two.innerHTML, document.querySelectorAll('[id]').length];
        }""",
        views.payload(view),
    )
    assert left == [["2", "1"], ["", True], "", 0]


# --- attention -------------------------------------------------------------------------------------------------------


def test_attention_says_every_weight_and_every_token(shown: Open) -> None:
    view, (first, _) = two_layers()
    made = shown(view)
    said = everything_under_the_pointer(made.page)
    for row, query in enumerate(QUERIES):
        for column, key in enumerate(KEYS):
            number = f"{float(np.float16(first[0, row, column])):.3g}"
            assert f"token being written “{query}” → source token “{key}”: {number}" in said
    largest = KEYS[int(first[0, 1].argmax())]
    assert any(text.startswith(f"token being written “kleine” takes most from “{largest}”") for text in said)
    assert any(text.startswith("source token “cat” gives most to ") for text in said)
    assert made.wrong == []


def test_attention_is_drawn_in_the_scales_colours(shown: Open) -> None:
    values = np.zeros((1, 2, 2))
    values[0, 0, 0] = values[0, 1, 1] = 1.0
    made = shown(views.attention([views.Maps("one", values, ["a", "b"], ["a", "b"])]))
    found = made.page.evaluate(
        """() => {
          const canvas = document.querySelector('.stage canvas'), {width, height} = canvas;
          const {data} = canvas.getContext('2d').getImageData(0, 0, width, height), counts = {};
          for (let at = 0; at < data.length; at += 4)
            if (data[at + 3] === 255) counts[data.slice(at, at + 3)] = (counts[data.slice(at, at + 3)] ?? 0) + 1;
          return counts;
        }"""
    )
    assert found["8,48,107"] == found["247,251,255"]  # the ends of Blues: two cells each
    assert found["8,48,107"] > 500


def test_attention_lets_choose_head_and_layer(shown: Open) -> None:
    view, (first, second) = two_layers()
    page = shown(view).page
    canvas = page.locator(".stage canvas").first
    assert page.locator(".strip button").count() == 2
    page.locator(".strip button").nth(1).click()
    canvas.focus()
    page.keyboard.press("ArrowRight")
    assert readout(page).endswith(f"“the”: {float(np.float16(first[1, 0, 0])):.3g}")
    page.locator(".tools select").select_option(label="self")
    assert page.locator(".strip button").count() == 3
    assert page.locator(".strip button[aria-pressed=true]").inner_text() == "1"
    canvas.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    assert readout(page) == f"query “small” → key “.”: {float(np.float16(second[0, 1, 4])):.3g}"
    page.keyboard.press("Escape")
    assert readout(page).startswith("Point at")


def test_attention_goes_through_the_steps(shown: Open) -> None:
    view, (first, _) = two_layers(steps=(1, 50, 600))
    page = shown(view).page
    page.locator(".stage canvas").first.focus()
    page.keyboard.press("ArrowRight")
    for presses, (frame, step) in enumerate([(2, 600), (1, 50), (0, 1)]):
        if presses:
            page.locator("input[type=range]").press("ArrowLeft")
        assert page.inner_text(".tools output") == str(step)
        assert readout(page).endswith(f"“the”: {float(np.float16(first[frame, 0, 0, 0])):.3g}")
    assert page.locator("input[type=range]").get_attribute("aria-valuetext") == "step 1"


def test_a_large_map_is_painted_once_however_long_one_points(shown: Open) -> None:
    side = 512
    names = [str(place) for place in range(side)]
    made = shown(views.attention([views.Maps("large", weights(2, side, side), names, names)]))
    made.page.evaluate(
        """() => {
          window.painted = 0;
          const paint = CanvasRenderingContext2D.prototype.putImageData;
          CanvasRenderingContext2D.prototype.putImageData = function (...args) {
            window.painted += 1;
            return paint.apply(this, args);
          };
        }"""
    )
    assert len(everything_under_the_pointer(made.page, 24)) > 400
    assert made.page.evaluate("window.painted") == 0
    made.page.locator(".strip button").nth(1).click()
    assert made.page.evaluate("window.painted") >= 1
    assert made.wrong == []


# --- the other views -------------------------------------------------------------------------------------------------


def test_heatmap_says_the_value_and_where_there_is_none(shown: Open) -> None:
    values = np.arange(6.0).reshape(2, 3) - 2
    values[1, 2] = np.nan
    made = shown(views.heatmap(values, columns=["a", "b", "c"], row_title="position", value_title="added", signed=True))
    said = everything_under_the_pointer(made.page)
    expected = set()
    for row in range(2):
        for column, name in enumerate("abc"):
            value = "no value" if (row, column) == (1, 2) else f"{values[row, column]:.0f}"
            expected.add(f"position {row}, column {name}: added {value}")
    assert expected <= said
    assert made.page.locator(".bar span").all_inner_texts() == ["-2", "2", "added"]


def test_pictures_begin_with_the_one_that_is_named(shown: Open) -> None:
    groups = [views.Pictures(name, weights(4, 5, 5), list("abcd"), first=at) for name, at in (("one", 2), ("two", 1))]
    page = shown(views.pictures(groups)).page
    assert page.get_by_role("button", name="c", pressed=True).count() == 1
    page.locator(".tools select").select_option(label="two")
    assert page.get_by_role("button", name="b", pressed=True).count() == 1


def test_pictures_step_through_filters_and_say_values(shown: Open) -> None:
    first, second = np.arange(24.0).reshape(3, 2, 4), np.ones((1, 2, 2))
    groups = [views.Pictures("edges", first, ["up", "down", "left"]), views.Pictures("flat", second)]
    page = shown(views.pictures(groups)).page
    canvas = page.locator(".stage canvas").first
    canvas.focus()
    page.keyboard.press("ArrowRight")
    assert readout(page) == "up, row 0, column 0: 0"
    page.get_by_text("next ›").click()
    assert readout(page) == "down, row 0, column 0: 8"
    page.get_by_text("‹ previous").click()
    page.get_by_text("‹ previous").click()
    assert readout(page) == "left, row 0, column 0: 16"
    assert page.locator(".strip button[aria-pressed=true]").inner_text() == "left"
    page.locator(".tools select").select_option(label="flat")
    assert readout(page) == "0, row 0, column 0: 1"


def curve_view(log: bool = False) -> View:
    x = np.arange(1.0, 201.0)
    panels = [
        views.Panel("loss", [views.Line("training", x, 100 / x), views.Line("test", x[49::50], x[49::50])], log=log),
        views.Panel("rate", [views.Line("learning rate", x, x * 1e-4)], marks=[(50.0, "warmup ends")]),
    ]
    return views.curves(panels)


@pytest.mark.parametrize("log", [False, True])
def test_curves_say_the_values_at_the_pointer(shown: Open, log: bool) -> None:
    made = shown(curve_view(log))
    page = made.page
    page.locator(".stage canvas").first.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert readout(page) == "step 3 · training: 33.33 · learning rate: 3e-4"
    page.keyboard.press("End")
    assert readout(page) == "step 200 · training: 0.5 · test: 200 · learning rate: 0.02"
    page.locator(".stage").hover(position={"x": 400, "y": 60})
    assert readout(page).startswith("step ")
    assert page.locator(".legend li").all_inner_texts() == ["training", "test", "learning rate"]
    assert made.wrong == []


def test_lines_of_one_name_are_told_with_their_panels(shown: Open) -> None:
    x = np.arange(1.0, 4.0)
    panels = [views.Panel(title, [views.Line("A", x, x * by)]) for title, by in (("loss", 1), ("rate", 10))]
    page = shown(views.curves(panels)).page
    page.locator(".stage canvas").first.focus()
    page.keyboard.press("End")
    assert readout(page) == "step 3 · loss, A: 3 · rate, A: 30"
    assert page.locator(".legend li").all_inner_texts() == ["A"]


def test_curves_zoom_by_dragging_by_wheel_and_by_keys(shown: Open) -> None:
    page = shown(curve_view()).page
    reset = page.get_by_role("button", name="whole range")
    box = page.locator(".stage").bounding_box()

    def extent() -> tuple[float, float]:
        page.locator(".stage canvas").first.focus()
        ends = []
        for press in ("Home", "End"):
            page.keyboard.press(press)
            ends.append(float(readout(page).split(" · ")[0].removeprefix("step ")))
        return ends[0], ends[1]

    assert reset.is_disabled()
    assert extent() == (1, 200)
    page.mouse.move(box["x"] + 300, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 500, box["y"] + 60)
    page.mouse.up()
    low, high = extent()
    assert 1 < low < high < 200
    page.mouse.move(box["x"] + 400, box["y"] + 60)
    page.mouse.wheel(0, -100)
    page.wait_for_timeout(50)
    closer = extent()
    assert low < closer[0] < closer[1] < high
    reset.click()
    assert extent() == (1, 200)
    page.keyboard.press("+")
    assert extent()[0] > 1
    page.keyboard.press("0")
    assert extent() == (1, 200)
    assert reset.is_disabled()


def test_choice_shows_what_is_chosen(shown: Open) -> None:
    attention, _ = two_layers()
    made = shown(views.choice("figure", {"curves": curve_view(), "attention": attention}))
    page = made.page
    assert page.locator(".legend").count() == 1
    page.locator(".tools select").first.select_option(label="attention")
    assert page.locator(".legend").count() == 0
    assert page.locator(".strip button").count() == 2
    assert made.wrong == []


# --- the page around it ----------------------------------------------------------------------------------------------


def test_the_still_stands_on_paper_and_without_scripts(shown: Open) -> None:
    view, _ = two_layers()
    page = shown(view).page
    still, live = page.locator(".still"), page.locator(".glass")
    assert (still.is_visible(), live.is_visible()) == (False, True)
    ask = page.get_by_role("button", name="the printed picture")
    ask.click()
    assert (still.is_visible(), live.is_visible(), ask.get_attribute("aria-expanded")) == (True, True, "true")
    ask.click()
    assert (still.is_visible(), live.is_visible(), ask.get_attribute("aria-expanded")) == (False, True, "false")
    page.emulate_media(media="print")
    assert (still.is_visible(), live.is_visible()) == (True, False)
    bare = shown(view, java_script_enabled=False)
    assert bare.page.locator(".still").is_visible()
    assert bare.page.locator(".glass").count() == 0
    assert bare.wrong == []


def test_stills_of_a_view_are_for_paper_alone(browser: Any, tmp_path: Path) -> None:
    view, _ = two_layers()
    figures = [
        Figure("", caption="choose a head", view=view),
        Figure(STILL, "layer 1", still=True),
        Figure(STILL, "layer 2", still=True),
    ]
    file = tmp_path / "page.html"
    file.write_text(render(title="A page", subtitle="", parts=[Part("A part", figures=figures)]))
    page = opened(browser, file).page
    assert (page.get_by_text("layer 2").is_visible(), page.get_by_text("choose a head").is_visible()) == (False, True)
    page.emulate_media(media="print")
    assert (page.get_by_text("layer 2").is_visible(), page.get_by_text("choose a head").is_visible()) == (True, False)
    bare = opened(browser, file, java_script_enabled=False).page
    assert (bare.get_by_text("layer 2").is_visible(), bare.get_by_text("choose a head").is_visible()) == (True, False)


def test_the_first_cells_of_a_table_are_not_broken_inside_a_word(browser: Any, tmp_path: Path) -> None:
    rows = [("config", "optimizer.learning_rate " * 20, "the same word " * 20)]
    part = Part("A part", tables=[Table(rows, ("what", "of the first run", "of the second run"))])
    file = tmp_path / "page.html"
    file.write_text(render(title="A page", subtitle="", parts=[part]))
    cell = opened(browser, file).page.locator("td").first
    assert (
        cell.evaluate("cell => { const r = new Range(); r.selectNodeContents(cell); return r.getClientRects().length }")
        == 1
    )


def luminance(page: Any, selector: str, style: str) -> float:
    text = page.evaluate("([s, style]) => getComputedStyle(document.querySelector(s))[style]", [selector, style])
    red, green, blue = (int(part) for part in text.removeprefix("rgb(").removesuffix(")").split(",")[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


def test_dark_is_dark_and_light_is_light(shown: Open) -> None:
    view, _ = two_layers()
    for scheme, dark in (("light", False), ("dark", True)):
        page = shown(view, color_scheme=scheme).page
        for selector in ("body", "section", ".glass"):
            ink = luminance(page, selector, "color")
            ground = luminance(page, "section" if selector == "body" else selector, "backgroundColor")
            assert (ground < 0.2) == dark
            assert abs(ink - ground) > 0.6


def test_a_change_of_scheme_is_drawn_at_once(shown: Open) -> None:
    page = shown(curve_view(), color_scheme="light").page
    read = "() => document.querySelector('.stage canvas').toDataURL()"
    before = page.evaluate(read)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"before => ({read})() !== before", arg=before)


def test_names_are_no_markup(browser: Any, tmp_path: Path) -> None:
    view = views.attention([views.Maps(HOSTILE, weights(1, 2, 2), [HOSTILE, "b"], [HOSTILE, "b"], HOSTILE, HOSTILE)])
    part = Part(
        HOSTILE,
        HOSTILE,
        HOSTILE,
        figures=[Figure(STILL, HOSTILE, HOSTILE, HOSTILE, view)],
        tables=[Table([[HOSTILE, "1"]], [HOSTILE, "n"], HOSTILE)],
        code=HOSTILE,
        notes=[HOSTILE],
    )
    file = tmp_path / "page.html"
    file.write_text(render(title=HOSTILE, subtitle=HOSTILE, parts=[part], tiles=[(HOSTILE, HOSTILE)], notes=[HOSTILE]))
    made = opened(browser, file)
    assert made.wrong == []
    assert made.page.evaluate("window.pwned") is None
    assert made.page.locator("section").count() == 1
    assert "window.pwned = 1</script>" in made.page.inner_text("figcaption")
    made.page.locator(".stage canvas").first.focus()
    made.page.keyboard.press("ArrowRight")
    assert "window.pwned = 1</script>" in readout(made.page)


def test_the_policy_lets_no_other_script_run(shown: Open) -> None:
    view, _ = two_layers()
    made = shown(view)
    made.page.evaluate(
        """() => {
          const script = document.createElement('script');
          script.textContent = 'window.pwned = 1';
          document.body.append(script);
        }"""
    )
    assert made.page.evaluate("window.pwned") is None
    assert len(made.wrong) == 1
    assert "Content Security Policy" in made.wrong[0]


def test_every_control_has_a_name_and_the_readout_is_told(shown: Open) -> None:
    attention, _ = two_layers(steps=(1, 2))
    groups = [views.Pictures("one", np.ones((2, 3, 3))), views.Pictures("two", np.ones((1, 3, 3)))]
    page = shown(attention, views.pictures(groups), curve_view()).page
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('.glass button, .glass select, .glass input, .glass [tabindex]')]
                   .filter(e => !(e.getAttribute('aria-label') || e.textContent || e.labels?.[0]?.textContent).trim())
                   .map(e => e.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("[role=status]").count() == 3
    assert page.locator(".stage canvas[role=img][aria-label]").count() == 3
    assert page.locator(".still[role=img]").first.get_attribute("aria-label") == "what a reader hears"


def test_focus_is_seen(shown: Open) -> None:
    view, _ = two_layers()
    page = shown(view).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "CANVAS":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_narrow_window_has_everything_in_it(shown: Open) -> None:
    view, _ = two_layers()
    page = shown(view, curve_view(), viewport={"width": 380, "height": 700}).page
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
