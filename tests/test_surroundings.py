"""Modes that are on around a call decide nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch import nn

import fxprune
from models_zoo import randomize

X = torch.randn(2, 3, 8, 8)
MODES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}
around = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)]
    return randomize(nn.Sequential(*layers)).eval()


def assert_trains(model: nn.Module, x: torch.Tensor = X) -> None:
    model(x).sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None


@around
@pytest.mark.parametrize("emit", ["graph", "module"])
def test_what_is_made_under_a_mode_is_proved_as_precisely_and_trains(
    emit: fxprune.api.Emit, mode: Callable[[], AbstractContextManager[object]]
) -> None:
    model = net()
    expected = fxprune.shrink(model, {"0": 0.5}, X, emit=emit)
    with mode():
        plan = fxprune.plan(model, X, ratios={"0": 0.5})
        small = fxprune.shrink(model, plan, emit=emit)
        proof = fxprune.verify(model, small, plan, X)
    assert proof.dtype == "float64"
    assert proof.gradients == len(list(small.parameters()))
    assert torch.equal(small(X), expected(X))
    assert_trains(small)


@around
def test_what_is_loaded_under_a_mode_trains(
    mode: Callable[[], AbstractContextManager[object]], tmp_path: Path
) -> None:
    model = net()
    small = fxprune.shrink(model, {"0": 0.5}, X)
    with mode():
        fxprune.save(small, tmp_path / "small.safetensors")
        loaded = fxprune.load(net(), tmp_path / "small.safetensors")
    assert torch.equal(loaded(X), small(X))
    assert_trains(loaded)


def test_of_a_model_that_is_made_under_inference_mode_an_ordinary_one_is_made() -> None:
    with torch.inference_mode():
        model, x = net(), torch.randn(2, 3, 8, 8)
        small = fxprune.shrink(model, {"0": 0.5}, x)
    assert next(model.parameters()).is_inference()
    assert_trains(small)
    again = fxprune.shrink(model, {"0": 0.5}, x)
    assert torch.equal(small(X), again(X))


@around
def test_the_modes_are_on_again_after_a_call_and_after_a_refusal(
    mode: Callable[[], AbstractContextManager[object]],
) -> None:
    def now() -> tuple[bool, ...]:
        autocast = torch.is_autocast_enabled("cpu")
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled(), autocast

    model = net()
    with mode():
        before = now()
        fxprune.analyze(model, X)
        assert now() == before
        with pytest.raises(fxprune.PlanError):
            fxprune.shrink(model, {"nothing": 0.5}, X)
        assert now() == before
    assert torch._C._len_torch_function_stack() == torch._C._len_torch_dispatch_stack() == 0
