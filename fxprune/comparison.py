"""Comparing the values of two runs: how precisely, and what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch

from fxprune.errors import Location, VerificationError
from fxprune.values import mapped, plain

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph
    from fxprune.labels import Axis, LabelAlgebra
    from fxprune.planning import Layout
    from fxprune.precision import Precision

Compared: TypeAlias = Literal["every node", "every module", "outputs"]
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.05}
_DEFECT = (
    "if this model was shrunk from exactly this original (the same weights), it is a defect of"
    " fxprune or of a custom rule: please report it"
)


@dataclass(frozen=True)
class Verification:
    """How a shrunk model was checked, and how far off it was at worst.

    Attributes:
        nodes: how many values were compared (all input sets together).
        inputs: the input sets that were run.
        compared: "every node" of the graph, the outputs of "every module" and of the model, or the
            model's "outputs" only.
        absolute: the largest absolute difference.
        relative: the largest difference relative to the largest value of the tensor.
        where: the node with the largest relative difference.
        tolerance: the relative difference that is still rounding for `dtype`.
        dtype: the precision that both models were run in.
        seconds: wall-clock time.
    """

    nodes: int = 0
    inputs: tuple[str, ...] = ()
    compared: Compared = "every node"
    absolute: float = 0.0
    relative: float = 0.0
    where: str = ""
    tolerance: float = 0.0
    dtype: str = ""
    seconds: float = 0.0

    @property
    def every_node(self) -> bool:
        """Whether every value of the graph was compared."""
        return self.compared == "every node"

    def __str__(self) -> str:
        scope = "outputs" if self.compared == "outputs" else f"values, {self.compared}"
        return (
            f"verified: {self.nodes} {scope}, inputs {', '.join(self.inputs)}; worst relative "
            f"error {self.relative:.1e} (absolute {self.absolute:.1e}) at {self.where or '-'}, "
            f"tolerance {self.tolerance:.0e} in {self.dtype}; {self.seconds:.2f} s"
        )


def alike(expected: Any, got: Any) -> bool:
    """Whether two outputs have the same structure and the same values beside their tensors."""
    expected, got = plain(expected), plain(got)
    if isinstance(expected, Mapping):
        return (
            isinstance(got, Mapping)
            and expected.keys() == got.keys()
            and all(alike(expected[key], got[key]) for key in expected)
        )
    if isinstance(expected, (list, tuple)):
        return (
            isinstance(got, (list, tuple))
            and len(expected) == len(got)
            and all(map(alike, expected, got))
        )
    if isinstance(expected, torch.Tensor):
        return isinstance(got, torch.Tensor)
    return expected is got or bool(np.all(expected == got))  # they may be arrays


def difference(expected: torch.Tensor, got: torch.Tensor) -> tuple[float, float]:
    """The largest absolute difference, and that in units of the largest finite value.

    Infinite and NaN values have to be the same in both, as do integers.
    """
    same = (expected == got) | (expected.isnan() & got.isnan())
    if bool(same.all()):
        return 0.0, 0.0
    finite = torch.isfinite(expected) & torch.isfinite(got)
    if not bool((same | finite).all()) or not (
        expected.is_floating_point() or expected.is_complex()
    ):
        return float("inf"), float("inf")
    absolute = float(torch.where(finite, expected - got, 0).abs().max())
    scale = float(torch.where(finite, expected, 0).abs().max())
    return absolute, absolute / scale if scale > 0 else absolute


def first_difference(expected: torch.Tensor, got: torch.Tensor) -> str:
    """The place and the values of the largest difference, in words."""
    same = (expected == got) | (expected.isnan() & got.isnan())
    exact = torch.complex128 if expected.is_complex() else torch.float64
    distance = (expected.to(exact) - got.to(exact)).abs().nan_to_num(torch.inf)
    index = int(torch.argmax(torch.where(same, -1, distance)))
    place = tuple(int(i) for i in np.unravel_index(index, expected.shape))
    return (
        f"at kept position {place}: expected {expected.flatten()[index].item():.6g}, "
        f"got {got.flatten()[index].item():.6g}"
    )


class Comparison:
    """Two models, run in one precision on the same inputs.

    Attributes:
        layout: what stays.
        labels: a copy of the analysis' labels.
        precision: what both are run in.
        result: what was found so far.
    """

    def __init__(
        self, deps: DependencyGraph, layout: Layout, precision: Precision, compared: Compared
    ) -> None:
        narrowest = precision.narrowest(_TOLERANCE)
        self.deps = deps
        self.layout = layout
        self.labels: LabelAlgebra = deps.trace.labels.copy()
        self.precision = precision
        self.result = Verification(
            compared=compared,
            tolerance=_TOLERANCE.get(narrowest, 1e-3),
            dtype=str(narrowest).removeprefix("torch."),
        )

    def run_on(self, sets: Mapping[str, tuple[Any, ...]]) -> None:
        """Run both models on sets of inputs and compare."""
        for name, values in sets.items():
            self.run(mapped(self.precision.cast, values))
            self.result = replace(self.result, inputs=(*self.result.inputs, name))

    def run(self, values: tuple[Any, ...]) -> None:
        """Run both models on one set of inputs, one value for each placeholder, and compare."""
        raise NotImplementedError

    def removed(self, axis: Any) -> Any:
        """The mask of removed positions of an axis."""
        return self.layout.removed_positions(axis, self.labels)

    def kept(self, tensor: torch.Tensor, axes: Sequence[Axis]) -> torch.Tensor:
        """The kept positions of a tensor of the masked original."""
        for dim, axis in enumerate(axes):
            gone = self.removed(axis)
            if gone.any():
                index = torch.from_numpy(np.flatnonzero(~gone)).to(tensor.device)
                tensor = tensor.index_select(dim, index)
        return tensor

    def compare_tensor(
        self, name: str, where: Location | str, expected: torch.Tensor, got: torch.Tensor
    ) -> None:
        """Compare what a node or module, which `name` tells, yields in both models."""
        if expected.shape != got.shape:
            raise VerificationError(
                f"{name} has shape {tuple(got.shape)} instead of {tuple(expected.shape)}",
                where=where,
                hint=_DEFECT,
            )
        if not expected.numel():
            return
        if expected.is_floating_point() and expected.element_size() == 1:
            expected, got = expected.float(), got.float()
        if not bool(torch.isfinite(expected).any() | (expected == got).all()):
            raise VerificationError(
                f"the original itself computes NaN or infinite values at {name}",
                where=where,
                hint="check the weights and the example inputs",
            )
        absolute, relative = difference(expected, got)
        if expected.is_floating_point():  # rounding in a narrow dtype reaches all that follows
            tolerance = max(self.result.tolerance, _TOLERANCE.get(expected.dtype, 0.0))
            self.result = replace(self.result, tolerance=tolerance)
        self.result = replace(self.result, nodes=self.result.nodes + 1)
        if not relative <= self.result.tolerance:
            raise VerificationError(
                f"{name} differs from the original by {relative:.2e} of its largest "
                f"value, more than {self.result.tolerance:.0e} ({self.result.dtype})",
                where=where,
                why=first_difference(expected, got),
                hint=_DEFECT,
            )
        if relative > self.result.relative or not self.result.where:
            self.result = replace(self.result, relative=relative, where=name.removeprefix("node "))
        self.result = replace(self.result, absolute=max(absolute, self.result.absolute))
