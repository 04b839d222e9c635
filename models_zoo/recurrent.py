"""Hazard: recurrent layers, whose parameters stack gates and come per layer and direction.

Coupled: a hidden channel takes one row of each gate, in all layers and both directions, because
their first states lie in one tensor; a projection is a width of its own; the output holds both
directions one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from models_zoo.entry import ZooModel, inputs


class Recurrent(nn.Module):
    """A recurrent layer between two linear ones."""

    def __init__(self, layer: Callable[..., nn.RNNBase], width: int, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 10)
        self.layer = layer(10, 12, **options)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, time, 8) to (N, time, 5); without `batch_first` time and batch are swapped."""
        return self.head(self.layer(self.embed(x))[0])


class Cells(nn.Module):
    """Three steps of a `nn.LSTMCell`, then one of a `nn.GRUCell`."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 10)
        self.lstm = nn.LSTMCell(10, 12)
        self.gru = nn.GRUCell(10, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 8) to (N, 5)."""
        x = self.embed(x)
        state = self.lstm(x)
        for _ in range(2):
            state = self.lstm(x, state)
        return self.head(self.gru(x, state[0]))


_STEPS = inputs((2, 6, 8))
MODELS = (
    ZooModel(
        "recurrent_lstm",
        lambda: Recurrent(nn.LSTM, 24, num_layers=2, bidirectional=True, batch_first=True),
        _STEPS,
        "two layers, both directions",
    ),
    ZooModel(
        "recurrent_lstm_projected",
        lambda: Recurrent(nn.LSTM, 10, proj_size=5, bidirectional=True, batch_first=True),
        _STEPS,
        "an output narrower than the state",
    ),
    ZooModel("recurrent_gru", lambda: Recurrent(nn.GRU, 12, num_layers=2), _STEPS, "three gates"),
    ZooModel("recurrent_rnn", lambda: Recurrent(nn.RNN, 12), _STEPS, "no gate"),
    ZooModel("recurrent_cells", Cells, inputs((2, 8)), "cells that are called step by step"),
)
