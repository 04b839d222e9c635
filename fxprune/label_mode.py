"""The dispatch mode that applies the label rule of every operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import flop_registry

from fxprune.decompositions import decomposed
from fxprune.errors import AnalysisError
from fxprune.known_values import computed, follows_from_constants, note_outcome, on_meta
from fxprune.meta_kernels import DispatchMode, run_on_meta
from fxprune.rules import Call, Place, Rule, locate, lookup, put_axes, value_of
from fxprune.rules.normalization import BATCH_NORMS
from fxprune.traces import (
    GROUPED,
    STATE_NAME,
    Renormalization,
    Trace,
    Work,
    snapshot,
    state_name,
)

if TYPE_CHECKING:
    from torch import fx
    from torch._ops import OpOverload

    from fxprune.labels import Axis

aten = torch.ops.aten


class LabelMode(DispatchMode):
    """Applies the rule of every ATen operator that comes by.

    Integer tensors keep their values as long as these follow from constants, so that indexing with
    a permutation buffer moves labels instead of pinning them.
    """

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace
        self.labels = trace.labels
        self.node: fx.Node | None = None
        self.read: list[Axis] = []
        self.moved: dict[str, Place] = {}

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one operator and its rule."""
        call = Call(self.labels, func, args, kwargs or {})
        rule = lookup(func)
        if rule is None:
            with self:
                out = decomposed(call)
            if out is not NotImplemented:
                return out
        self.begin(call)
        if self.node is not None:
            self.labels.place = Place(self.node, func)
        call.out = self.execute(call, rule)
        self.account(call, rule)
        if rule is not None:
            rule.propagate(call)
        elif call.outputs() or torch.Tag.data_dependent_output in func.tags:
            self.pin_everything(call)
        self.end(call)
        return call.out

    def begin(self, call: Call) -> None:
        """An operator is about to run."""

    def end(self, call: Call) -> None:
        """An operator has run, and its outputs are labelled."""

    def execute(self, call: Call, rule: Rule | None) -> Any:
        """Run the operator on meta tensors, and for real where all its inputs are known."""
        if call.op is aten._local_scalar_dense.default:
            return self.number(call)
        if not all(operand.is_meta for operand in call.tensors()):
            call.take(*pytree.tree_map(on_meta, (tuple(call.args), dict(call.kwargs))))
        known = self.known(call)
        if known is not None and torch.Tag.dynamic_output_shape in call.op.tags:
            return pytree.tree_map(on_meta, known)
        out = run_on_meta(call.op, call.args, call.kwargs)
        note_outcome(call.op, out, known)
        return out

    def is_known(self, call: Call) -> bool:
        """Whether the operands are integers that follow from constants."""
        dtype = call.arg("dtype") if call.has("dtype") else None
        return follows_from_constants(call.op, call.tensors(), dtype)

    def known(self, call: Call) -> Any:
        """The output's value if it consists of integers that follow from constants."""
        return computed(call.op, call.args, call.kwargs) if self.is_known(call) else None

    def number(self, call: Call) -> Any:
        """A Python number out of a tensor, if it is known."""
        value = value_of(call.tensors()[0])
        if value is None:
            raise AnalysisError(
                "a tensor's value is read as a Python number",
                where=locate(self.node) if self.node is not None else "",
                why="the model is interpreted without data, so the number is not known",
                hint="take sizes from .shape, or move the value out of forward",
            )
        return value.item()

    def account(self, call: Call, rule: Rule | None) -> None:
        """Note who calls, MACs, state tensors read, scales, and axes that are looked across."""
        trace, node = self.trace, self.node.name if self.node is not None else ""
        trace.active.add(node)
        if call.op._overloadpacket in flop_registry or call.op._schema.name in GROUPED:
            args, out = snapshot(list(call.args), self.labels), snapshot(call.out, self.labels)
            kwargs = {name: snapshot(v, self.labels) for name, v in call.kwargs.items()}
            trace.work.append(Work(node, call.op, args, kwargs, out))
        trace.uses.note(call, rule, state_name)
        self.note_reads(call, rule)
        if call.op._overloadpacket in BATCH_NORMS:
            self.note_scale(call.arg("weight"))
        if rule is not None:
            for operand_name, dim in rule.normalizes(call):
                axis = call.axes(operand_name)[dim]
                if self.labels.leaves(axis):
                    trace.renormalized.append(Renormalization(self.labels.place, axis))

    def note_scale(self, weight: torch.Tensor | None) -> None:
        """Note a parameter that a batch norm takes as it is: what is computed of one is none."""
        name = getattr(weight, STATE_NAME, None)
        if isinstance(weight, nn.Parameter) and name is not None:
            self.trace.scales.add(name)

    def note_reads(self, call: Call, rule: Rule | None) -> None:
        """Note which positions of state tensors meet anything else, be it by way of slices.

        What is computed of state tensors and known positions alone stands for them, but for axes
        that are summed over.
        """
        named = [(tensor, getattr(tensor, STATE_NAME, None)) for tensor in call.tensors()]
        operands = [(t, n) for t, n in named if n is not None or value_of(t) is None]
        names = [name for _, name in operands]
        self.trace.touched.update(name for name in names if name is not None)
        is_state = None not in names and rule is not None
        for operand, name in operands:
            if name is not None and is_state:
                self.moved.setdefault(name, self.labels.place)
            elif name is not None:
                self.read += call.axes(operand)
        if is_state and names and rule is not None:
            across = [*rule.sums(call), *rule.normalizes(call)]
            self.read += [call.axes(name)[dim] for name, dim in across if call.axes(name)]
            for out in call.outputs():
                setattr(out, STATE_NAME, names[0])

    def pin_unread(self) -> None:
        """Keep what a slice of a state tensor leaves out: inputs of other sizes can read it.

        `positions[: x.shape[1]]` reads as much of a table as the example inputs are long.
        """
        labels = self.labels
        moved = [axis for name in self.moved for axis in self.trace.axes[name]]
        is_read = labels.marked([vector for axis in self.read for vector in axis.vectors])
        is_moved = labels.marked([vector for axis in moved for vector in axis.vectors])
        if not (is_moved & ~is_read).any():
            return
        for name, place in self.moved.items():
            reason = labels.place = place.because("not read with example inputs of this size")
            for vector in labels.expand([v for a in self.trace.axes[name] for v in a.vectors]):
                labels.pin(vector[~is_read[vector]], reason)

    def pin_everything(self, call: Call) -> None:
        """An operator that nobody wrote a rule for: nothing that it touches can be removed."""
        for operand in call.tensors():
            for axis in call.axes(operand):
                if self.labels.leaves(axis):
                    self.trace.unknown.setdefault(call.op, self.labels.place)
                    call.pin(
                        [axis],
                        f"operator {call.op} has no label rule",
                        f"register one with @fxprune.rule(torch.ops.{call.op})",
                    )
        for out in call.outputs():
            put_axes(out, [call.pinned(size, f"made by {call.op}") for size in out.shape])
