"""On the meta device, integers that follow from constants are known; others are not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import fxprune
from fxprune.errors import FxPruneError
from fxprune.known_values import on_meta
from fxprune.reference import QuietMode
from fxprune.rules import put_value, value_of


class Positions(nn.Module):
    """Decides by positions that follow from the size of its input, as packed sequences do."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.last = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(x.shape[0], device=x.device)
        steps = positions[1:] - positions[:-1]
        if not torch.compiler.is_compiling() and (steps != 1).any().item():
            raise RuntimeError("the positions are not in order")
        hidden = self.first(x).relu()
        hidden = hidden.index_select(0, positions.flip(0))
        return self.last(hidden)


def run(function: Any) -> Any:
    with QuietMode():
        return function()


def values(function: Any) -> Any:
    return run(lambda: function().tolist())


def test_a_module_that_decides_by_positions_is_emitted_without_data() -> None:
    x = torch.randn(3, 4)
    with torch.device("meta"):
        empty = Positions().eval()
    plan = fxprune.plan(empty, x, 0.5, criterion="random")
    small = fxprune.shrink(empty, plan, emit="module", verify=False)
    full = fxprune.shrink(Positions().eval(), plan, x, emit="module")
    assert {n: t.shape for n, t in small.state_dict().items()} == {
        n: t.shape for n, t in full.state_dict().items()
    }
    assert all(tensor.is_meta for tensor in small.state_dict().values())


def test_example_inputs_with_data_do_not_matter_to_a_model_without() -> None:
    with torch.device("meta"):
        empty = Positions().eval()
    plan = fxprune.plan(empty, torch.randn(3, 4), 0.5, criterion="random")
    small = fxprune.shrink(empty, plan, torch.randn(5, 4), emit="module", verify=False)
    assert small.first.weight.shape == (3, 4)


def test_numbers_of_known_integers_are_read() -> None:
    positions = run(lambda: torch.arange(5, device="meta"))
    assert run(lambda: int(positions.sum())) == 10
    assert run(lambda: bool((positions < 5).all()))
    assert run(lambda: torch.equal(positions, positions.flip(0).flip(0)))
    assert values(lambda: positions[positions > 2]) == [3, 4]


def test_what_is_written_is_known_where_it_is_read() -> None:
    def written() -> list[int]:
        made = torch.zeros(3, dtype=torch.int64, device="meta")
        made[1:] = 7
        made += 1
        return made.tolist()

    assert run(written) == [1, 8, 8]


def test_new_memory_is_zero() -> None:
    assert run(lambda: torch.empty(3, dtype=torch.int64, device="meta").tolist()) == [0, 0, 0]


def test_numbers_of_data_are_not_known() -> None:
    tokens = torch.empty(3, dtype=torch.int64, device="meta")
    for read in (
        lambda: int(tokens.sum()),
        lambda: bool((torch.arange(3, device="meta") == tokens).any()),
        lambda: torch.ones(3, device="meta").sum().item(),
    ):
        with pytest.raises(RuntimeError, match="meta"):
            run(read)


def test_what_was_known_is_not_once_data_is_written_into_it() -> None:
    positions = run(lambda: torch.arange(3, device="meta"))
    tokens = torch.empty(3, dtype=torch.int64, device="meta")
    run(lambda: positions.add_(tokens))
    assert value_of(positions) is None


def test_integers_with_data_meet_some_without() -> None:
    shadow = on_meta(torch.tensor([4, 5]))
    assert values(lambda: shadow + torch.tensor([1, 1])) == [5, 6]
    assert run(lambda: torch.empty(3, device="meta")[torch.tensor([0, 2])]).is_meta


def test_other_tensors_on_two_devices_are_refused_as_ever() -> None:
    empty = torch.empty(3, device="meta")
    with pytest.raises(RuntimeError, match="meta"):
        run(lambda: empty * torch.ones(3))


def test_data_never_goes_into_a_tensor_that_has_some() -> None:
    target = torch.ones(3)
    with pytest.raises(Exception, match="meta"):
        run(lambda: target.copy_(torch.empty(3, device="meta")))
    assert target.tolist() == [1.0] * 3


def test_integers_that_are_said_to_be_unknown_are() -> None:
    shadow = on_meta(torch.tensor([4, 5]))
    put_value(shadow, None)
    with pytest.raises(RuntimeError, match="meta"):
        run(lambda: shadow.sum().item())


def test_a_module_that_reads_data_as_a_number_is_not_emitted_without_data() -> None:
    class Reads(Positions):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not torch.compiler.is_compiling() and x.sum().item() > 0:
                return super().forward(x)
            return super().forward(x)

    with torch.device("meta"):
        empty = Reads().eval()
    plan = fxprune.plan(empty, torch.randn(3, 4), 0.5, criterion="random")
    with pytest.raises(FxPruneError, match="meta"):
        fxprune.shrink(empty, plan, emit="module", verify=False)
