"""What a notebook shows: still pictures that need nothing, live ones where anywidget is, and two that stay apart."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import nn

from glassrun.capturing.capture import capture
from glassrun.errors import BadInput, ConfigError, DataError, MissingDependency
from glassrun.integrations.notebook import Inline, view
from glassrun.look import inside, views
from glassrun.look.page import Figure, Part, Table
from glassrun.models.cnn import CNN
from glassrun.run import Run
from glassrun.train import snapshots
from glassrun.train.probe import Axes
from in_browser import opened
from in_process import trained
from support import Made

Published = Callable[[str, dict[str, Any]], list[dict[str, Any]]]

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect id="a" width="9" height="9"/></svg>'


@pytest.fixture(scope="module")
def runs(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("inline")
    return {name: trained(made.recipe(name), folder / name) for name in ("odd-lm", "odd-pairs")}


@pytest.fixture(autouse=True)
def _one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Still pictures of further layers take time and show the same."""
    monkeypatch.setattr(inside, "_SHOWN_LAYERS", 1)


def images(html: str) -> list[ElementTree.Element]:
    """The pictures inside, each parsed as the XML that it must be."""
    found = re.findall(r'<img [^>]*src="data:image/svg\+xml;base64,([^"]+)"', html)
    return [ElementTree.fromstring(base64.b64decode(data)) for data in found]


def test_any_model_shows_its_attention() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).train()
    x = torch.randn(3, 5, 8)
    with torch.random.fork_rng():
        shown = view(model.eval(), x, tokens=["a", "b", "c", "d", "e"])
    figure = shown.part.figures[0]
    assert figure.view is not None
    assert figure.view.values["layers"][0]["queries"] == ["a", "b", "c", "d", "e"]
    seen = list(capture(model, x).attention.values())
    for number, expected in enumerate(seen):
        np.testing.assert_allclose(figure.view.arrays[f"weights.{number}"], expected.weights[0].numpy(), atol=1e-6)


def test_a_cnn_shows_filters_and_maps() -> None:
    model = CNN(3, 8, 8, 10, channels=(5, 7)).eval()
    shown = view(model, torch.zeros(2, 3, 8, 8))
    titles = [figure.title for figure in shown.part.figures]
    assert titles[0].startswith("Filters of")
    filters = shown.part.figures[0].view
    assert filters is not None
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    assert np.array_equal(filters.arrays["pictures.0"], first.weight.detach().numpy().reshape(15, 3, 3))
    assert filters.values["groups"][0]["labels"][:4] == ["1, ch. 1", "1, ch. 2", "1, ch. 3", "2, ch. 1"]
    assert len(images(shown._repr_html_())) == len(titles)


def test_a_model_with_nothing_to_show_is_refused() -> None:
    with pytest.raises(BadInput):
        view(nn.Linear(3, 2), torch.zeros(1, 3))


