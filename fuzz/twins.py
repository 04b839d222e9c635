"""Modules whose forward runs fused kernels, written out in single steps for the oracle.

The formulas are those of the documentation of `torch.nn`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fuzz.masked import Masked


class Twin(nn.Module):
    """Stands in for a module, with its parameters."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.original = original


def _zeros(batch: int, gone: Tensor, like: Masked) -> Masked:
    """A state before the first step: zeros, gone where the weights say so."""
    mask = gone.expand(batch, -1).clone()
    return Masked(torch.zeros_like(mask, dtype=like.dtype), mask)


def _hidden(batch: int, w_hh: Masked) -> Masked:
    return _zeros(batch, w_hh.gone.all(0), w_hh)


def _cell(batch: int, w_hh: Masked) -> Masked:
    return _zeros(batch, w_hh.gone.all(1).chunk(4)[0], w_hh)


def lstm_step(x: Any, state: Any, weights: Any, projection: Any = None) -> tuple[Any, Any]:
    """One step of an LSTM: gates i, f, g, o."""
    hidden, cell = state
    w_ih, w_hh, *biases = weights
    gates = functional.linear(x, w_ih) + functional.linear(hidden, w_hh)
    for bias in biases:
        gates = gates + bias
    i, f, g, o = gates.chunk(4, -1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    hidden = o.sigmoid() * cell.tanh()
    if projection is not None:
        hidden = functional.linear(hidden, projection)
    return hidden, cell


def gru_step(x: Any, hidden: Any, weights: Any) -> Any:
    """One step of a GRU: gates r, z, n."""
    w_ih, w_hh, *biases = weights
    b_ih, b_hh = biases or (None, None)
    r_x, z_x, n_x = functional.linear(x, w_ih, b_ih).chunk(3, -1)
    r_h, z_h, n_h = functional.linear(hidden, w_hh, b_hh).chunk(3, -1)
    update = (z_x + z_h).sigmoid()
    new = (n_x + (r_x + r_h).sigmoid() * n_h).tanh()
    return new - update * new + update * hidden


def rnn_step(x: Any, hidden: Any, weights: Any, activation: str) -> Any:
    """One step of an RNN."""
    w_ih, w_hh, *biases = weights
    b_ih, b_hh = biases or (None, None)
    out = functional.linear(x, w_ih, b_ih) + functional.linear(hidden, w_hh, b_hh)
    return out.relu() if activation == "relu" else out.tanh()


class CellTwin(Twin):
    """LSTMCell, GRUCell, RNNCell."""

    def forward(self, x: Any, state: Any = None) -> Any:
        cell = self.original
        names = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if cell.bias else ()))
        weights = [getattr(cell, name) for name in names]
        if isinstance(cell, nn.LSTMCell):
            state = state or (_hidden(len(x), weights[1]), _cell(len(x), weights[1]))
            return lstm_step(x, state, weights)
        state = _hidden(len(x), weights[1]) if state is None else state
        if isinstance(cell, nn.GRUCell):
            return gru_step(x, state, weights)
        return rnn_step(x, state, weights, cell.nonlinearity)


class RecurrentTwin(Twin):
    """LSTM, GRU and RNN of several layers and directions, which start from zeros."""

    def forward(self, x: Any) -> Any:
        net = self.original
        x = x.transpose(0, 1) if net.batch_first else x
        last: list[Any] = []
        for layer in range(net.num_layers):
            ends = ["", "_reverse"][: 1 + net.bidirectional]
            runs = [self._run(x, f"_l{layer}{end}") for end in ends]
            x = torch.cat([outputs for outputs, _ in runs], -1)
            last += [state for _, state in runs]
        x = x.transpose(0, 1) if net.batch_first else x
        if isinstance(net, nn.LSTM):
            hidden, cell = zip(*last, strict=True)
            return x, (torch.stack(hidden), torch.stack(cell))
        return x, torch.stack(last)

    def _run(self, x: Any, suffix: str) -> tuple[Any, Any]:
        net = self.original
        names = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if net.bias else ()))
        weights = [getattr(net, name + suffix) for name in names]
        projection = getattr(net, "weight_hr" + suffix, None)
        steps = x.unbind(0)
        backwards = suffix.endswith("_reverse")
        state: Any = _hidden(x.shape[1], weights[1])
        if isinstance(net, nn.LSTM):
            state = (state, _cell(x.shape[1], weights[1]))
        outputs = []
        for step in reversed(steps) if backwards else steps:
            if isinstance(net, nn.LSTM):
                state = lstm_step(step, state, weights, projection)
            elif isinstance(net, nn.GRU):
                state = gru_step(step, state, weights)
            else:
                state = rnn_step(step, state, weights, net.nonlinearity)
            outputs.append(state[0] if isinstance(net, nn.LSTM) else state)
        return torch.stack(outputs[::-1] if backwards else outputs), state


class AttentionTwin(Twin):
    """MultiheadAttention with `batch_first`."""

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        **_: Any,
    ) -> tuple[Any, Any]:
        net = self.original
        heads, width = net.num_heads, net.head_dim
        weights = self._weights()
        biases = (None,) * 3 if net.in_proj_bias is None else net.in_proj_bias.chunk(3)
        q, k, v = (
            functional.linear(x, w, b).view(x.shape[0], x.shape[1], heads, width).transpose(1, 2)
            for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )
        scores = (q * width**-0.5) @ k.transpose(-2, -1)
        if attn_mask is not None:
            scores = scores.masked_fill(attn_mask, -torch.inf)
        scores = torch.softmax(scores, -1)
        out = functional.linear(
            (scores @ v).transpose(1, 2).flatten(2), net.out_proj.weight, net.out_proj.bias
        )
        if not need_weights:
            return out, None
        return out, scores.mean(1) if average_attn_weights else scores

    def _weights(self) -> Any:
        net = self.original
        if net.in_proj_weight is not None:
            return net.in_proj_weight.chunk(3)
        return net.q_proj_weight, net.k_proj_weight, net.v_proj_weight


class EncoderLayerTwin(Twin):
    """TransformerEncoderLayer with `batch_first`."""

    def forward(self, x: Any) -> Any:
        net = self.original
        attention = (
            net.self_attn if isinstance(net.self_attn, Twin) else AttentionTwin(net.self_attn)
        )

        def attend(y: Any) -> Any:
            return attention(y, y, y)[0]

        def feed(y: Any) -> Any:
            return net.linear2(net.activation(net.linear1(y)))

        if net.norm_first:
            x = x + attend(net.norm1(x))
            return x + feed(net.norm2(x))
        x = net.norm1(x + attend(x))
        return net.norm2(x + feed(x))


TWINS: dict[type[nn.Module], type[Twin]] = {
    nn.LSTM: RecurrentTwin,
    nn.GRU: RecurrentTwin,
    nn.RNN: RecurrentTwin,
    nn.LSTMCell: CellTwin,
    nn.GRUCell: CellTwin,
    nn.RNNCell: CellTwin,
    nn.MultiheadAttention: AttentionTwin,
    nn.TransformerEncoderLayer: EncoderLayerTwin,
}
