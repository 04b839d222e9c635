"""The pictures of docs/concepts.md, one a function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

import fxprune
from examples.concepts import models
from examples.concepts.cells import Cell, Row, svg_of
from examples.concepts.labelling import Scene
from fxprune.drawing.colours import colour

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

_STAY = "must stay"


def channel() -> str:
    """What goes with two channels of a perceptron."""
    scene = Scene(models.perceptron(), (1, 4), {"0": [1, 4]})
    rows = [
        *scene.matrix("0.weight", 0, "6 outputs x 4 inputs"),
        *scene.parameter("0.bias", 0),
        *scene.matrix("2.weight", 1, "3 outputs x 6 inputs"),
        *scene.parameter("2.bias", 0),
    ]
    return scene.svg(rows, "Two channels of a perceptron", f"{_STAY}: outputs of the model")


def addition() -> str:
    """A residual addition makes one group of the axes that meet."""
    scene = Scene(models.Residual(), (1, 4), {"stem": [2]})
    rows = [
        *scene.parameter("stem.weight", 0),
        *scene.parameter("widen.weight", 1),
        *scene.parameter("widen.weight", 0),
        *scene.parameter("narrow.weight", 1),
        *scene.parameter("narrow.weight", 0),
        *scene.parameter("head.weight", 1),
    ]
    return scene.svg(rows, "A residual block")


def concatenation() -> str:
    """A concatenation puts labels side by side, a shuffle moves them."""
    scene = Scene(models.Shuffle(), (1, 4), {"left": [1], "right": [3]})
    rows = [
        *scene.parameter("left.weight", 0),
        *scene.parameter("right.weight", 0),
        *scene.value("cat", 1, "torch.cat([left, right])"),
        *scene.value("getitem", 1, "both[:, [0, 4, 1, 5, ...]]"),
        *scene.parameter("head.weight", 1),
    ]
    return scene.svg(rows, "Concatenation and shuffle")


def flatten() -> str:
    """A flatten repeats the label of each channel for every place of its image."""
    scene = Scene(models.flattened(), (1, 1, 4, 4), {"0": [1]})
    rows = [*scene.parameter("0.weight", 0), *scene.parameter("3.weight", 1)]
    return scene.svg(rows, "A flatten of three channels of 2 x 2 places")


def heads() -> str:
    """An axis that a reshape splits into heads and dims carries two labels at each position."""
    scene = Scene(models.Attention(), (1, 7, 5), {"query[heads]": [1], "value[head_dims]": [2]})
    rows = [
        *scene.parameter("query.weight", 0),
        *scene.parameter("key.weight", 0),
        *scene.parameter("value.weight", 0),
        *scene.parameter("out.weight", 1),
    ]
    return scene.svg(rows, "Two heads of four dims")


def proof() -> str:
    """The masked original and the shrunk model, value by value."""
    model, x = models.sigmoid(), torch.tensor([[0.0, 0.0]])
    plan = fxprune.plan(model, x, channels={"0": [1, 3]})
    small = fxprune.shrink(model, plan)
    hidden, active = _steps(model, x)
    masked = active * torch.tensor([1.0, 0.0, 1.0, 0.0])
    small_hidden, small_active = _steps(small, x)
    kept, fill, last = (True, False, True, False), colour(0), colour(2)
    rows = [
        Row("original: layer 0", _numbers(hidden, fill, kept)),
        Row("its sigmoid", _numbers(active, fill, kept)),
        Row("what layer 2 reads", _numbers(masked, fill, kept), "zeroed here, at the reader"),
        Row("what it returns", _numbers(model.get_submodule("2")(masked), last)),
        Row("shrunk: layer 0", _numbers(small_hidden, fill), "equal to the kept positions", 26),
        Row("its sigmoid", _numbers(small_active, fill), "equal to the kept positions"),
        Row("what it returns", _numbers(small(x), last), "equal"),
    ]
    legend = {"kept channels": fill, "outputs": last}
    return svg_of(rows, legend, "The proof, value by value")


def _steps(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    hidden = model.get_submodule("0")(x)
    return hidden, model.get_submodule("1")(hidden)


def _numbers(values: torch.Tensor, fill: str, kept: Sequence[bool] = ()) -> tuple[Cell, ...]:
    numbers = values.flatten().tolist()
    marks = kept or (True,) * len(numbers)
    return tuple(
        Cell(f"{value:g}", fill if stays else "#FFFFFF", not stays)
        for value, stays in zip(numbers, marks, strict=True)
    )


PICTURES: dict[str, Callable[[], str]] = {
    each.__name__: each for each in (channel, addition, concatenation, flatten, heads, proof)
}