class Doing(nn.Module):
    """Two convolutions, and a function that says which are called."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)
        self.call = call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.call(self, x)
        return result


def test_an_image_alone_and_a_layer_that_is_not_called() -> None:
    image = torch.randn(2, 7, 5)
    model = Doing(lambda model, x: model.second(x))
    alone, batch = (snapshots.look_into(model, x, lambda _: Axes((), ())) for x in (image, image[None]))
    assert alone.values["maps"] == ["second"]
    np.testing.assert_allclose(alone.arrays["maps.0"], batch.arrays["maps.0"], rtol=1e-5, atol=1e-6)


def test_what_is_not_finite_is_no_blank_picture() -> None:
    model = Doing(lambda model, x: model.first(x))
    for x in (torch.nan, torch.inf):
        with pytest.raises(BadInput, match="the numbers of first are not finite"):
            view(model, torch.full((1, 2, 5, 5), x))
    nn.init.constant_(model.first.weight, torch.nan)
    with pytest.raises(BadInput, match="the numbers of first are not finite"):
        view(model, torch.ones(1, 2, 5, 5))


def test_of_maps_over_the_bound_the_first_heads_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = nn.MultiheadAttention(6, 3, batch_first=True), torch.randn(1, 5, 6)
    monkeypatch.setattr(snapshots, "_MOST_BYTES", 2 * 4 * 5 * 5)
    shown = view(model, [x, x, x]).part
    assert shown.notes == ["Left out, so that the page stays small: the model itself from head 3 on"]
    monkeypatch.setattr(snapshots, "_MOST_BYTES", 4 * 5 * 5 - 1)
    with pytest.raises(BadInput, match="the maps of the model itself are too large to show"):
        view(model, [x, x, x])


def test_a_layer_that_is_called_twice_has_two_names() -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(6, 3, batch_first=True)
    model = nn.ModuleDict({"both": attention})
    model.forward = lambda x: attention(attention(x, x, x)[0], x, x)[0]  # type: ignore[method-assign]
    part = view(model, torch.randn(1, 5, 6)).part
    assert part.notes == []
    view_of = part.figures[0].view
    assert view_of is not None
    assert [layer["name"] for layer in view_of.values["layers"]] == ["both", "both#2"]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (None, "expected the texts of the tokens"),
        ([1, 2, 3, 4, 5], "expected the texts of the tokens"),
        (["a", "b"], "expected as many as a map has places, found 2, and its maps have 5 places"),
    ],
)
def test_tokens_that_would_not_be_shown(tokens: Any, message: str) -> None:
    x = torch.randn(1, 5, 6)
    with pytest.raises(ConfigError, match=message):
        view(nn.MultiheadAttention(6, 3, batch_first=True), [x, x, x], tokens=tokens)


def test_what_is_no_model() -> None:
    with pytest.raises(BadInput, match=r"the model is a type; give a torch\.nn\.Module"):
        view(nn.Linear, torch.ones(1, 2))  # type: ignore[arg-type]


def test_a_text_is_read_by_the_runs_model(runs: dict[str, Run]) -> None:
    shown = runs["odd-lm"].attention("glass run")
    figure = shown.part.figures[0]
    assert figure.view is not None
    assert figure.view.arrays["weights.0"].shape == (3, 9, 9)
    assert "'glass run'" in shown.part.text
    assert runs["odd-lm"].attention().part.figures[0].view is not None


def test_a_translation_shows_what_it_writes(runs: dict[str, Run]) -> None:
    figure = runs["odd-pairs"].attention("glass").part.figures[0]
    assert figure.view is not None
    cross = next(layer for layer in figure.view.values["layers"] if layer["key_title"] == "source token")
    assert cross["keys"][:5] == list("glass")
    written = runs["odd-pairs"].generate(["glass"])[0]
    assert len(cross["queries"]) == len(written) + 1


def test_an_exhibit_is_made_of_the_run(runs: dict[str, Run]) -> None:
    shown = runs["odd-lm"].exhibit("attention", text="glass run")
    assert shown.part.title == "Attention"
    assert len(images(shown._repr_html_())) == len(shown.part.figures) > 0
    assert "glassrun.functional.attention" in shown._repr_html_()


def test_what_cannot_be_read_is_told(runs: dict[str, Run]) -> None:
    with pytest.raises(ConfigError, match="at least one token"):
        runs["odd-lm"].attention("")
    with pytest.raises(DataError, match="at most 13 tokens"):
        runs["odd-lm"].attention("glass run step")
    with pytest.raises(DataError, match="not trained on"):
        runs["odd-lm"].attention("Ωmega")
    with pytest.raises(ConfigError, match="there is none of that name"):
        runs["odd-lm"].exhibit("atention")
    with pytest.raises(ConfigError, match="would be ignored"):
        runs["odd-lm"].exhibit("feature-map")


def part(word: str) -> Part:
    drawn = views.heatmap(np.arange(6.0).reshape(2, 3))
    return Part(
        f"<b>{word}</b>",
        "Text with `code` & more.\n\nA second paragraph.",
        figures=[Figure(SVG, "one", 'a "caption"', view=drawn), Figure(SVG, still=True), Figure(SVG, "three")],
        tables=[Table([("a", "<i>")], title="table")],
    )


def test_still_pictures_need_no_script_and_escape_what_they_say() -> None:
    html = Inline(part("x"))._repr_html_()
    assert "<script" not in html
    assert "&lt;b&gt;x&lt;/b&gt;" in html
    assert "<td>&lt;i&gt;</td>" in html
    assert "<code>code</code> &amp; more.</p><p>A second" in html
    assert 'alt="a &quot;caption&quot;"' in html
    assert len(images(html)) == 3
    assert not re.search(r'(?<!data-)\bid="', html)  # nothing that another output could name as well
    assert not re.search(r'(src|href)="(?!data:)', html)


def test_without_anywidget_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(MissingDependency, match=re.escape("pip install 'glassrun[notebook]'")):
        Inline(part("x")).widget()


# --- with anywidget --------------------------------------------------------------------------------------------------


@pytest.fixture
def anywidget() -> None:
    pytest.importorskip("anywidget", reason="needs anywidget: pip install -c constraints.txt 'glassrun[notebook]'")


@pytest.fixture
def published(anywidget: None) -> Iterator[Published]:  # noqa: ARG001 - a fixture for what it does
    """The outputs of a cell in IPython itself.

    Its shell says of the whole process that it is interactive (`sys.ps1`), which a recorder in a later test reads:
    the prompts go with it.
    """
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell = InteractiveShell.instance()

    def run(code: str, names: dict[str, Any]) -> list[dict[str, Any]]:
        shell.push(names)
        with capture_output() as caught:
            shell.run_cell(code).raise_error()
        return [output.data for output in caught.outputs]

    yield run
    InteractiveShell.clear_instance()
    for prompt in ("ps1", "ps2", "ps3"):
        vars(sys).pop(prompt, None)


def test_a_cell_publishes_a_widget_and_the_pictures_that_it_hides(published: Published) -> None:
    first, second = published("shown", {"shown": Inline(part("x"))})
    assert set(first) == {"application/vnd.jupyter.widget-view+json", "text/plain"}
    assert first["text/plain"] == "<<b>x</b>: 3 figures, to see in a notebook>"
    assert len(images(second["text/html"])) == 3
    again = published("shown", {"shown": Inline(part("x"))})[1]
    assert key_of(again) != key_of(second)


def key_of(output: dict[str, Any]) -> str:
    found = re.match(r'<div data-glassrun="(\w+)">', output["text/html"])
    assert found is not None
    return found[1]


def test_without_anywidget_a_cell_shows_the_pictures(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    (only,) = published("shown", {"shown": Inline(part("x"))})
    assert only["text/html"] == Inline(part("x"))._repr_html_()


@pytest.mark.usefixtures("anywidget")
def test_the_widget_holds_what_the_page_would() -> None:
    widgets = [Inline(part(word)).widget() for word in "xy"]
    assert widgets[0].model_id != widgets[1].model_id
    assert [widget.views[0]["kind"] for widget in widgets] == ["heatmap", "heatmap"]
    assert widgets[0].html.count("glassrun-live") == 1
    assert len(images(widgets[0].html)) == 1  # the view has the still one, too
    assert "export default" in widgets[0]._esm


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two outputs as a notebook lays them out: where each widget goes, and the pictures that it hides."""
    keys = ["first", "second"]
    widgets = [Inline(part(key)).widget(replaces=key) for key in keys]
    states = json.dumps([{"html": widget.html, "views": widget.views} for widget in widgets]).replace("<", r"\u003c")
    module = base64.b64encode(widgets[0]._esm.encode()).decode()
    outputs = "".join(
        f'<div class="cell"></div><div data-glassrun="{key}">{Inline(part(key))._repr_html_()}</div>' for key in keys
    )
    page = tmp_path_factory.mktemp("notebook") / "two.html"
    page.write_text(
        f'<meta charset="utf-8"><style>{widgets[0]._css}</style>{outputs}<script type="module">\n'
        f'const {{ default: {{ render }} }} = await import("data:text/javascript;base64,{module}");\n'
        f"const states = {states};\n"
        'const cells = document.querySelectorAll(".cell");\n'
        "window.ends = states.map((state, i) => render({ model: { get: (name) => state[name] }, el: cells[i] }));\n"
        "</script>"
    )
    return page


