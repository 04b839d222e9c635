"""Comparing the values of two runs: how precisely, and what was found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch

from fxprune.differences import difference, first_difference
from fxprune.errors import FxPruneError, Location, VerificationError
from fxprune.meaning import Meaning
from fxprune.notebook_reports import verification_html
from fxprune.notebook_tables import Shown
from fxprune.rounding import CAP, CHAOS, Key, Rounding
from fxprune.stepping import OriginalFailsError, RefusedInputsError, ResultFailsError
from fxprune.surroundings import collector_paused
from fxprune.tables import Page
from fxprune.unknowns import constant_rows
from fxprune.values import Scratch, mapped, taken
from fxprune.verification_page import verification_page

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fxprune.analysis import DependencyGraph
    from fxprune.folding import Rows
    from fxprune.input_sets import Inputs
    from fxprune.labels import Axis, LabelAlgebra
    from fxprune.planning import Layout
    from fxprune.precision import Precision

Compared: TypeAlias = Literal["every node", "every module", "outputs"]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.05}
_STORED = 100
"""How often the rounding to float32 counts, of constants that are folded into a bias, or that take
the place of a branch."""
_DEFECT = (
    "if this model was shrunk from exactly this original (the same weights), it is a defect of"
    " fxprune or of a custom rule: please report it"
)
_AMPLIFIED = (
    f"rounding alone does this, but more than {CAP:.0e} is never taken for it: the model is too"
    " ill-conditioned for a proof with these weights; check whether they are trained ones"
)


@dataclass(frozen=True)
class Verification(Shown):
    """How a shrunk model was checked, and how far off it was at worst.

    Three things are shown, each on its own: shapes follow from the labels (`shapes`); kept
    positions agree with the masked original (`nodes`, and what is said of differences); removed
    positions do not reach kept ones (`undisturbed`). See `docs/correctness.md`.

    Attributes:
        nodes: how many values were compared (all input sets together).
        inputs: the input sets that were run.
        skipped: the input sets, and checks, that were left out, with the reason.
        shapes: how many tensors have the shape that the labels predict, found without data.
        undisturbed: how many values of the original keep their kept positions free of NaN when all
            removed positions are NaN.
        gradients: of how many parameters the gradients of kept positions agree, in training mode
            where the model can be run in it.
        gradient_error: their largest difference, relative to the largest gradient of all.
        compared: "every node" of the graph, the outputs of "every module" and of the model, or the
            model's "outputs" only.
        left_out: how many values were not compared themselves, only what follows from them: those
            that a quick check passes on to an activation or batch norm; outputs of modules, if
            together they take more memory than a run keeps (1 GiB).
        absolute: the largest absolute difference.
        relative: the largest difference relative to the largest value of the tensor.
        where: the node with the largest relative difference.
        tolerance: the relative difference that is still rounding for `dtype` in most models.
        why: why the tolerance is what it is: how exact the type is, how many terms sums have, and
            how many sums follow one another.
        rounded: how many values differ by more, and yet by no more than rounding does in this
            model, which was measured there (`fxprune.rounding`).
        noise: what was measured at `where`, if that is such a value: how far the original is from
            itself when its weights and inputs change in the last bit.
        dtype: the precision that both models were run in.
        dropped: how many blocks were dropped. The model without them was compared with the user's
            own, in which they pass their input on.
        repaired: the tensors that were repaired (see `reconstruct` and `fold`): their values were
            taken from the result, and are not proved to be any.
        seconds: wall-clock time.
    """

    nodes: int = 0
    inputs: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    shapes: int = 0
    undisturbed: int = 0
    gradients: int = 0
    gradient_error: float = 0.0
    compared: Compared = "every node"
    left_out: int = 0
    absolute: float = 0.0
    relative: float = 0.0
    where: str = ""
    tolerance: float = 0.0
    why: str = ""
    rounded: int = 0
    noise: float = 0.0
    dtype: str = ""
    dropped: int = 0
    repaired: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def every_node(self) -> bool:
        """Whether every value of the graph was compared."""
        return self.compared == "every node"

    def text(self, *, full: bool = False) -> str:
        """What printing it shows; `full` tells why the tolerance is what it is, and all reasons."""
        return str(verification_page(self, full=full))

    def _repr_html_(self) -> str:
        return verification_html(self)

    def __str__(self) -> str:
        return self.text()

    def __rich__(self) -> Page:
        return verification_page(self)


class UnprovableError(VerificationError):
    """On these inputs the original is not a reference: it is too ill-conditioned, say."""


class NotFiniteError(UnprovableError):
    """On these inputs the original computes nothing but NaN or infinite values."""


NO_REFERENCE = (OriginalFailsError, UnprovableError)
"""The errors of inputs on which the original is no reference."""


def _has_no_value(expected: torch.Tensor, got: torch.Tensor) -> bool:
    """Whether all numbers are NaN or infinite, and not the same infinite ones in both."""
    return not bool(torch.isfinite(expected).any() | (expected == got).all())


@dataclass(frozen=True)
class Claim:
    """What a shrunk model is said to be: the original, what stays of it, and what that means."""

    deps: DependencyGraph
    layout: Layout
    meaning: Meaning

    @cached_property
    def constant_rows(self) -> Rows:
        """Which removed channels are constants already, where constants are folded."""
        if self.meaning.constants == "drop":
            return {}
        return constant_rows(self.deps, self.layout, self.meaning.norm)

    def told_groups(self, axes: Iterable[Axis]) -> str:
        """The groups that lose channels on some axes, in words; nothing if there are none."""
        labels, groups = self.deps.trace.labels, self.deps.groups
        there = labels.marked([vector for axis in axes for vector in axis.vectors])
        lost = [group for group in groups if self.layout.is_removed(group.ids).any()]
        names = [group.name for group in lost if there[group.ids].any()]
        return f"groups that lose channels there: {', '.join(names)}" if names else ""


class Comparison:
    """Two models, run in one precision on the same inputs.

    Attributes:
        claim: what is to be shown.
        layout: what stays.
        labels: a copy of the analysis' labels.
        precision: what both are run in.
        result: what was found so far.
        rounding: what rounding does to the original on the inputs that are being compared.
        scratch: the memory in which values are compared.
        may_fail: whether a result may raise an error on sizes that the example has not. A graph
            may, which then computes nothing; a module has the original's forward.
    """

    may_fail = False

    def __init__(self, claim: Claim, precision: Precision, compared: Compared) -> None:
        narrowest = precision.narrowest(TOLERANCE)
        self.claim = claim
        self.deps = claim.deps
        self.layout = claim.layout
        self.labels: LabelAlgebra = claim.deps.trace.labels.copy()
        self.precision = precision
        tolerance = TOLERANCE.get(narrowest, 1e-3)
        stored = {tensor.dtype for tensor in claim.deps.state.values()}
        has_constants = claim.meaning.constants == "fold" or claim.layout.emptied
        if has_constants and torch.float32 in stored:
            tolerance = max(tolerance, _STORED * torch.finfo(torch.float32).eps)
        self.result = Verification(
            compared=compared,
            tolerance=tolerance,
            dtype=str(narrowest).removeprefix("torch."),
        )
        self.rounding = Rounding(lambda _: iter(()))  # no run of the original: nothing is rounding
        self.scratch = Scratch()

    def run_on(self, sets: Mapping[str, Inputs]) -> None:
        """Run both models on sets of inputs and compare."""
        for name, values in sets.items():
            self.labels = self.deps.trace.labels.copy()  # other sizes can couple more
            self.rounding = Rounding(partial(self._expected_again, values))
            with collector_paused():
                self.run(self.cast(values))
            self.result = replace(self.result, inputs=(*self.result.inputs, name))

    def run_where_possible(
        self, sets: Mapping[str, Inputs], excused: tuple[type[FxPruneError], ...]
    ) -> None:
        """As `run_on`, for inputs that the original need not take.

        Args:
            sets: the inputs.
            excused: errors that tell that it does not.
        """
        for name, values in sets.items():
            before = self.result
            try:
                self.run_on({name: values})
            except excused as error:
                self.result = before
                self.leave_out(name, error.what)

    def run_at_sizes(self, sets: Mapping[str, Inputs]) -> None:
        """As `run_on`, for other sizes than the example's.

        Neither need the original take these, nor the result: a graph that was captured for some
        sizes says so. And channels can be coupled there that are not at the example's sizes.
        """
        fails = ResultFailsError if self.may_fail else RefusedInputsError
        for name, values in sets.items():
            before = self.result
            try:
                self.run_where_possible({name: values}, (*NO_REFERENCE, fails))
            except VerificationError:
                if not self.couples_otherwise():
                    raise
                self.result = before
                self.leave_out(name, "removed channels are coupled to others there")

    def couples_otherwise(self) -> bool:
        """Whether the last run of the original coupled removed channels to any that are kept.

        At another size, `reshape(-1, 6, 2, 2)` can put the batch where channels were.
        """
        return self.layout.is_coupled_otherwise(self.labels)

    def leave_out(self, name: str, why: str) -> None:
        """Note what was not done, and why."""
        self.result = replace(self.result, skipped={**self.result.skipped, name: why})

    def check_interference(self, values: Inputs) -> None:
        """Look for removed positions that reach kept ones, on one set of inputs.

        Raises:
            VerificationError: names the first value with one.
        """
        values = self.cast(values)
        count, found = 0, False
        try:
            for _, tensor in self.poisoned().expected(values):
                count += 1
                found = found or bool(tensor.isnan().any())
        except OriginalFailsError as error:  # an operator that looks at values
            self.leave_out("non-interference", f"with NaN, {error.what}")
            return
        if found:
            clean = self.again(self.precision).expected(values)
            for (key, tensor), (_, other) in zip(
                self.poisoned().expected(values), clean, strict=False
            ):
                self._refuse_leak(key, tensor, other)
        self.result = replace(self.result, undisturbed=count)

    def _refuse_leak(self, key: Key, poisoned: torch.Tensor, clean: torch.Tensor) -> None:
        leaked = poisoned.isnan() & ~clean.isnan()
        if bool(leaked.any()):
            place = tuple(int(i[0]) for i in torch.nonzero(leaked, as_tuple=True))
            why = f"NaN at removed positions of the original arrives at kept position {place}"
            told = self.groups_at(key)
            raise VerificationError(
                f"removed channels reach what is kept at {key[0]}",
                where=self.place(key),
                why=f"{why}; {told}" if told else why,
                hint=_DEFECT,
            )

    def groups_at(self, key: Key) -> str:
        """The groups that lose channels at a value, in words, if that is known."""
        return ""

    def place(self, key: Key) -> Location | str:
        """Where a value is made; empty for the output of a model."""
        raise NotImplementedError

    def poisoned(self) -> Comparison:
        """The same comparison from the start, with NaN at removed positions of the original."""
        raise NotImplementedError

    def run(self, values: tuple[Any, ...]) -> None:
        """Run both models on one set of inputs, one value for each placeholder, and compare."""
        raise NotImplementedError

    def cast(self, values: Any) -> Any:
        """Inputs in the precision of the comparison."""
        return mapped(self.precision.cast, values)

    @property
    def remedy(self) -> str:
        """What to do about a difference."""
        return _DEFECT

    def again(self, precision: Precision) -> Comparison:
        """The same comparison from the start, in another precision."""
        raise NotImplementedError

    def expected(self, values: tuple[Any, ...]) -> Iterator[tuple[Key, torch.Tensor]]:
        """What the original alone yields for the values that `run` compares."""
        raise NotImplementedError

    def _expected_again(self, values: Any, seed: int | None) -> Iterator[tuple[Key, torch.Tensor]]:
        again = self.again(replace(self.precision, seed=seed))
        return again.expected(again.cast(values))

    def removed(self, axis: Axis) -> NDArray[np.bool_]:
        """The mask of removed positions of an axis."""
        return self.layout.removed_positions(axis, self.labels)

    def kept(
        self, tensor: torch.Tensor, axes: Sequence[Axis], scratch: Scratch | None = None
    ) -> torch.Tensor:
        """The kept positions of a tensor of the masked original."""
        for dim, axis in enumerate(axes):
            gone = self.removed(axis)
            if gone.any():
                index = torch.from_numpy(np.flatnonzero(~gone)).to(tensor.device)
                shape = (*tensor.shape[:dim], len(index), *tensor.shape[dim + 1 :])
                memory = scratch.like(tensor, shape, f"kept along {dim}") if scratch else None
                tensor = taken(tensor, dim, index, memory)
        return tensor

    def compare_tensor(
        self, key: Key, where: Location | str, expected: torch.Tensor, got: torch.Tensor
    ) -> None:
        """Compare what a node or module, which `key` tells, yields in both models."""
        name = key[0]
        if expected.shape != got.shape:
            raise VerificationError(
                f"{name} has shape {tuple(got.shape)} instead of {tuple(expected.shape)}",
                where=where,
                hint=self.remedy,
            )
        if not expected.numel():
            return
        if expected.is_floating_point() and expected.element_size() == 1:
            expected, got = expected.float(), got.float()
        absolute, relative = difference(expected, got, self.scratch)
        if not torch.isfinite(expected.reshape(-1)[0]) and _has_no_value(expected, got):
            raise NotFiniteError(
                f"the original itself computes NaN or infinite values at {name}",
                where=where,
                hint="check the weights and the example inputs",
            )
        if expected.is_floating_point():  # rounding in a narrow dtype reaches all that follows
            tolerance = max(self.result.tolerance, TOLERANCE.get(expected.dtype, 0.0))
            self.result = replace(self.result, tolerance=tolerance)
        self.result = replace(self.result, nodes=self.result.nodes + 1)
        if not relative <= self.result.tolerance:
            self._judge(key, where, relative, first_difference(expected, got))
        if relative > self.result.relative or not self.result.where:
            noise = self.rounding.at(key) if relative > self.result.tolerance else 0.0
            where_worst = name.removeprefix("node ")
            self.result = replace(self.result, relative=relative, where=where_worst, noise=noise)
        self.result = replace(self.result, absolute=max(absolute, self.result.absolute))

    def _judge(self, key: Key, where: Location | str, relative: float, why: str) -> None:
        """Count a difference above the tolerance as rounding, or refuse it."""
        hint, kind = self.remedy, VerificationError
        if self.result.tolerance < CAP and relative <= CHAOS:  # only float64 is held to so little
            if self.rounding.explains(key, relative):
                self.result = replace(self.result, rounded=self.result.rounded + 1)
                return
            why += (
                "; the last bits of its weights change the original itself by "
                f"{self.rounding.at(key):.1e} there"
            )
            if self.rounding.is_amplified(key, relative):
                hint, kind = _AMPLIFIED, UnprovableError
        raise kind(
            f"{key[0]} differs from the original by {relative:.2e} of its largest "
            f"value, more than {self.result.tolerance:.0e} ({self.result.dtype})",
            where=where,
            why=why,
            hint=hint,
        )
