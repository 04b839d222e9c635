"""A mutant runs in a process and a copy of its own, and is killed, survives or times out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray")

from mutation import running
from mutation.mutants import ROOT, Mutant
from mutation.rows import append, read
from mutation.running import Result, run_all

FILE = "fxprune/labels/digits.py"
MUTANT = Mutant(FILE, "core/NumberReplacer", 0, 1, "old", "new")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants are forked")


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Let there be one check only."""
    # Other threads of a test run make no difference to children that only run a check.
    monkeypatch.setattr(running, "_COPIED", ("fxprune/labels",))

    def choose(function: Callable[[], object]) -> None:
        monkeypatch.setattr(running, "checks", lambda file: iter([function]))

    return choose


def fails() -> None:
    raise AssertionError("nobody would miss it")


def hangs() -> None:
    while True:
        pass


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize(
    ("function", "outcome"), [(fails, "killed"), (hangs, "timed out"), (list, "survived")]
)
def test_a_process_tells_what_became_of_a_mutant(
    function: Callable[[], object],
    outcome: str,
    check: Callable[[Callable[[], object]], None],
    tmp_path: Path,
) -> None:
    check(function)
    assert running._wait(running._fork(FILE, tmp_path, 1))[0] == outcome
    if outcome == "killed":
        assert "nobody would miss it" in running._log(tmp_path)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_checks_that_fail_without_a_mutant_are_an_error(
    check: Callable[[Callable[[], object]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_COPIED", ())
    check(fails)
    with pytest.raises(RuntimeError, match="fail without a mutant"):
        list(run_all([MUTANT], 1, 5))


def test_a_copy_leaves_the_checkout_alone() -> None:
    before = (ROOT / FILE).read_bytes()
    with running.checkout() as copy:
        assert (copy / FILE).read_bytes() == before
        (copy / FILE).write_text("")
    assert not copy.exists()
    assert (ROOT / FILE).read_bytes() == before


def test_results_are_read_back_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    assert read(file) == read(None) == {}
    result = Result(MUTANT, "killed", "E assert 1", 2.0)
    append(file, [result])
    append(file, [Result(MUTANT, "survived")])
    append(None, [result])
    assert read(file) == {MUTANT: Result(MUTANT, "survived")}
