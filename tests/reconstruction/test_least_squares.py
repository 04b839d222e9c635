"""Repaired layers are as near to the original as least squares gets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxprune

MODES = ("sequential", "parallel")


def error(small: nn.Module, model: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((small(x) - model(x)).square().sum())


@pytest.mark.parametrize("mode", MODES)
def test_places_that_a_stride_skips_do_not_count(mode: Any) -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1, stride=2))
    model = nn.Sequential(*layers).double().eval()
    x = torch.randn(64, 3, 8, 8, dtype=torch.float64)
    x[:, :, 1::2] *= 20  # no one reads these
    x[:, :, :, 1::2] = 20 * x[:, :, :, 1::2].abs()
    plan = fxprune.plan(model, x, 0.5)
    repaired = fxprune.reconstruct(model, plan, [x], mode=mode, ridge=1e-9, progress=False)
    small = fxprune.shrink(repaired.model, plan)
    with torch.no_grad():
        read = torch.relu(small.get_submodule("0")(x))[:, :, ::2, ::2].movedim(1, -1).flatten(0, 2)
        y = model(x).movedim(1, -1).flatten(0, 2)
        read = torch.cat([read, torch.ones_like(read[:, :1])], 1)
        best = (read @ torch.linalg.lstsq(read, y).solution - y).square().sum()
    assert error(small, model, x) == pytest.approx(float(best), rel=1e-6)


class Scaled(nn.Module):
    """A product that is scaled, and a vector that is added to it."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.first = nn.Linear(5, 8)
        self.weight = nn.Parameter(torch.randn(8, 3) / alpha)
        self.before, self.after = (nn.Parameter(torch.zeros(3)) for _ in range(2))
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x)) + 1
        return torch.addmm(self.before, x, self.weight, alpha=self.alpha) + self.after


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["regression", "mean"])
def test_a_constant_is_added_as_large_as_it_is_missing(method: Any, mode: Any) -> None:
    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = []
    for alpha in (1.0, 3.0):
        torch.manual_seed(0)
        model = Scaled(alpha).double().eval()
        plan = fxprune.plan(model, x, channels={"first": [0, 3, 4, 6]})
        repaired = fxprune.reconstruct(model, plan, [x], method=method, mode=mode, progress=False)
        (repair,) = repaired.repairs
        assert repair.intercept == ("before" if alpha == 1 else "after")
        errors.append(error(fxprune.shrink(repaired.model, plan), model, x))
    assert errors[0] == pytest.approx(errors[1], rel=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_explained_by_rounding(mode: Any) -> None:
    """What is the same for all samples but in its last digits is a constant."""
    torch.manual_seed(0)
    layers = (nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.Sigmoid(), nn.Linear(16, 4))
    model = nn.Sequential(*layers).eval()
    x = 1 + 1e-7 * torch.randn(256, 8)
    plan = fxprune.plan(model, x[:2], 0.5)
    repaired = fxprune.reconstruct(model, plan, x.split(64), mode=mode, progress=False)
    for name, tensor in repaired.tensors.items():
        assert float(tensor.detach().abs().max()) < 2.0, name
    near = 1 + 1e-2 * torch.randn(64, 8)
    small, dropped = (fxprune.shrink(each, plan) for each in (repaired.model, model))
    assert error(small, model, near) < 0.1 * error(dropped, model, near)


def test_a_constant_alone_is_taken_where_new_weights_are_worse() -> None:
    """Taps of a convolution are fitted alike, which here makes the outcome worse."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 1, (1, 2))).double().eval()
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([1.0, 1.0]).view(2, 1, 1, 1)
        model[1].weight[:] = torch.tensor([[[1.0, 1.0]], [[1.0, -1.0]]]).view(1, 2, 1, 2)
    x = torch.zeros(50, 1, 1, 2, dtype=torch.float64)
    x[..., 0] = torch.randn(50, 1, 1, dtype=torch.float64)
    x[..., 1] = 0.9 * x[..., 0]
    plan = fxprune.plan(model, x, channels={"0": [1]})
    repaired = fxprune.reconstruct(model, plan, [x], progress=False)
    small = fxprune.shrink(repaired.model, plan)
    dropped = fxprune.shrink(model, plan)
    assert error(small, model, x) <= error(dropped, model, x)
    assert all(each.after <= each.before for each in repaired.repairs)


def test_what_is_left_takes_no_memory_for_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, as in turn."""
    from fxprune.readings import moments, products  # noqa: PLC0415  # to be changed
    from fxprune.reconstruction import outcomes  # noqa: PLC0415

    monkeypatch.setattr(products, "WIDEST", 4)
    made = []

    class Counted(moments.Moments):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(outcomes, "Moments", Counted)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.randn(20, 5)
    plan = fxprune.plan(model, x, 0.5)
    for mode in ("sequential", "parallel"):
        found = fxprune.reconstruct(model, plan, [x], mode=mode, progress=False)  # type: ignore[arg-type]
        assert "too much memory" in found.repairs[0].why
    assert made == []
