"""Fused recurrent operators as the simpler ones they consist of.

torch decomposes nearly everything itself; of these it only has the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch._decomp import decomposition_table

if TYPE_CHECKING:
    from torch._ops import OpOverload

    from fxprune.rules import Call

aten = torch.ops.aten
_MKLDNN_LSTM = 2
"""`ideep::rnn_kind::LSTM`"""


def decomposed(call: Call) -> Any:
    """Run an operator as the simpler ones it consists of; NotImplemented if it is simple."""
    own = _DECOMPOSITIONS.get(call.op)
    if own is not None:
        return own(*call.args, **call.kwargs)
    # Under inference mode a mode of torch functions would be asked again and again.
    with torch._C.DisableTorchFunction():
        out = call.op.decompose(*call.args, **call.kwargs)
    if out is NotImplemented and call.op in decomposition_table:
        return decomposition_table[call.op](*call.args, **call.kwargs)
    return out


def _plus(gates: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return gates if bias is None else gates + bias


def _lstm_step(
    gates: torch.Tensor, cell: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """State, cell and activated gates, which lie in the order input, forget, cell, output."""
    in_, forget, new, out = gates.chunk(4, -1)
    in_, forget, new, out = in_.sigmoid(), forget.sigmoid(), new.tanh(), out.sigmoid()
    cell = forget * cell + in_ * new
    return out * cell.tanh(), cell, torch.cat([in_, forget, new, out], -1)


def _lstm_cell(
    input_gates: torch.Tensor,
    hidden_gates: torch.Tensor,
    cx: torch.Tensor,
    input_bias: torch.Tensor | None = None,
    hidden_bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _lstm_step(_plus(input_gates, input_bias) + _plus(hidden_gates, hidden_bias), cx)


def _gru_cell(
    input_gates: torch.Tensor,
    hidden_gates: torch.Tensor,
    hx: torch.Tensor,
    input_bias: torch.Tensor | None = None,
    hidden_bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gates lie in the order reset, update, new."""
    reset_x, update_x, new_x = _plus(input_gates, input_bias).chunk(3, -1)
    reset_h, update_h, new_h = _plus(hidden_gates, hidden_bias).chunk(3, -1)
    reset, update = (reset_x + reset_h).sigmoid(), (update_x + update_h).sigmoid()
    new = (new_x + reset * new_h).tanh()
    return (hx - new) * update + new, torch.cat([reset, update, new, hx, new_h], -1)


def _mkldnn_rnn_layer(x: torch.Tensor, *rest: Any) -> Any:
    """One layer of an LSTM in one direction, time first; what the whole is makes no difference."""
    weight_ih, weight_hh, bias_ih, bias_hh, hx, cx, reverse, batch_sizes = rest[:8]
    mode, _, _, has_biases, *_ = rest[8:]
    if mode != _MKLDNN_LSTM or batch_sizes:
        return NotImplemented
    state, cell = hx.reshape(hx.shape[-2:]), cx.reshape(cx.shape[-2:])
    states = []
    steps = torch.nn.functional.linear(x, weight_ih, bias_ih if has_biases else None).unbind(0)
    for step in reversed(steps) if reverse else steps:
        hidden = torch.nn.functional.linear(state, weight_hh, bias_hh if has_biases else None)
        state, cell, _ = _lstm_step(step + hidden, cell)
        states.append(state)
    out = torch.stack(states[::-1] if reverse else states)
    return out, state.reshape(hx.shape), cell.reshape(cx.shape), x.new_empty([0])


_DECOMPOSITIONS: dict[OpOverload, Callable[..., Any]] = {
    aten._thnn_fused_lstm_cell.default: _lstm_cell,
    aten._thnn_fused_gru_cell.default: _gru_cell,
    aten.mkldnn_rnn_layer.default: _mkldnn_rnn_layer,
}
