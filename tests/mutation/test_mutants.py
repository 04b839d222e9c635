"""Mutants are random, real and always the same ones."""

from __future__ import annotations

import ast

import pytest

pytest.importorskip("cosmic_ray")

from mutation.mutants import ROOT, Mutant, _meaning, sample


@pytest.fixture(scope="module")
def mutants() -> list[Mutant]:
    return sample(["labels"], 12, seed=3)


def test_the_same_seed_gives_the_same_mutants(mutants: list[Mutant]) -> None:
    assert sample(["labels"], 12, seed=3) == mutants
    assert sample(["labels"], 12, seed=4) != mutants


def test_a_smaller_sample_is_a_part_of_a_larger_one(mutants: list[Mutant]) -> None:
    assert set(sample(["labels"], 5, seed=3)) < set(mutants)


def test_a_mutant_is_the_file_with_one_line_changed(mutants: list[Mutant]) -> None:
    for mutant in mutants:
        before = (ROOT / mutant.file).read_text(encoding="utf-8").splitlines()
        after = mutant.text.splitlines()
        assert before[mutant.line - 1].strip() == mutant.old != mutant.new
        assert after[mutant.line - 1].strip() == mutant.new
        assert before[: mutant.line - 1] == after[: mutant.line - 1]
        assert mutant.package == "labels"
        ast.parse(mutant.text)


@pytest.mark.parametrize(
    ("before", "after", "is_same"),
    [
        (
            "def f(x: int | None) -> int | None: ...",
            "def f(x: int + None) -> int - None: ...",
            True,
        ),
        ("x: A | B = 1", "x: A & B = 1", True),
        ("if TYPE_CHECKING:\n    import a", "if not TYPE_CHECKING:\n    import a", True),
        ("def f():\n    'says 1'\n    return 1", "def f():\n    'says 2'\n    return 1", True),
        ("def f():\n    return 1", "def f():\n    return 2", False),
        ("@a\ndef f():\n    return 1", "def f():\n    return 1", False),
    ],
)
def test_only_what_runs_counts_as_a_change(before: str, after: str, *, is_same: bool) -> None:
    assert (_meaning(before) == _meaning(after)) is is_same
