"""Calls of a model's modules are noted as they are."""

import torch
from torch import Tensor, nn

from fxprune.module_runs import run_model, without_axes
from fxprune.reference import QuietMode


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
