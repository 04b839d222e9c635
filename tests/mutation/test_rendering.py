"""The document tells the score, and every survivor."""

from __future__ import annotations

import pytest

pytest.importorskip("cosmic_ray")

from mutation import equivalents
from mutation.mutants import Mutant
from mutation.rendering import render, replaced, score, totals
from mutation.running import Result


def mutant(line: int, package: str = "labels") -> Mutant:
    return Mutant(f"fxprune/{package}/some.py", "core/AddNot", line, line, "if a:", "if not a:")


KILLED, LATE = Result(mutant(1), "killed"), Result(mutant(2), "timed out")
LEFT, SAME = Result(mutant(3), "survived"), Result(mutant(4, "rules"), "survived")
ALL = [KILLED, LATE, LEFT, SAME]


@pytest.fixture(autouse=True)
def reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {("rules/some.py", "if a:", "if not a:"): "a is never false"}
    monkeypatch.setattr(equivalents, "_REASONS", known)


def test_the_score_leaves_out_what_computes_the_same() -> None:
    assert score([KILLED, LATE, LEFT]) == pytest.approx(2 / 3)
    assert score(ALL) == pytest.approx(2 / 3)
    assert score([SAME]) == 1


def test_a_mutant_that_was_killed_counts_even_if_it_is_said_to_be_equivalent() -> None:
    assert score([Result(mutant(4, "rules"), "killed"), LEFT]) == pytest.approx(1 / 2)


def test_totals_have_a_line_for_each_package_and_one_for_all() -> None:
    lines = totals(ALL).splitlines()
    assert lines[2] == "| `fxprune/labels` | 3 | 1 | 1 | 1 | 0 | **66.7%** |"
    assert lines[3] == "| `fxprune/rules` | 1 | 0 | 0 | 1 | 1 | **100.0%** |"
    assert lines[-1] == "| all | 4 | 1 | 1 | 2 | 1 | **66.7%** |"


def test_survivors_are_listed_with_the_reason_if_there_is_one() -> None:
    text = render(ALL, seed=7)
    assert "4 mutants of Cosmic Ray" in text
    assert "seed 7" in text
    assert "- `labels/some.py:3` `if a:` becomes `if not a:`\n" in text
    assert "- `rules/some.py:4` `if a:` becomes `if not a:`: a is never false" in text


def test_only_what_is_between_the_markers_is_replaced() -> None:
    begin, end = "<!-- mutation: begin -->", "<!-- mutation: end -->"
    assert replaced(f"a\n{begin}\nb\n{end}\nc", "new") == f"a\n{begin}\n\nnew\n\n{end}\nc"
    with pytest.raises(ValueError, match="lacks"):
        replaced("no markers", "new")
