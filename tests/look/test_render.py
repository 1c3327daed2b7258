"""The page as text: what is in it, and that nothing of it can be taken for something else."""

from __future__ import annotations

import base64
import hashlib
import inspect
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from glassrun.errors import MissingDependency
from glassrun.functional.attention import attention
from glassrun.look import views
from glassrun.look.page import Figure, Part, Table
from glassrun.look.render import render, resolved

pytest.importorskip("jinja2", reason="needs the extra figures")

CLIPPED = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    '<defs><clipPath id="p1"><rect/></clipPath><path id="m2"/></defs>'
    '<g clip-path="url(#p1)"><use xlink:href="#m2"/></g></svg>'
)


class Reader(HTMLParser):
    """Every tag with its attributes, and the text of each script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts.append(data)
            self._in_script = False

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(*parts: Part) -> str:
    return render(title="A page", subtitle="what it is", parts=parts)


def heatmap() -> views.View:
    return views.heatmap(np.eye(2))


def test_the_same_parts_give_the_same_page() -> None:
    parts = [Part("One", "text", figures=[Figure(CLIPPED, view=heatmap())], source=["glassrun.look.render.render"])]
    assert page(*parts) == page(*parts)


def test_the_policy_names_the_one_script_that_is_inside() -> None:
    found = Reader(page(Part("One", figures=[Figure(CLIPPED, view=heatmap())])))
    (policy,) = [meta["content"] for meta in found.of("meta") if "http-equiv" in meta]
    assert [script.get("type") for script in found.of("script")] == ["application/json", "module"]
    digest = base64.b64encode(hashlib.sha256(found.scripts[-1].encode()).digest()).decode()
    assert policy is not None
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{digest}';")


def test_a_page_with_nothing_to_touch_has_no_script() -> None:
    found = Reader(page(Part("One", figures=[Figure(CLIPPED)])))
    assert found.of("script") == []
    assert "script-src 'none'" in str(found.of("meta"))


def test_pictures_on_one_page_keep_their_own_names() -> None:
    found = Reader(
        page(Part("One", figures=[Figure(CLIPPED), Figure(CLIPPED)]), Part("Two", figures=[Figure(CLIPPED)]))
    )
    names = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(names) == len(set(names))
    used = [use["xlink:href"] for use in found.of("use")]
    clips = [group["clip-path"] for group in found.of("g")]
    assert [name.removeprefix("#") for name in used if name] == [n for n in names if n and n.endswith("m2")]
    assert [name[5:-1] for name in clips if name] == [name for name in names if name and name.endswith("p1")]


def test_three_parts_have_a_list_of_contents() -> None:
    parts = [Part("One"), Part("Two & a half"), Part("Three")]
    assert "<nav" not in page(*parts[:2])
    found = Reader(page(*parts))
    targets = [link["href"] for link in found.of("a")]
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert targets == ["#main", "#part-1", "#part-2", "#part-3"]
    assert {target.removeprefix("#") for target in targets if target} == set(ids)


def test_text_is_paragraphs_with_code_and_no_markup() -> None:
    text = page(Part("One", "First <b>.\n\nRun `glassrun exhibit <name>`.\n\n\n"))
    assert "<p>First &lt;b&gt;.</p>\n  <p>Run <code>glassrun exhibit &lt;name&gt;</code>.</p>" in text


def test_tables_say_what_their_heads_are_of() -> None:
    headed = Table([["1", "2"]], ["a", "b"], "numbers", numbers=(1,))
    plain = Table([["lr", "0.1"]], folded=True, title="settings")
    found = Reader(page(Part("One", tables=[headed, plain])))
    assert [head["scope"] for head in found.of("th")] == ["col", "col", "row"]
    assert len(found.of("caption")) == len(found.of("details")) == 1
    assert [cell.get("class") for cell in found.of("td")] == [None, "number", None]


def test_the_source_of_what_is_shown_is_in_the_page() -> None:
    name = "glassrun.functional.attention.attention"
    assert resolved(name) is attention
    text = page(Part("One", source=[name]))
    signature = inspect.getsource(attention).splitlines()[0]
    assert f"<code>{name}</code>" in text
    assert signature in re.sub("&#39;", "'", text)


@pytest.mark.parametrize("name", ["glassrun.functional.attention.nothing", "nowhere.at_all"])
def test_a_source_that_is_not_there_is_our_own_mistake(name: str) -> None:
    with pytest.raises((AttributeError, ModuleNotFoundError)):
        page(Part("One", source=[name]))


def test_without_jinja_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingDependency, match="figures"):
        page(Part("One"))
