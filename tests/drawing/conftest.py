"""One browser for all tests of pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browsers import Watched, browser, why_no_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if why := why_no_browser():
        pytest.skip(why)
    with browser() as started:
        yield started


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Callable[..., Watched]]:
    """Opens a page, in a context of its own; afterwards it must have complained of nothing."""
    found: list[Watched] = []

    def opened(path: Path, name: str = "", **options: Any) -> Watched:
        context = chromium.new_context(viewport={"width": 1200, "height": 800}, **options)
        context.set_default_timeout(5000)
        found.append(Watched(context.new_page(), path, name))
        found[-1].page.wait_for_selector(".item", state="attached")
        return found[-1]

    yield opened
    for watched in found:
        with closing(watched.page.context):
            assert watched.complaints == []
            assert watched.requests == []
