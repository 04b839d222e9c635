"""A real browser without a window, for tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def why_no_browser() -> str:
    """What is missing for a browser; an empty text if nothing is."""
    if find_spec("playwright") is None:
        return "the package playwright is missing"
    return "" if _program() else "there is no chromium: apt-get install chromium"


def _program() -> str | None:
    return next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, as the system has it."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  # tests run without it, too

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=_program(), args=list(_ARGUMENTS))
        yield started
        started.close()


class Watched:
    """A page of a file, of which all requests and complaints are noted.

    Attributes:
        page: the page.
        complaints: what it wrote to the console, and its errors.
        requests: what it asked for besides its own file.
    """

    def __init__(self, page: Page, path: Path, name: str = "") -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(f"{path.as_uri()}{name and f'#{name}'}")
        self.requests = [url for url in self.requests if not url.startswith(path.as_uri())]

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements that fit, in their order."""
        return self.page.locator(selector).all_text_contents()
