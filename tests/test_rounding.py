"""What exceeds the tolerance is rounding only as far as rounding of the original explains it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune import VerificationError
from fxprune.cli_output import verification_document
from fxprune.planning import Plan
from fxprune.rounding import CAP, CHAOS, FACTOR, RUNS, Key, Rounding, nudged
from models_zoo import randomize

X = torch.rand(64, 4, generator=torch.Generator().manual_seed(0))
KEY = ("node y", 0)


class Sharp(nn.Module):
    """A softmax of numbers of size `height` that differ little: their last digits decide."""

    def __init__(self, height: float) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 64), nn.Linear(64, 8), nn.Linear(8, 3)
        randomize(self).double()
        self.register_buffer("slopes", height + torch.linspace(0, 0.01, 8, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).sigmoid()
        total = x.sum(1, keepdim=True)  # summed in another order when x is narrower
        return self.head((self.second(x) + total * self.slopes).softmax(1))


def made(height: float, emit: str = "graph") -> tuple[nn.Module, Plan, Any]:
    """An ill-conditioned model in float64, a plan, and the shrunk model, not verified."""
    model = Sharp(height).eval()
    plan = fxprune.plan(model, X.double(), 0.5)
    return model, plan, fxprune.shrink(model, plan, verify=False, emit=emit)


def rounding(noise: float | Callable[[int], Tensor]) -> Rounding:
    """What is measured where the original changes by `noise`."""

    def run(seed: int | None) -> Iterator[tuple[Key, Tensor]]:
        value = torch.ones(2, dtype=torch.float64)
        if seed is not None:
            value = noise(seed) if callable(noise) else value + noise
        yield KEY, value

    return Rounding(run)


# -- whole models -----------------------------------------------------------------------------


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_a_model_that_amplifies_rounding_is_verified_and_tells_so(emit: str) -> None:
    model, plan, small = made(3e6, emit)
    result = fxprune.verify(model, small, plan, X.double())
    assert result.rounded > 0
    assert result.tolerance == 1e-9 < result.relative <= FACTOR * result.noise
    assert f"(exceeded {result.rounded} times by rounding: the last bits" in str(result)
    assert json.loads(json.dumps(verification_document(result)))["noise"] == result.noise


def test_of_a_model_whose_nodes_are_not_known_the_outputs_may_differ_by_rounding() -> None:
    model, plan, small = made(3e6)
    del small.meta["fxprune"]
    result = fxprune.verify(model, small, plan, X.double())
    assert result.compared == "outputs"
    assert result.rounded > 0


@pytest.mark.parametrize("emit", ["graph", "module"])
@pytest.mark.parametrize("layer", ["first", "second", "head"])
@pytest.mark.parametrize("size", [1e-7, 1e-5, 1e-3])
def test_behind_amplified_rounding_no_wrong_weight_is_hidden(
    emit: str, layer: str, size: float
) -> None:
    model, plan, small = made(3e6, emit)
    with torch.no_grad():
        weight = small.get_submodule(layer).weight
        weight.flatten()[weight.abs().argmax()].mul_(1 + size)
    with pytest.raises(VerificationError, match=f"(node|module) {layer} differs"):
        fxprune.verify(model, small, plan, X.double())


def test_rounding_beyond_the_cap_is_no_proof_and_the_model_is_told_to_be_the_cause() -> None:
    model, plan, small = made(1e10)
    with pytest.raises(VerificationError, match="node softmax differs") as caught:
        fxprune.verify(model, small, plan, X.double())
    assert "; the last bits of its weights change the original itself by " in caught.value.why
    assert "too ill-conditioned for a proof" in caught.value.hint


def test_an_error_tells_what_rounding_does_there() -> None:
    model, plan, small = made(1.0)
    with torch.no_grad():
        small.head.weight[0, 0].mul_(1 + 1e-7)
    with pytest.raises(VerificationError, match="node head differs") as caught:
        fxprune.verify(model, small, plan, X.double())
    assert "; the last bits of its weights change the original itself by " in caught.value.why
    assert "please report it" in caught.value.hint


def test_where_nothing_exceeds_the_tolerance_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Rounding, "at", None)
    model, plan, small = made(1.0)
    result = fxprune.verify(model, small, plan, X.double())
    assert (result.rounded, result.noise) == (0, 0.0)
    assert "rounding" not in str(result)


# -- what explains a difference ---------------------------------------------------------------


def test_a_difference_is_explained_up_to_a_small_multiple_of_the_noise() -> None:
    assert rounding(1e-8).explains(KEY, 0.9 * FACTOR * 1e-8)
    assert not rounding(1e-8).explains(KEY, 1.1 * FACTOR * 1e-8)


def test_no_noise_explains_a_difference_above_the_cap() -> None:
    assert rounding(CAP).explains(KEY, CAP)
    assert not rounding(CAP).explains(KEY, 1.1 * CAP)


@pytest.mark.parametrize("noise", [1.1 * CHAOS, torch.inf, torch.nan])
def test_another_path_of_the_original_explains_nothing(noise: float) -> None:
    assert not rounding(noise).explains(KEY, 2e-9)


def test_a_value_that_the_original_does_not_have_explains_nothing() -> None:
    assert not rounding(1e-8).explains(("node z", 0), 2e-9)
    assert not rounding(lambda _: torch.ones(3)).explains(KEY, 2e-9)


def test_an_original_that_fails_when_it_is_changed_explains_nothing() -> None:
    def fail(seed: int) -> Tensor:
        raise fxprune.InputError(f"{seed} is refused")

    assert not rounding(fail).explains(KEY, 2e-9)


def test_the_largest_of_several_runs_counts() -> None:
    seeds = []

    def noisy(seed: int) -> Tensor:
        seeds.append(seed)
        return torch.ones(2, dtype=torch.float64) + (1e-8 if seed == 1 else 0.0)

    assert rounding(noisy).at(KEY) == pytest.approx(1e-8)
    assert seeds == list(range(RUNS))


# -- last bits --------------------------------------------------------------------------------


def test_every_number_changes_by_one_unit_in_the_last_place_up_or_down() -> None:
    x = torch.rand(1000, dtype=torch.float64)
    up, down = (torch.nextafter(x, torch.full_like(x, end)) for end in (2.0, -2.0))
    changed = nudged(x, seed=0)
    assert bool(((changed == up) | (changed == down)).all())
    assert 400 < int((changed == up).sum()) < 600
    assert torch.equal(changed, nudged(x, seed=0))
    assert not torch.equal(changed, nudged(x, seed=1))


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([0.0, 1.0, -3.0, 1e20, torch.inf], dtype=torch.float64),
        torch.arange(3),
        torch.tensor([0.5]),
        torch.tensor([0.5j]),
    ],
)
def test_whole_numbers_and_other_types_stay(value: Tensor) -> None:
    assert torch.equal(nudged(value, seed=0), value)


def test_last_bits_changed_in_chunks_are_those_changed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = torch.randn(7, 5, 3, dtype=torch.float64)
    whole = nudged(value, seed=3)
    monkeypatch.setattr("fxprune.rounding._CHUNK", 20)
    assert torch.equal(nudged(value, seed=3), whole)
    assert torch.equal(nudged(value[0, 0, 0], seed=3), nudged(value[0, 0, :1], seed=3)[0])
