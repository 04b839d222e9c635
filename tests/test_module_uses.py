"""What modules take and return, and which input is added to what is computed of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxprune import AnalysisError
from fxprune.module_uses import uses_of

X = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))


class Part(nn.Module):
    def __init__(self, compute: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(6, 6), nn.LayerNorm(6)
        self.compute = compute

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.compute(self, x, y)


class Whole(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x, y=x * 2)


def in_place(part: Any, x: Tensor, y: Tensor) -> Tensor:
    out: Tensor = part.fc(x)
    out += x
    return out


CASES: dict[str, tuple[Callable[[Any, Tensor, Tensor], Tensor], set[int | str]]] = {
    "x + f(x)": (lambda p, x, y: x + p.fc(x), {0}),
    "f(x) + x in place": (in_place, {0}),
    "norm(x + f(x))": (lambda p, x, y: p.norm(x + p.fc(x)), {0}),
    "relu(x + f(norm(x)))": (lambda p, x, y: (x + p.fc(p.norm(x))).relu(), {0}),
    "x as the bias of a product": (
        lambda p, x, y: torch.addmm(x, x, p.fc.weight),
        {0},
    ),
    "x + f(y)": (lambda p, x, y: x + p.fc(y), set()),
    "f(x) + y": (lambda p, x, y: p.fc(x) + y, set()),
    "y + f(y)": (lambda p, x, y: y + p.fc(y), {"y"}),
    "x + y": (lambda p, x, y: x + y, set()),
    "f(x) - x": (lambda p, x, y: p.fc(x) - x, set()),
    "f(x)": (lambda p, x, y: p.fc(x), set()),
    "norm(x)": (lambda p, x, y: p.norm(x), set()),
    "x * f(x)": (lambda p, x, y: x * p.fc(x), set()),
    "highway": (
        lambda p, x, y: p.fc(x) * p.norm(x) + (1 - p.fc(x).sigmoid()) * x,
        {0},
    ),
    "f(x + f(x))": (lambda p, x, y: p.fc(x + p.fc(x)), set()),
}


@pytest.mark.parametrize("what", CASES)
def test_an_input_is_added_to_what_is_computed_of_it(what: str) -> None:
    compute, added = CASES[what]
    (use,) = uses_of(Whole(Part(compute)), X).calls["part"]
    assert set(use.added) == added


def test_every_call_is_noted_with_all_its_tensors() -> None:
    uses = uses_of(Whole(Part(lambda p, x, y: x + p.fc(x))), X)
    (part,) = uses.calls["part"]
    assert list(part.taken) == [0, "y"]
    assert part.kind is Tensor
    assert part.returned.shape == part.taken[0].shape == (2, 6)
    assert list(uses.calls) == ["part.fc", "part", ""]


def test_products_are_counted_in_every_module_around_them() -> None:
    uses = uses_of(Whole(Part(lambda p, x, y: p.fc(x) @ x.T)), X)
    assert uses.macs("part.fc") == 2 * 6 * 6
    assert uses.macs("part") == uses.macs() == 2 * 6 * 6 + 2 * 6 * 2


def test_a_model_on_the_meta_device_is_run_without_data() -> None:
    with torch.device("meta"):
        model = Whole(Part(lambda p, x, y: x + p.fc(x)))
    assert uses_of(model, X.to("meta")).calls["part"][0].added == {0}


def test_a_failure_names_the_module() -> None:
    with pytest.raises(AnalysisError, match="fails") as caught:
        uses_of(Whole(Part(lambda p, x, y: p.fc(x[:, :3]))), X)
    assert caught.value.where == "module part.fc"


def test_the_model_is_not_changed() -> None:
    model = Whole(Part(in_place))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    uses_of(model, X)
    assert all(torch.equal(model.state_dict()[n], tensor) for n, tensor in before.items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