def visible(page: Any, key: str) -> int:
    """How many of an output's still pictures are to be seen."""
    return sum(image.is_visible() for image in page.locator(f'[data-glassrun="{key}"] img').all())


@pytest.mark.usefixtures("anywidget")
def test_two_in_one_notebook_do_not_meet(browser: Any, notebook: Path) -> None:
    """Each is drawn where it stands and touched alone; one goes, its pictures come back, the other stays."""
    found = opened(browser, notebook)
    first, second = found.page.locator(".cell").all()
    assert [cell.locator(".glass").count() for cell in (first, second)] == [1, 1]
    assert (visible(found.page, "first"), visible(found.page, "second")) == (0, 0)
    before, untouched = first.inner_text(), second.inner_text()
    first.locator(".stage").hover()
    assert first.inner_text() != before
    assert second.inner_text() == untouched
    found.page.evaluate("ends[0]()")
    assert [cell.locator(".glass").count() for cell in (first, second)] == [0, 1]
    assert (visible(found.page, "first"), visible(found.page, "second")) == (3, 0)
    assert found.wrong == []


@pytest.mark.usefixtures("anywidget")
def test_without_javascript_the_pictures_are_there(browser: Any, notebook: Path) -> None:
    found = opened(browser, notebook, java_script_enabled=False)
    assert (visible(found.page, "first"), visible(found.page, "second")) == (3, 3)
    assert found.wrong == []
