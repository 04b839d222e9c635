"""Recurrent layers and cells."""

from __future__ import annotations

from fuzz.drafting import Draft, step
from fuzz.program import Value


@step("sequence")
def recurrent(d: Draft, x: Value) -> Value | None:
    """LSTM, GRU or RNN, of several layers, directions, and with a projection."""
    if x.extent[0] > 8:
        return None
    hidden = d.choose(4, 3, 5)
    kind = d.choose("GRU", "LSTM", "RNN")
    options, out = "batch_first=True", hidden
    if d.yes():
        options += ", num_layers=2"
    if d.yes():
        options, out = f"{options}, bidirectional=True", 2 * hidden
    if kind == "LSTM" and d.yes():
        options, out = f"{options}, proj_size=2", 2 * out // hidden
    layer = d.module(f"nn.{kind}({x.channels}, {hidden}, {options})")
    if kind == "GRU" and d.yes():
        return Value(d.name(f"{layer}({x.name})[1][-1]"), "vector", hidden)
    return d.value(f"{layer}({x.name})[0]", x, channels=out)


@step("vector")
def cell(d: Draft, x: Value) -> Value:
    """Two steps of a cell."""
    hidden = d.choose(4, 3, 6)
    kind = d.choose("GRUCell", "LSTMCell", "RNNCell")
    layer = d.module(f"nn.{kind}({x.channels}, {hidden})")
    if kind == "LSTMCell":
        h, c = d.names(2, f"{layer}({x.name})")
        h, c = d.names(2, f"{layer}({x.name}, ({h}, {c}))")
        return d.value(d.choose(h, f"torch.cat([{h}, {c}], 1)[:, :{hidden}]"), x, channels=hidden)
    state = d.name(f"{layer}({x.name})")
    return d.value(f"{layer}({x.name}, {state})", x, channels=hidden)


@step("sequence")
def gated_recurrence(d: Draft, x: Value) -> Value | None:
    """A recurrence by hand, token by token."""
    if x.extent[0] > 6:
        return None
    layer = d.module(f"nn.Linear({x.channels}, {x.channels})")
    state = d.name(f"{x.name}[:, 0]")
    names = [state]
    for i in range(1, x.extent[0]):
        state = d.name(f"torch.tanh({layer}({state})) + 0.5 * {x.name}[:, {i}]")
        names.append(state)
    return d.value(f"torch.stack([{', '.join(names)}], 1)", x)
