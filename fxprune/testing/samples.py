"""Samples: calls of an operator with what its rule must say about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

from fxprune.rules import put_axes

if TYPE_CHECKING:
    from torch._ops import OpOverload

    from fxprune.labels import LabelAlgebra
    from fxprune.rules import Call

Positions: TypeAlias = NDArray[np.int64]
Kind: TypeAlias = Literal["normal", "positive", "unit", "boolean"]


@dataclass(frozen=True)
class Operand:
    """A labelled tensor: random numbers of a kind, or given ones, whose values no rule sees.

    Attributes:
        shape: its shape; every axis of more than one position starts with free channels.
        kind: "normal" (all negative in a second round), "positive" around 1, "unit" in [0, 1),
            or "boolean".
        given: the numbers, instead of random ones.
    """

    shape: tuple[int, ...]
    kind: Kind = "normal"
    given: torch.Tensor | None = None

    def draw(self, generator: torch.Generator, *, negative: bool) -> torch.Tensor:
        """The numbers, in float64."""
        if self.given is not None:
            return self.given.clone()
        uniform = torch.rand(self.shape, generator=generator, dtype=torch.float64)
        normal = torch.randn(self.shape, generator=generator, dtype=torch.float64)
        return {
            "normal": -normal.abs() if negative else normal,
            "positive": uniform + 0.5,
            "unit": uniform,
            "boolean": uniform < 0.5,
        }[self.kind]

    def shadow(self, labels: LabelAlgebra) -> torch.Tensor:
        """A tensor without data that carries fresh labels."""
        like = self.draw(torch.Generator(), negative=False)
        shadow = torch.empty_like(like, device="meta")
        put_axes(shadow, [labels.fresh_axis(size) for size in self.shape])
        return shadow


class Kept:
    """The kept positions of every operand and output, for the adapter of a sample.

    Attributes:
        call: the original call.
        inputs: argument name -> for each dim the kept positions (lists of tensors: a list).
        outputs: for each output and dim the kept positions.
    """

    def __init__(
        self, call: Call, inputs: Mapping[str, Any], outputs: Sequence[Sequence[Positions]]
    ) -> None:
        self.call = call
        self.inputs = inputs
        self.outputs = outputs

    def arg(self, name: str) -> Any:
        """An argument of the original call."""
        return self.call.arg(name)

    def shape(self, output: int = 0) -> list[int]:
        """The shape of a sliced output."""
        return [len(positions) for positions in self.outputs[output]]

    def size(self, name: str, dim: int) -> int:
        """How many positions an operand keeps."""
        return len(self.inputs[name][dim])

    def renumbered(self, name: str, dim: int, positions: Any) -> list[int]:
        """New numbers of old positions of an operand, all of which are kept."""
        kept = self.inputs[name][dim].tolist()
        return [kept.index(int(position)) for position in positions]


Adapter: TypeAlias = Callable[[Kept], Mapping[str, Any]]


def unchanged(kept: Kept) -> Mapping[str, Any]:
    """The adapter of operators that name no sizes and positions."""
    return {}


@dataclass(frozen=True)
class Sample:
    """A call of an operator, and what its rule must say about it.

    Attributes:
        op: the operator.
        args: its arguments; an Operand is labelled, a plain tensor has known values and is pinned.
        free: how many ids are free on all operands and outputs together; None leaves that open.
        kwargs: its keyword arguments.
        adapt: the arguments that name sizes, positions or groups, for the sliced operands.
        instead: the operator to run on the sliced operands, where `op` cannot express the outcome.
        random: the outcome is not determined, so that only shapes are compared.
        pinned: why positions stay that could go; without it such a pin is an error.
    """

    op: OpOverload
    args: tuple[Any, ...]
    free: int | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    adapt: Adapter = unchanged
    instead: Callable[..., Any] | None = None
    random: bool = False
    pinned: str = ""

    def __str__(self) -> str:
        def short(value: Any) -> Any:
            if isinstance(value, Operand):
                return "x".join(map(str, value.shape)) or "scalar"
            return "index" if isinstance(value, torch.Tensor) else value

        given = pytree.tree_map(short, (self.args, dict(self.kwargs)), is_leaf=is_operand)
        text = ",".join([*map(str, given[0]), *(f"{k}={v}" for k, v in given[1].items())])
        return f"{str(self.op).removeprefix('aten.')}({text})".replace(" ", "")


def is_operand(value: Any) -> bool:
    """Whether a value stands for a labelled tensor."""
    return isinstance(value, Operand)
