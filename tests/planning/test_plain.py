"""The selection of a plan that is told a ratio and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import fxprune
from fxprune.planning.plain import plain_selection
from fxprune.planning.plan_data import Plan
from models_zoo import ZOO, randomize


def removed(deps: fxprune.DependencyGraph, plan: Plan) -> set[int]:
    """The ids that a plan removes."""
    return {
        int(channel)
        for name, entry in plan.groups.items()
        for channel in deps.group(name).ids[list(entry.removed)]
    }


@pytest.mark.parametrize("name", ["bottleneck_grouped", "qkv_fused_chunk", "recurrent_lstm"])
@pytest.mark.parametrize("criterion", ["l2", "random"])
def test_it_removes_what_the_plan_of_each_ratio_removes(name: str, criterion: str) -> None:
    entry = ZOO[name]
    deps = fxprune.analyze(randomize(entry.build()).eval(), entry.example_inputs())
    selection = plain_selection(deps, criterion)
    for ratio in (0.0, 0.1, 0.5, 0.75, 0.99):
        plan = fxprune.plan(deps, ratio=ratio, criterion=criterion)
        assert set(np.unique(selection.removed(ratio)).tolist()) == removed(deps, plan)


def test_weights_that_cannot_be_ranked_are_refused() -> None:
    model = nn.Linear(3, 4)
    nn.init.constant_(model.weight, torch.nan)
    deps = fxprune.analyze(nn.Sequential(model, nn.Linear(4, 2)).eval(), torch.zeros(1, 3))
    with pytest.raises(fxprune.InputError, match="NaN"):
        plain_selection(deps)
