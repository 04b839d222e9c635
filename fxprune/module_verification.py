"""Proof without a graph: the original's own forward, masked, beside the emitted module's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fxprune.comparison import Comparison, alike
from fxprune.errors import VerificationError
from fxprune.inputs import named_values
from fxprune.module_runs import MaskedModel, Run, run_model, without_axes
from fxprune.module_trees import eval_clone
from fxprune.reference import QuietMode
from fxprune.rules import axes_of
from fxprune.stepping import RESULT
from fxprune.values import tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from fxprune.analysis import DependencyGraph
    from fxprune.labels import LabelAlgebra
    from fxprune.planning import Layout
    from fxprune.precision import Precision

_OTHER_PATH = {
    "why": "forward decides by values, and was analyzed on other inputs",
    "hint": "analyze on inputs that take this path",
}


class ModuleComparison(Comparison):
    """Two modules, called for real, with what each of their modules returns."""

    def __init__(
        self,
        deps: DependencyGraph,
        layout: Layout,
        small: nn.Module,
        precision: Precision,
        known_parts: bool,
    ) -> None:
        super().__init__(deps, layout, precision, "every module" if known_parts else "outputs")
        self.small = small

    def run(self, values: tuple[Any, ...]) -> None:
        """Call both modules on one set of inputs and compare."""
        inputs = named_values(self.deps.graph_module, values)
        every_module = self.result.compared == "every module"
        widening = self.precision.widening
        masked = MaskedModel(self.deps, self.layout, self.labels, widening())
        original = eval_clone(self.deps.model, self.precision.cast)
        expected = masked(original, inputs, values=every_module)
        self._refuse_other_couplings()
        small = eval_clone(self.small, self.precision.cast)
        got = run_model(
            RESULT, small, inputs, QuietMode(widening()), without_axes, values=every_module
        )
        if every_module:
            self._compare_calls(expected, got)
        if not alike(expected.output, got.output):
            raise VerificationError(
                "the output has another structure or other values beside its tensors"
            )
        for reference, tensor in zip(tensors(expected.output), tensors(got.output), strict=True):
            if any(self.removed(axis).any() for axis in axes_of(reference, self.labels)):
                raise VerificationError(
                    "on these inputs the original returns channels that were removed", **_OTHER_PATH
                )
            self.compare_tensor("output", "", reference, tensor)

    def check_own_types(self, values: tuple[Any, ...]) -> None:
        """Run the emitted module as it is: forward may go by types, and was compared in others."""
        small = eval_clone(self.small, torch.clone)
        inputs = named_values(self.deps.graph_module, values)
        run_model(RESULT, small, inputs, QuietMode(), without_axes, values=False)

    def _refuse_other_couplings(self) -> None:
        """These inputs may take another path than the analysed one, where more is coupled."""
        known = self.deps.trace.labels
        ids = np.arange(len(known), dtype=np.int64)

        def removed(labels: LabelAlgebra) -> NDArray[np.bool_]:
            gone = np.zeros(len(ids), dtype=np.bool_)
            for vector in labels.expand([ids]):
                gone |= self.layout.is_removed(vector)
            return gone

        if (removed(known) != removed(self.labels)).any():
            raise VerificationError(
                "on these inputs the original takes a path on which removed channels are coupled"
                " to others",
                **_OTHER_PATH,
            )

    def _compare_calls(self, expected: Run, got: Run) -> None:
        paths, others = [[call.path for call in run.calls] for run in (expected, got)]
        if paths != others:
            first = next((a for a, b in zip(paths, others, strict=False) if a != b), "the last")
            raise VerificationError(f"other modules are called, from {first} on")
        for ours, theirs in zip(expected.calls, got.calls, strict=True):
            where = f"module {ours.path}" if ours.path else "the model"
            if len(ours.outputs) != len(theirs.outputs):
                raise VerificationError(f"{where} returns another number of tensors")
            for left, right in zip(ours.outputs, theirs.outputs, strict=True):
                if left.value is None or right.value is None:
                    continue
                kept = self.kept(left.value, left.axes)
                self.compare_tensor(where, where, kept, right.value)
