"""What rounding does to gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import fxprune
from fxprune.comparison import UnprovableError
from fxprune.gradient_verification import _GradientCheck
from models_zoo import randomize


def check(noise: float) -> _GradientCheck:
    """A check that has measured by how much last bits change a gradient of 1."""
    nothing: Any = None
    gradient = torch.ones(1, dtype=torch.float64)
    measured = [{"weight": gradient}, {"weight": gradient + noise}, {"weight": gradient}]
    return _GradientCheck(nothing, nothing, nothing, 1e-9, True, changed={True: measured})


@pytest.mark.parametrize(
    ("error", "noise", "explained"),
    [(1e-8, 1e-8, True), (1e-8, 1e-10, False), (1e-4, 1e-8, False), (1e-2, 1e-4, False)],
)
def test_a_difference_is_rounding_up_to_some_times_the_noise(
    error: float, noise: float, explained: bool
) -> None:
    assert check(noise).explains((), True, "weight", error, 1.0) == explained


def test_gradients_that_last_bits_change_by_much_are_no_reference() -> None:
    with pytest.raises(UnprovableError, match="that of weight changes by 1e-05 with the last bits"):
        check(1e-5).explains((), True, "weight", 1e-5, 1.0)


def test_of_a_result_that_was_frozen_since_it_is_told_what_to_do() -> None:
    model = randomize(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))).eval()
    x = torch.randn(3, 4)
    plan = fxprune.plan(model, x, 0.5)
    small = fxprune.shrink(model, plan).requires_grad_(False)
    with pytest.raises(fxprune.VerificationError, match="if you froze it after shrinking"):
        fxprune.verify(model, small, plan, x)
    assert fxprune.verify(model.requires_grad_(False), small, plan, x).gradients == 0


class Spectrum(nn.Module):
    """Complex weights, and nothing real comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.last = nn.Linear(6, 2)
        self.turns = nn.Parameter(torch.randn(2, dtype=torch.complex64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        real = self.last(torch.relu(self.first(x)))
        return torch.complex(real, 2 * real) * self.turns


def test_complex_weights_and_outputs_have_gradients() -> None:
    model, x = randomize(Spectrum()).eval(), torch.randn(3, 4)
    plan = fxprune.plan(model, x, 0.5)
    small = fxprune.shrink(model, plan)
    assert fxprune.verify(model, small, plan, x).gradients == len(list(model.parameters()))


def test_a_gradient_that_is_lost_on_the_way_to_a_complex_output_is_found() -> None:
    model, x = randomize(Spectrum()).eval(), torch.randn(3, 4)
    plan = fxprune.plan(model, x, 0.5)
    small = fxprune.shrink(model, plan)
    [relu] = [node for node in small.graph.nodes if "relu" in node.name]
    with small.graph.inserting_after(relu):
        cut = small.graph.call_method("detach", (relu,))
        relu.replace_all_uses_with(cut, delete_user_cb=lambda user: user is not cut)
    small.recompile()
    with pytest.raises(fxprune.VerificationError, match="gradient"):
        fxprune.verify(model, small, plan, x)
