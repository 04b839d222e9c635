"""Proof without a graph: the original's own forward, masked, beside the emitted module's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from fxprune.comparison import Claim, Comparison
from fxprune.differences import alike
from fxprune.errors import VerificationError
from fxprune.inputs import named_values
from fxprune.module_runs import (
    MaskedModel,
    ModuleCall,
    Part,
    Run,
    call_model,
    run_model,
    without_axes,
)
from fxprune.module_trees import eval_clone
from fxprune.reference import QuietMode
from fxprune.rules import axes_of
from fxprune.stepping import RESULT
from fxprune.values import tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from fxprune.precision import Precision
    from fxprune.rounding import Key

_OUTPUT = "output"

_OWN_NUMBERS = (
    "forward may compute with a number that it reads off a width (the scale of attention, a size to"
    ' split at): pass emit="graph", which keeps the original\'s numbers, leave these channels alone'
    " (ignore=, heads=False), or set the attribute that it comes from with @fxprune.fixer"
)
_OTHER_PATH = {
    "why": "forward decides by values, and was analyzed on other inputs",
    "hint": "analyze on inputs that take this path",
}


class ModuleComparison(Comparison):
    """Two modules, called for real, with what each of their modules returns."""

    def __init__(
        self,
        claim: Claim,
        small: nn.Module,
        precision: Precision,
        known_parts: bool,
        *,
        poisoned: bool = False,
    ) -> None:
        super().__init__(claim, precision, "every module" if known_parts else "outputs")
        self.small = small
        self._is_poisoned = poisoned

    def run(self, values: tuple[Any, ...]) -> None:
        """Call both modules on one set of inputs and compare."""
        expected = self._masked(values)
        self._refuse_other_couplings()
        small = eval_clone(self.small, self.precision.cast)
        inputs = named_values(self.deps.graph_module, values)
        mode = QuietMode(self.precision.widening())
        got = run_model(RESULT, small, inputs, mode, without_axes, values=self._every_module)
        if self._every_module:
            self._refuse_other_calls(expected, got)
        if not alike(expected.output, got.output):
            raise VerificationError(
                "the output has another structure or other values beside its tensors"
            )
        for tensor in tensors(expected.output):
            if any(self.removed(axis).any() for axis in axes_of(tensor, self.labels)):
                raise VerificationError(
                    "on these inputs the original returns channels that were removed", **_OTHER_PATH
                )
        for (key, ours), (_, theirs) in zip(self._parts(expected), self._parts(got), strict=True):
            if ours.value is None or theirs.value is None:
                self.result = replace(self.result, left_out=self.result.left_out + 1)
            else:
                kept = self.kept(ours.value, ours.axes)
                self.compare_tensor(key, self.place(key), kept, theirs.value)

    def place(self, key: Key) -> str:
        """The module that returns a value; empty for the output of the model."""
        return "" if key[0] == _OUTPUT else key[0]

    @property
    def remedy(self) -> str:
        """What to do about a difference."""
        return _OWN_NUMBERS

    def again(self, precision: Precision) -> ModuleComparison:
        """The same comparison from the start, in another precision."""
        return ModuleComparison(self.claim, self.small, precision, self._every_module)

    def poisoned(self) -> ModuleComparison:
        """The same comparison from the start, with NaN at removed positions of the original."""
        own, every = self.precision, self._every_module
        return ModuleComparison(self.claim, self.small, own, every, poisoned=True)

    def expected(self, values: tuple[Any, ...]) -> Iterator[tuple[Key, torch.Tensor]]:
        """The kept positions of what the modules of the original return."""
        for key, part in self._parts(self._masked(values)):
            if part.value is not None:
                yield key, self.kept(part.value, part.axes)

    @property
    def _every_module(self) -> bool:
        return self.result.compared == "every module"

    def _masked(self, values: tuple[Any, ...]) -> Run:
        """A run of the original without the removed positions."""
        widening, meaning = self.precision.widening(), self.claim.meaning
        poisoned, layout, rows = self._is_poisoned, self.layout, self.claim.constant_rows
        masked = MaskedModel(self.deps, layout, self.labels, widening, meaning, poisoned, rows)
        original = eval_clone(self.deps.model, self.precision.cast)
        inputs = named_values(self.deps.graph_module, values)
        return masked(original, inputs, values=self._every_module)

    def _parts(self, run: Run) -> list[tuple[Key, Part]]:
        """What modules returned, if they are compared, and the output of the model."""
        calls = run.calls if self._every_module else []
        parts = [(_told(call), part) for call in calls for part in call.outputs]
        for tensor in tensors(run.output):
            axes = tuple(axes_of(tensor, self.labels))
            parts.append((_OUTPUT, Part(tuple(tensor.shape), axes, tensor)))
        return [((name, number), part) for number, (name, part) in enumerate(parts)]

    def check_own_types(self, values: tuple[Any, ...], own: Precision) -> None:
        """Call the emitted module as a user does: in its own types, by kernels of torch's choice.

        Forward may go by types, and fused kernels may read attributes that the others do not. What
        comes out is compared with a run by simple kernels, unless rounding may decide what forward
        does.
        """
        inputs = named_values(self.deps.graph_module, values)
        small = eval_clone(self.small, torch.clone)
        run = run_model(RESULT, small, inputs, QuietMode(), without_axes)
        called = call_model(RESULT, eval_clone(self.small, torch.clone), inputs)
        if self.deps.decisions:
            return
        again, simple, plain = self.again(own), tensors(run.output), tensors(called)
        if len(simple) != len(plain):
            raise VerificationError(
                f"a plain call returns {len(plain)} tensors instead of {len(simple)}"
            )
        for number, (expected, got) in enumerate(zip(simple, plain, strict=True)):
            again.compare_tensor((_OUTPUT, number), "", expected, got)

    def _refuse_other_couplings(self) -> None:
        """These inputs may take another path than the analysed one, where more is coupled."""
        if self.couples_otherwise():
            raise VerificationError(
                "on these inputs the original takes a path on which removed channels are coupled"
                " to others",
                **_OTHER_PATH,
            )

    def _refuse_other_calls(self, expected: Run, got: Run) -> None:
        paths, others = [[call.path for call in run.calls] for run in (expected, got)]
        if paths != others:
            first = next((a for a, b in zip(paths, others, strict=False) if a != b), "the last")
            raise VerificationError(f"other modules are called, from {first} on")
        for ours, theirs in zip(expected.calls, got.calls, strict=True):
            if len(ours.outputs) != len(theirs.outputs):
                raise VerificationError(f"{_told(ours)} returns another number of tensors")


def _told(call: ModuleCall) -> str:
    return f"module {call.path}" if call.path else "the model"
