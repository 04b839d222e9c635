"""Random programs with zeros at random: without what is dead they compute the same."""

from __future__ import annotations

import warnings
from collections import Counter

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils import _pytree as pytree

import fxprune
from fuzz.drawing import programs
from fuzz.program import Program
from fuzz.trial import input_sets, is_finite
from fxprune.comparison import NotFiniteError

PROGRAMS = 100

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def zero_some(model: nn.Module, deps: fxprune.DependencyGraph, seed: int) -> None:
    """Of some channels zero what makes them, or what reads them, or one parameter of either."""
    draw = np.random.default_rng(seed)
    parameters = dict(model.named_parameters())
    for group in deps.groups:
        members = [member for member in group.members if member.parameter in parameters]
        for channel in np.flatnonzero(draw.random(group.size) < 0.4).tolist():
            dims = [[0], [1, 2], [0, 1, 2]][draw.integers(3)]
            chosen = [member for member in members if member.dim in dims]
            if len(dims) == 3 and chosen:
                chosen = [chosen[draw.integers(len(chosen))]]
            for member in chosen:
                positions = torch.tensor(member.positions[channel])
                parameters[member.parameter].index_fill_(member.dim, positions, 0)


@torch.no_grad()
def outcome_of(program: Program, seed: int) -> str:
    """What became of a program; an error if the result computes something else."""
    model, inputs = program.build().eval(), program.draw_inputs()
    zero_some(model, fxprune.analyze(model, inputs), seed)
    if not is_finite(model, inputs):
        return "unusable"
    try:
        plan = fxprune.Plan.from_masks(model, inputs)
        small = fxprune.shrink(model, plan, inputs, norm="exact", constants="fold", verify="quick")
    except NotFiniteError:  # a part that nothing uses divides zero by zero
        return "unusable"
    except (fxprune.RewriteError, fxprune.PlanError) as error:
        return f"refused: {error.what}: {error.why}"
    for name, values in input_sets(program).items():
        if not is_finite(model, values):
            continue
        try:
            got = pytree.tree_leaves(small(*values))
        except AssertionError as error:
            if "recorded for" in str(error):
                continue
            raise
        for one, other in zip(pytree.tree_leaves(model(*values)), got, strict=True):
            assert (one - other).abs().max() <= 1e-9 * max(1.0, float(one.abs().max())), name
    return "shrunk" if any(group.removed for group in plan.groups.values()) else "as it was"


def test_no_program_of_100_computes_something_else_without_what_is_dead() -> None:
    outcomes: Counter[str] = Counter()

    @hypothesis.seed(0)
    @settings(
        max_examples=PROGRAMS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(programs(), st.integers(0, 1 << 16))
    def check(program: Program, seed: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcomes[outcome_of(program, seed)] += 1

    check()
    refused = {reason: count for reason, count in outcomes.items() if reason.startswith("refused")}
    assert sum(refused.values()) <= 0.1 * PROGRAMS, refused
    assert outcomes["shrunk"] >= 0.5 * PROGRAMS, outcomes
