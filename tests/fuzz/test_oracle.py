"""The oracle agrees with originals that lose nothing, and with nothing that is wrong."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import pytest
import torch
from torch import nn

import fxprune
from fuzz.drawing import BLOCK, STEPS_AT_MOST, program
from fuzz.masked import ContradictionError, Masked, NoMeaningError
from fuzz.oracle import Oracle, difference
from fuzz.program import Program
from models_zoo import randomize

pytestmark = pytest.mark.filterwarnings("ignore")


def drawn(seed: int) -> Program:
    return program(random.Random(seed).randbytes(BLOCK * (2 + STEPS_AT_MOST)))


class Net(nn.Module):
    """A convolution, a batch norm, a function with f(0) != 0, a group norm and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 12, 1, groups=2)
        self.groups = nn.GroupNorm(2, 12)
        self.qkv = nn.Linear(12, 24)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.sigmoid(self.norm(self.first(x)))
        y = torch.cos(self.groups(self.second(y))).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(y).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        y = ((q @ k.transpose(2, 3)) * q.shape[-1] ** -0.5).softmax(-1) @ v
        return self.head(y.transpose(1, 2).flatten(2).mean(1))


def pruned() -> tuple[nn.Module, nn.Module, fxprune.Plan, torch.Tensor]:
    model = randomize(Net()).double().eval()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    plan = fxprune.plan(model, x, 0.5, head_dims=True)
    return model, fxprune.shrink(model, plan, x), plan, x


@pytest.mark.parametrize("seed", range(40))
def test_an_original_that_loses_nothing_is_what_the_oracle_says(seed: int) -> None:
    drawing = drawn(seed)
    model, inputs = drawing.build(), drawing.draw_inputs()
    assert difference(model, inputs, Oracle(model, {}).outputs(inputs)) is None


def test_a_pruned_model_is_what_the_oracle_says() -> None:
    model, small, plan, x = pruned()
    assert difference(small, [x], Oracle(model, plan.slices).outputs([x])) is None


def drop_bias(small: nn.Module) -> None:
    small.second.bias.zero_()


def swap_rows(small: nn.Module) -> None:
    weight = small.first.weight
    weight.copy_(weight.flip(0))


def swap_columns(small: nn.Module) -> None:
    small.head.weight.copy_(small.head.weight.flip(1))


def change_one_weight(small: nn.Module) -> None:
    small.qkv.weight[0, 0] += 1e-6


def forget_statistics(small: nn.Module) -> None:
    small.norm.running_mean.zero_()


def other_heads(small: nn.Module) -> None:
    small.qkv.weight.copy_(small.qkv.weight.roll(1, 0))


@pytest.mark.parametrize(
    "fault",
    [drop_bias, swap_rows, swap_columns, change_one_weight, forget_statistics, other_heads],
)
def test_a_wrong_result_is_found(fault: Callable[[nn.Module], None]) -> None:
    model, small, plan, x = pruned()
    with torch.no_grad():
        fault(small)
    found = difference(small, [x], Oracle(model, plan.slices).outputs([x]))
    assert found is not None
    assert "off by" in found


@pytest.mark.parametrize("seed", range(12))
def test_every_changed_weight_that_the_outputs_show_is_found(seed: int) -> None:
    drawing, chance = drawn(seed), random.Random(seed)
    model, inputs = drawing.build(), drawing.draw_inputs()
    plan = fxprune.plan(model, inputs, 0.5)
    small = fxprune.shrink(model, plan, inputs, verify=False)
    expected = Oracle(model, plan.slices).outputs(inputs)
    assert difference(small, inputs, expected) is None
    for name, parameter in small.named_parameters():
        changed = copy.deepcopy(small)
        with torch.no_grad():
            flat = changed.get_parameter(name).view(-1)
            flat[chance.randrange(parameter.numel())] += 0.01
        as_before = difference(changed, inputs, outputs(small, inputs))
        assert (difference(changed, inputs, expected) is None) is (as_before is None)


def outputs(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    with torch.no_grad():
        found = model(*inputs)
    return [found] if isinstance(found, torch.Tensor) else list(found)


def test_a_plan_that_couples_too_little_is_a_contradiction() -> None:
    model, _, plan, x = pruned()
    slices = {name: dict(dims) for name, dims in plan.slices.items()}
    slices["second.weight"].pop(1)
    with pytest.raises(ContradictionError, match="other channels than its input"):
        Oracle(model, slices).outputs([x])


def test_an_output_that_loses_channels_is_a_contradiction() -> None:
    model, _, plan, x = pruned()
    slices = {**plan.slices, "head.weight": {**plan.slices["head.weight"], 0: (1,)}}
    with pytest.raises(ContradictionError, match="output is gone"):
        Oracle(model, slices).outputs([x])


def test_a_function_without_a_meaning_is_never_guessed() -> None:
    with pytest.raises(NoMeaningError, match="igamma"):
        torch.igamma(Masked.whole(torch.ones(2)), torch.ones(2))  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", ["shape", "count", "nan"])
def test_outputs_of_another_form_differ(fault: str) -> None:
    expected = [torch.ones(2, 3)]
    results = {
        "shape": [torch.ones(2, 1)],
        "count": [torch.ones(2, 3), torch.ones(1)],
        "nan": [torch.full((2, 3), torch.nan)],
    }

    class Fixed(nn.Module):
        def forward(self) -> list[torch.Tensor]:
            return results[fault]

    assert difference(Fixed(), [], expected) is not None
