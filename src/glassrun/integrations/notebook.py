"""What notebooks show: parts of a page inline, to touch where anywidget is installed, else as still pictures.

Every output stands for itself: pictures are images of their own, so no name inside one can meet another's, and each
view lives in its own element.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Sequence
from html import escape
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from glassrun.errors import MissingDependency
from glassrun.look.page import Figure, Part, Table
from glassrun.look.render import static
from glassrun.look.views import payload

if TYPE_CHECKING:
    from torch import nn

    from glassrun.run import Run

_MODULE = """
function render({ model, el }) {
  el.innerHTML = model.get("html");
  const holders = el.querySelectorAll(".glassrun-live");
  const ends = model.get("views").map((payload, place) => draw(holders[place], payload));
  return () => {
    ends.forEach((end) => end());
    el.replaceChildren();
  };
}
export default { render };
"""
_STYLE = (
    ".glassrun { max-width: 860px; } .glassrun figure { margin: 10px 0; } .glassrun img { max-width: 100%; } "
    ".glassrun td, .glassrun th { text-align: left; padding: 2px 14px 2px 0; } .glassrun-note { font-style: italic; }"
)


class Inline:
    """A part of a page that a notebook shows where it stands at the end of a cell.

    With anywidget it is live, and pictures stand in for it wherever it cannot be drawn: without JavaScript, in a saved
    notebook without the widget's state, in one that was written as HTML and is read without a network. Without
    anywidget the pictures are all there is.
    """

    def __init__(self, part: Part) -> None:
        self.part = part

    def __repr__(self) -> str:
        count = len(self.part.figures)
        return f"<{self.part.title}: {count} figure{'' if count == 1 else 's'}, to see in a notebook>"

    def _repr_html_(self) -> str:
        """With still pictures: what is shown without JavaScript, and where anywidget is missing."""
        return _html(self.part, _still)

    def _ipython_display_(self) -> None:
        """The widget, then the pictures, which the widget hides once it is drawn: where it cannot be, they stay."""
        shown: Any = import_module("IPython.display")  # without types of its own
        still, key = self._repr_html_(), secrets.token_hex(8)
        try:
            live = self.widget(replaces=key)
        except MissingDependency:
            shown.display(shown.HTML(still))
            return
        shown.display({**live._repr_mimebundle_()[0], "text/plain": repr(self)}, raw=True)
        shown.display(shown.HTML(f'<div data-glassrun="{key}">{still}</div>'))

    def widget(self, *, replaces: str = "") -> Any:
        """The same as an anywidget, for programs that lay out widgets themselves.

        Arguments:
            replaces: what is marked with this key, as `data-glassrun`, is hidden as long as the widget is shown.

        Raises:
            MissingDependency: anywidget is not installed.
        """
        try:
            import anywidget
            import traitlets
        except ImportError:
            raise MissingDependency("anywidget", "a live figure in a notebook", extra="notebook") from None

        # A style, not a script's doing: it holds also for what is put on the page later.
        hiding = f'<style>[data-glassrun="{replaces}"] {{ display: none; }}</style>' if replaces else ""
        shown = [payload(figure.view) for figure in self.part.figures if figure.view]
        traits = {
            "_esm": static("glass.js") + _MODULE,
            "_css": static("glass.css"),
            "html": traitlets.Unicode(hiding + _html(self.part, _live)).tag(sync=True),
            "views": traitlets.List(shown).tag(sync=True),
        }
        return type("GlassrunWidget", (anywidget.AnyWidget,), traits)()


def view(model: nn.Module, inputs: Any, *, tokens: Sequence[str] = ()) -> Inline:
    """What happens inside any PyTorch model, to look at in a notebook: attention, filters, feature maps.

    Arguments:
        model: as it stands: evaluation mode shows it without dropout. Nothing of it is changed.
        inputs: what it is called with: a tensor, positional arguments, or arguments by name; the first example is
            shown.
        tokens: what the places of the sequence are called; numbers where there are none.

    Raises:
        BadInput: the model fails on the inputs, cannot be looked into, or has neither attention nor convolutions.
    """
    from glassrun.look.inside import of_model

    return Inline(of_model(model, inputs, tokens))


def attention(run: Run, text: str | None) -> Inline:
    """The attention maps of a run's model; see `Run.attention`."""
    from glassrun.look.inside import of_run

    return Inline(of_run(run, text))


def exhibit(run: Run, name: str, *, text: str | None, image: Path | None) -> Inline:
    """An exhibit on a run; see `Run.exhibit`."""
    from glassrun.look.exhibits.base import Material
    from glassrun.look.exhibits.page import refuse_ignored
    from glassrun.look.exhibits.registry import find
    from glassrun.look.exhibits.studies import with_studies

    chosen = find(name)
    refuse_ignored([chosen], run=run, text=text, image=image)
    with TemporaryDirectory() as scratch:
        part = chosen.make(Material(Path(scratch), run=run, text=text, image=image))
    return Inline(with_studies(name, part))


# --- HTML ------------------------------------------------------------------------------------------------------------


def _html(part: Part, shown: Callable[[Figure], str]) -> str:
    """A part as HTML that can stand anywhere."""
    pieces = [f"<style>{_STYLE}</style>", f"<h3>{escape(part.title)}</h3>"]
    if part.question:
        pieces.append(f"<p><em>{escape(part.question)}</em></p>")
    pieces.append(part.formula)
    pieces += [f"<p>{_marked(text)}</p>" for text in re.split(r"\n\s*\n", part.text) if text.strip()]
    pieces += [f'<p class="glassrun-note">{escape(note)}</p>' for note in part.notes]
    pieces += [_figure(figure, shown) for figure in part.figures]
    pieces += [_table(table) for table in part.tables]
    if part.code:
        pieces.append(f"<pre>{escape(part.code)}</pre>")
    pieces += [f"<p>Source: <code>{escape(name)}</code></p>" for name in part.source]
    return f'<div class="glassrun">{"".join(pieces)}</div>'


def _marked(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text.strip()))


def _figure(figure: Figure, shown: Callable[[Figure], str]) -> str:
    inside = shown(figure)
    if not inside:
        return ""
    title = f"<h4>{escape(figure.title)}</h4>" if figure.title else ""
    caption = f"<figcaption>{escape(figure.caption)}</figcaption>" if figure.caption else ""
    return f"<figure>{title}{inside}{caption}</figure>"


def _still(figure: Figure) -> str:
    """The picture as an image that carries its own text, on white ground whatever the notebook's is."""
    told = escape(figure.description or figure.caption or figure.title, quote=True)
    data = base64.b64encode(figure.svg.encode()).decode()
    return f'<img alt="{told}" style="background: white" src="data:image/svg+xml;base64,{data}">'


def _live(figure: Figure) -> str:
    """The place where the view is drawn, the picture where there is none, nothing where another view has it all."""
    if figure.view:
        return '<div class="glassrun-live"></div>'
    return "" if figure.still else _still(figure)


def _table(table: Table) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in row)

    head = f"<tr>{cells(table.head, 'th')}</tr>" if table.head else ""
    rows = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in table.rows)
    shown = f"<table>{head}{rows}</table>"
    if table.folded:
        return f"<details><summary>{escape(table.title)}</summary>{shown}</details>"
    return f"<p><strong>{escape(table.title)}</strong></p>{shown}" if table.title else shown
