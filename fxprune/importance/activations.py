"""Criteria by what channels carry when the model runs on data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import torch

from fxprune.errors import InputError, shown
from fxprune.importance.criterion import Criterion, Evidence, parameters_of
from fxprune.importance.processes import jointly
from fxprune.importance.running import finite, first, nothing, taken, tracked
from fxprune.inputs import bind
from fxprune.labels import Axis
from fxprune.module_trees import as_parameter, eval_clone, named_state
from fxprune.reference import PARTNERS, StateMode, is_state, put_state, relabel
from fxprune.stepping import Stepper
from fxprune.values import copied

if TYPE_CHECKING:
    from torch import Tensor

    from fxprune.analysis import DependencyGraph
    from fxprune.labels import LabelAlgebra
    from fxprune.rules import Call, Rule

Statistic = Literal["mean", "apoz", "variance"]
Moments: TypeAlias = "list[tuple[Axis, Tensor]]"
"""The axis of an operand, and the moments of each position along it."""


@dataclass(frozen=True)
class Activation(Criterion):
    """How much of a channel arrives where it is read.

    A channel is read where an operator sums over it: a convolution or linear layer, a product of
    queries and keys. There, after batch norm and activation, it is measured, once for every such
    operator, and `reduction` tells what counts of a channel that is read several times. The graph
    runs in eval mode on copies of the model's buffers. With `torch.distributed`, every process
    passes its own batches, and all get the scores of all.

    Attributes:
        batches: a data loader, or any other iterable.
        statistic: "mean": of |a| (Molchanov et al., Pruning Convolutional Neural Networks for
            Resource Efficient Inference, 2017, section 2.2). "apoz": one minus the average
            percentage of zeros (Hu et al., Network Trimming, 2016, equation 1). "variance": over
            samples and places; what does not vary is a constant, which a bias can take up.
        inputs: from a batch to what the model takes (a tensor, a tuple or a dict); by default the
            first item of a tuple or list, or the batch itself.
        progress: whether a bar is shown on the standard error stream (of the first process).
    """

    batches: Iterable[Any]
    statistic: Statistic = "mean"
    inputs: Callable[[Any], Any] = first
    progress: bool = True

    needs = "an operator that sums over its channels"
    comparable = False
    joint = True

    def __post_init__(self) -> None:
        if self.statistic not in get_args(Statistic):
            raise InputError(
                f"unknown statistic {shown(self.statistic)}",
                hint=f"take one of {', '.join(get_args(Statistic))}",
            )

    def __str__(self) -> str:
        return f"Activation({self.statistic})"

    def evidence(self, deps: DependencyGraph) -> Iterator[Evidence]:
        """The statistic of each operand that is summed over.

        Raises:
            InputError: there are no batches, the model does not take them, or values are not
                finite; batches take different ways through the model; or it failed in another
                process.
        """
        _, every = jointly(deps, lambda: self._measured(deps), lambda found: found)
        pieces = [found for found in every if found is not None]
        if not pieces:
            raise nothing("activations")
        for axis, moments in reduce(_added, pieces):
            count, size, square, zeros, total = finite("what the model computes", moments).numpy()
            if not count.any():
                continue  # no batch came by
            if self.statistic == "mean":
                values = size / count
            elif self.statistic == "apoz":
                values = 1 - zeros / count
            else:
                values = np.maximum(square / count - (total / count) ** 2, 0.0)
            yield Evidence(axis, values)

    def _measured(self, deps: DependencyGraph) -> Moments | None:
        """The moments of all batches: of each operand in turn, for each of its positions."""
        parameters_of(deps)  # refuses those without data
        module = eval_clone(deps.graph_module, lambda t: as_parameter(t.detach().clone(), t))
        put_state(named_state(module), deps.trace)
        found: Moments | None = None
        for batch in tracked(self.batches, "activations", shown=self.progress):
            values = copied(list(bind(deps.graph_module, taken(batch, self.inputs))))
            mode = _Measuring(deps.trace.labels.copy())
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                for node, value in Stepper("the model", module, values, mode):
                    relabel(value, deps.trace.values.get(node.name), mode.labels)
            more = mode.found(len(deps.trace.labels))
            found = more if found is None else _added(found, more)
        return found


def _added(some: Moments, others: Moments) -> Moments:
    """What was measured of two batches.

    Raises:
        InputError: it was not at the same operands, or at other channels of them.
    """
    if [_channels(axis) for axis, _ in some] != [_channels(axis) for axis, _ in others]:
        raise InputError(
            "batches take different ways through the model",
            hint="pass batches of inputs like those that the model was analyzed with",
        )
    return [(axis, a + b) for (axis, a), (_, b) in zip(some, others, strict=True)]


def _channels(axis: Axis) -> tuple[int, bytes]:
    return axis.size, b"".join(vector.tobytes() for vector in axis.vectors)


class _Measuring(StateMode):
    """Runs operators, and measures the operands that they sum over: data, not weights."""

    def __init__(self, labels: LabelAlgebra) -> None:
        super().__init__(labels, lambda axis: np.zeros(axis.size, dtype=np.bool_))
        self._found: Moments = []

    def run(self, call: Call, rule: Rule) -> Any:
        for name, dim in rule.sums(call):
            is_weight = is_state(call.arg(name))
            if is_weight and call.op not in PARTNERS:
                continue
            read, along = PARTNERS[call.op] if is_weight else (name, dim)
            tensor = call.arg(read)
            axes = call.axes(read)
            if axes and self.labels.leaves(axes[along]) and not is_state(tensor):
                self._found.append((axes[along], _moments(tensor, along)))
        return super().run(call, rule)

    def found(self, count: int) -> Moments:
        """What was measured, with the channels that there were before the run, `count` of them."""
        return [(self._before(axis, count), moments) for axis, moments in self._found]

    def _before(self, axis: Axis, count: int) -> Axis:
        vectors = (np.where(v < count, v, 0) for v in self.labels.leaves(axis))
        return Axis(axis.size, tuple(vectors))


def _moments(tensor: Tensor, dim: int) -> Tensor:
    """For each position along a dim: how many numbers, and the sums of |a|, a^2, zeros and a."""
    rows = tensor.movedim(dim, 0)
    rows = (rows.abs() if rows.is_complex() else rows).double().reshape(len(rows), -1)
    count = rows.new_full((len(rows),), rows.shape[1])
    zeros = (rows == 0).double().sum(1)
    return torch.stack([count, rows.abs().sum(1), rows.square().sum(1), zeros, rows.sum(1)]).cpu()
