"""Batches with a progress bar."""

from __future__ import annotations

import warnings
from functools import partial

import pytest
from rich.console import Console

from fxprune.importance import running


def test_in_a_notebook_without_widgets_there_is_no_bar_and_no_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "Console", partial(Console, force_jupyter=True))
    monkeypatch.setattr(running, "find_spec", lambda name: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(running.tracked([1, 2], "Work", shown=True)) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_in_a_terminal_there_is_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = partial(Console, force_terminal=True, force_jupyter=False)
    monkeypatch.setattr(running, "Console", terminal)
    assert list(running.tracked([1, 2], "Work", shown=True)) == [1, 2]
    out, err = capsys.readouterr()
    assert not out
    assert "Work" in err
