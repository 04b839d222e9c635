"""On a terminal one thing moves at a time: the spinner of the command line or a bar."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest
from rich.console import Console

from fxprune import cli_output
from fxprune.importance import running
from fxprune.importance.running import room_for_bars, tracked


class Status:
    """A spinner that is not drawn; like rich's, it puts back the stream that it found."""

    def __init__(self) -> None:
        self.text = ""
        self.is_shown = False
        self.started = threading.Event()
        self.stream: Any = None

    def start(self) -> None:
        if not self.is_shown:
            self.is_shown, self.stream = True, sys.stdout
        self.started.set()

    def stop(self) -> None:
        if self.is_shown:
            self.is_shown, sys.stdout = False, self.stream

    def update(self, text: str) -> None:
        self.text = text


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch) -> Status:
    made = Status()
    monkeypatch.setattr(Console, "status", lambda self, text: made)
    monkeypatch.setattr(cli_output, "_PATIENCE", 0)
    terminal = partial(Console, force_terminal=True, force_jupyter=False)
    for module in (cli_output, running):
        monkeypatch.setattr(module, "Console", terminal)
    return made


def spinning() -> AbstractContextManager[Any]:
    return cli_output.stage("Working")


def telling() -> AbstractContextManager[Callable[[str], None]]:
    return cli_output.stages()


@pytest.mark.parametrize("way", [spinning, telling])
def test_a_bar_hides_the_spinner_which_is_there_again_after_it(
    status: Status, way: Callable[[], AbstractContextManager[Any]]
) -> None:
    with way() as tell:
        if tell is not None:
            tell("Working")
        assert status.started.wait(10)
        for _ in tracked(range(2), "Bar", shown=True):
            assert not status.is_shown
            for _ in tracked(range(2), "Bar in a bar", shown=False):
                assert not status.is_shown
        assert status.is_shown
    assert not status.is_shown


def test_a_spinner_whose_time_comes_while_there_is_a_bar_waits_for_its_end(
    status: Status,
) -> None:
    with telling() as tell:
        for number in tracked(range(2), "Bar", shown=True):
            tell(str(number))
            assert not status.is_shown
        assert status.is_shown


def test_a_bar_that_is_left_early_gives_the_room_back(status: Status) -> None:
    with telling() as tell:
        tell("Working")
        bar: Iterator[int] = tracked(range(2), "Bar", shown=True)
        next(bar)
        assert not status.is_shown
        bar.close()  # type: ignore[attr-defined]
        assert status.is_shown


def test_work_that_fails_leaves_no_spinner_and_no_room_to_make(status: Status) -> None:
    before = room_for_bars.get()

    def fail() -> None:
        with telling() as tell:
            tell("Working")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not status.is_shown
    assert room_for_bars.get() is before


@pytest.mark.parametrize("way", [spinning, telling])
def test_what_comes_after_a_spinner_goes_to_standard_output(
    status: Status, way: Callable[[], AbstractContextManager[Any]]
) -> None:
    before = sys.stdout
    with way() as tell:
        if tell is not None:
            tell("Working")
        assert status.started.wait(10)
        assert sys.stdout is sys.stderr
        assert list(tracked(range(2), "Bar", shown=True)) == [0, 1]
    assert sys.stdout is before


def test_a_bar_may_be_closed_while_the_spinner_is_changed(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A garbage collection can close a bar that nobody goes on with at any time."""
    with telling() as tell:
        bar: Iterator[int] = tracked(range(2), "Bar", shown=True)
        next(bar)
        stop = status.stop

        def collect() -> None:
            bar.close()  # type: ignore[attr-defined]
            stop()

        monkeypatch.setattr(status, "stop", collect)
        with room_for_bars.get()():
            assert not status.is_shown
        tell("Working")
        assert status.is_shown


def test_no_bar_is_drawn_where_nothing_moves(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the spinner stays, whatever runs over batches."""
    monkeypatch.setattr(running, "Console", partial(Console, force_terminal=False))
    with telling():
        status.start()
        for _ in tracked(range(2), "Bar", shown=True):
            assert status.is_shown
