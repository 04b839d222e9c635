"""Programs: any bytes are one, smaller bytes a simpler one, and the text is the program."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fxprune
from fuzz.drafting import STEPS
from fuzz.drawing import BLOCK, program, programs
from fuzz.program import Program, Value, built
from fuzz.pruning import Pruning, prunings
from tests.fuzz.test_oracle import drawn

pytestmark = pytest.mark.filterwarnings("ignore")


@settings(max_examples=40, report_multiple_bugs=False)
@given(programs(), st.integers(1, 3))
def test_every_program_runs_at_every_batch(drawing: Program, batch: int) -> None:
    with torch.no_grad():
        results = drawing.build()(*drawing.draw_inputs(batch))
    count = len(drawing.results)
    for result in results if count > 1 else [results]:
        assert result.dtype == torch.float64
        assert result.shape[0] == batch


@given(st.binary(min_size=2 * BLOCK, max_size=12 * BLOCK))
@settings(max_examples=40)
def test_any_bytes_are_a_program(choices: bytes) -> None:
    assert program(choices) == program(choices)
    assert "def forward" in str(program(choices))


def test_the_simplest_program_is_two_layers() -> None:
    simplest = program(bytes(4 * BLOCK))
    assert simplest.steps == ()
    assert len(simplest.members) == len(simplest.lines) == 2


def test_a_step_whose_block_starts_with_zero_is_left_out() -> None:
    one = bytes(2 * BLOCK) + b"\1" + bytes(BLOCK - 1)
    assert len(program(one).steps) == 1
    assert program(one + bytes(BLOCK)) == program(one)


def test_the_text_of_a_program_is_the_program() -> None:
    drawing = drawn(3)
    inputs = drawing.draw_inputs()
    again = built(str(drawing))
    assert str(again.state_dict()) == str(drawing.build().state_dict())
    assert str(again(*inputs)) == str(drawing.build()(*inputs))


def test_the_repr_of_a_program_can_be_pasted() -> None:
    scope = {"Program": Program, "Value": Value}
    assert eval(repr(drawn(5)), scope) == drawn(5)


def test_inputs_are_drawn_for_every_layout() -> None:
    shapes = {
        Value("x", "image", 3, (4, 5)): (2, 3, 4, 5),
        Value("x", "signal", 3, (4,)): (2, 3, 4),
        Value("x", "sequence", 3, (4,)): (2, 4, 3),
        Value("x", "vector", 3): (2, 3),
        Value("x", "tokens", 1, (4,)): (2, 4),
    }
    assert {value.shape(2) for value in shapes} == set(shapes.values())
    assert Value("x", "image", 3, (4, 5)).shape(1, 2) == (1, 3, 6, 7)


def test_every_layout_has_many_steps() -> None:
    for layout in ("image", "signal", "sequence", "vector"):
        assert sum(layout in layouts for layouts, _ in STEPS.values()) >= 25


def test_no_two_steps_have_one_name() -> None:
    assert len(STEPS) >= 100


@settings(max_examples=25)
@given(prunings())
def test_every_way_to_prune_makes_a_plan(pruning: Pruning) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    deps = fxprune.analyze(model, torch.randn(2, 4))
    plan = pruning.plan(deps)
    assert plan == pruning.plan(deps)
    assert plan.groups["0"].width >= 1
