"""Fused recurrent operators as simpler ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fxprune.decompositions import decomposed
from fxprune.labels import LabelAlgebra
from fxprune.rules import Call

aten = torch.ops.aten


def run(op: torch._ops.OpOverload, *args: object) -> tuple[torch.Tensor, ...]:
    outputs: tuple[torch.Tensor, ...] = decomposed(Call(LabelAlgebra(), op, args, {}))
    return outputs


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="there is no such kernel")
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("has_biases", [False, True])
@pytest.mark.parametrize(("layers", "rank"), [(1, 3), (2, 2)])
def test_a_layer_of_an_lstm_is_what_the_kernel_computes(
    reverse: bool, has_biases: bool, layers: int, rank: int
) -> None:
    torch.manual_seed(0)
    biases = (torch.randn(16), torch.randn(16)) if has_biases else (torch.zeros(16, 5),) * 2
    weights = (torch.randn(16, 5), torch.randn(16, 4), *biases)
    tail = (reverse, [], 2, 4, layers, has_biases, layers > 1, layers > 1, False)
    states = [torch.randn((1, 2, 4)[-rank:]) for _ in range(2)]
    args = (torch.randn(3, 2, 5), *weights, *states, *tail)
    op = aten.mkldnn_rnn_layer.default
    for ours, theirs in zip(run(op, *args)[:3], op(*args)[:3], strict=True):
        torch.testing.assert_close(ours, theirs.reshape(ours.shape))


def test_a_cell_of_an_lstm_is_what_torch_computes() -> None:
    cell = nn.LSTMCell(5, 4).double()
    x, h, c = (torch.randn(2, n, dtype=torch.float64) for n in (5, 4, 4))
    gates = (x @ cell.weight_ih.T, h @ cell.weight_hh.T)
    got = run(aten._thnn_fused_lstm_cell.default, *gates, c, cell.bias_ih, cell.bias_hh)
    assert got[2].shape == (2, 16)
    torch.testing.assert_close(got[:2], cell(x, (h, c)))


def test_a_cell_of_a_gru_is_what_torch_computes() -> None:
    cell = nn.GRUCell(5, 4).double()
    x, h = (torch.randn(2, n, dtype=torch.float64) for n in (5, 4))
    gates = (x @ cell.weight_ih.T, h @ cell.weight_hh.T)
    state, saved = run(aten._thnn_fused_gru_cell.default, *gates, h, cell.bias_ih, cell.bias_hh)
    assert saved.shape == (2, 20)
    torch.testing.assert_close(state, cell(x, h))


def test_packed_sequences_are_left_alone() -> None:
    args = (*(torch.zeros(1),) * 7, False, [2, 1], 2, 4, 1, True, False, False, False)
    assert run(aten.mkldnn_rnn_layer.default, *args) is NotImplemented
