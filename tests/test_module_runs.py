"""Calls of a model's modules are noted as they are."""

import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune.emission import example_arguments
from fxprune.module_calls import first_calls
from fxprune.module_runs import run_model, without_axes
from fxprune.reference import QuietMode
from models_zoo import ZOO


class Fails(nn.Module):
    """Raises."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) -> nothing."""
        raise ValueError("no")


class GoesOn(nn.Module):
    """Goes on where a module of it fails."""

    def __init__(self) -> None:
        super().__init__()
        self.fails, self.linear = Fails(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 4) -> (N, 2)."""
        try:
            return self.fails(x[:1])
        except ValueError:
            return self.linear(x)


def test_a_module_whose_failure_is_caught_is_not_taken_for_another() -> None:
    model = nn.Sequential(GoesOn())
    run = run_model(
        "the model", model, {"input": torch.ones(3, 4)}, QuietMode(), without_axes, values=True
    )
    assert [call.path for call in run.calls] == ["0.linear", "0", ""]
    assert [call.inputs[0].shape for call in run.calls] == [(3, 4)] * 3
    assert [call.outputs[0].shape for call in run.calls] == [(3, 2)] * 3


class Writing(nn.Module):
    """Writes into its weight, or needs data."""

    def __init__(self, writes: bool) -> None:
        super().__init__()
        self.writes = writes
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        if x.abs().max().item() > 100:
            x = x / 2
        if self.writes:
            self.first.weight.data.clamp_(-0.1, 0.1)
        return self.second(self.first(x))


@pytest.mark.parametrize("writes", [False, True])
def test_calls_that_need_data_are_found_on_weights_that_stay_as_they_are(writes: bool) -> None:
    model, x = Writing(writes).eval(), torch.randn(3, 4)
    deps = fxprune.analyze(model, x)
    layout = fxprune.plan(deps, channels={"first": [1, 2]}).layout(deps)
    before = model.first.weight.clone()
    with torch.no_grad():
        calls, labels = first_calls(deps, layout, {"x": x})
    assert torch.equal(model.first.weight, before)
    assert list(calls) == ["", "second", "first"]
    returned = calls["first"].returned
    assert returned is not None
    assert layout.under(labels).shape(returned) == (3, 6)


def test_positions_that_only_data_tells_are_looked_up_in_data() -> None:
    entry = ZOO["index_channels_literal"]
    deps = fxprune.analyze(entry.build().eval(), entry.example_inputs())
    layout = fxprune.plan(deps, ratio=0.5).layout(deps)
    with torch.no_grad():
        calls, labels = first_calls(deps, layout, example_arguments(deps, None))
    assert not layout.is_coupled_otherwise(labels)
    returned = calls["stem"].returned
    assert returned is not None
    assert layout.under(labels).shape(returned)[1] < returned.shape[1]
