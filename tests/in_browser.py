"""Help for tests that open a page in a real browser: Debian's chromium with the network off."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def launched() -> Iterator[Any]:
    """A browser; where there is none the test is skipped."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs a browser: chromium or google-chrome on the PATH, or its path in CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page, and everything that went wrong or outside since it was opened."""

    page: Any
    wrong: list[str] = field(default_factory=list)


def opened(browser: Any, file: Path, **options: Any) -> Opened:
    """A file in a page of its own, with every request but the file itself refused and noted.

    Arguments:
        browser: of `launched`.
        file: the page.
        options: of the browser's context, for example `java_script_enabled=False` or `color_scheme="dark"`.
    """
    context = browser.new_context(offline=True, **{"viewport": {"width": 1000, "height": 900}} | options)
    found = Opened(context.new_page())

    def refuse(route: Any) -> None:
        if route.request.url == file.as_uri():
            route.continue_()
        else:
            found.wrong.append(route.request.url)
            route.abort()

    found.page.route("**/*", refuse)
    found.page.on("console", lambda message: found.wrong.append(message.text))
    found.page.on("pageerror", lambda error: found.wrong.append(str(error)))
    found.page.goto(file.as_uri())
    return found
