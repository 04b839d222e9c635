"""The dependency graph: which channels live and die together, and what stops the others."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from torch import nn
from torch.export import ExportedProgram

from fxprune.analysis_page import analysis_page, listing
from fxprune.capture import Captured, Rung, capture_with, fixed_flags, recorded
from fxprune.deferred import deferred
from fxprune.errors import AnalysisError, Diagnostic, InputError, PlanError, shown
from fxprune.exporting import program_inputs, program_module
from fxprune.groups import Group, build_groups, parameter_axes
from fxprune.inputs import bind, describe
from fxprune.interpretation import interpret
from fxprune.module_trees import buffers_in, named_state, parameters_in
from fxprune.notebook_groups import graph_html
from fxprune.notebook_tables import Shown
from fxprune.reasons import explain
from fxprune.shares import Share, by_module, prunable_counts
from fxprune.suggestions import nearest
from fxprune.surroundings import collector_paused, undisturbed
from fxprune.tables import Page
from fxprune.traces import Trace

if TYPE_CHECKING:
    from collections.abc import Mapping

    import networkx as nx
    import torch
    from torch import fx

    from fxprune.dropping import Drop
    from fxprune.explanations import Explanation


@dataclass(frozen=True, eq=False)
class DependencyGraph(Shown):
    """What `analyze` found out about a model.

    Attributes:
        graph_module: the captured model (it shares tensors with the user's).
        inputs: description (shape, dtype) of the example inputs, one for each placeholder.
        groups: all groups of channels, prunable and pinned, in the order of the graph.
        trace: the labels of every node and state tensor.
        model: the model that was captured.
        remarks: what else a user should know: modules and parameters that no operator reads.
        captured: how the graph was made.
        drop: the blocks that were dropped before the model was captured, or None. Then `model` is
            a twin of the user's, in which these pass their input on.
        weights: where the values of parameters and buffers are, if they are not those of the model.
    """

    graph_module: fx.GraphModule
    inputs: tuple[Any, ...]
    groups: tuple[Group, ...]
    trace: Trace
    model: nn.Module
    remarks: tuple[Diagnostic, ...] = ()
    captured: Captured = field(kw_only=True)
    drop: Drop | None = field(default=None, kw_only=True)
    weights: Mapping[str, torch.Tensor] | None = field(default=None, kw_only=True)

    @property
    def captured_by(self) -> Rung:
        """How the graph was made: "given", "symbolic_trace", "export" or "record"."""
        return self.captured.rung

    @property
    def decisions(self) -> tuple[Diagnostic, ...]:
        """Where forward decides by values of tensors: another can take a path not analyzed."""
        recording = self.captured.recording
        return recording.decisions if recording is not None else ()

    @cached_property
    def fixed(self) -> tuple[Diagnostic, ...]:
        """What is fixed in the graph, though not in the model: the train / eval flag."""
        return tuple(fixed_flags(self.model, self.captured))

    @property
    def is_fixed_in_training(self) -> bool:
        """Whether the trace has for good what forward itself does in training mode alone."""
        captured = self.captured
        is_traced = captured.rung == "symbolic_trace" and captured.modes[""]
        return is_traced and len(self.fixed) > len(captured.counters)

    @cached_property
    def state(self) -> dict[str, torch.Tensor]:
        """Every tensor of the graph by name: parameters, buffers, tensors kept as attributes."""
        return named_state(self.graph_module)

    @property
    def dropped(self) -> tuple[str, ...]:
        """The names of the blocks that were dropped."""
        return self.drop.names if self.drop is not None else ()

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor of the graph, and of those of dropped blocks."""
        gone = self.drop.shapes if self.drop is not None else {}
        return {**{name: tuple(t.shape) for name, t in self.state.items()}, **gone}

    @cached_property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Why channels are pinned, each reason once; inputs and outputs of the model left out."""
        found = dict.fromkeys(group.pinned for group in self.groups if group.pinned is not None)
        natural = ("input ", "output of the model", "integers")
        pins = tuple(d for d in found if not d.what.startswith(natural))
        return pins + self.fixed + self.decisions + self.remarks

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, shapes and dtypes of the state, and over how its axes couple.

        Of dropped blocks their names and shapes count.
        """
        text = hashlib.sha256()
        if self.drop is not None:
            text.update(f"{self.drop.names} {sorted(self.drop.shapes.items())}\n".encode())
        for name, tensor in self.state.items():
            text.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        for group in self.groups:
            text.update(f"{group.name} {group.kind} {group.size} {group.pinned is None}\n".encode())
        vectors = [
            vector
            for _, _, axis in parameter_axes(self.trace)
            for vector in self.trace.labels.roots(axis)
        ]
        if vectors:
            # ids as positions of their first appearance, so that only the pattern counts
            ids = np.concatenate(vectors)
            first = np.zeros(len(self.trace.labels), dtype=np.int64)
            first[ids[::-1]] = np.arange(len(ids))[::-1]
            text.update(first[ids].tobytes())
        return text.hexdigest()

    @cached_property
    def shares(self) -> tuple[Share, ...]:
        """The prunable share of each top-level module; one that holds all the others is opened."""
        sizes = {name: tuple(p.shape) for name, p in self.graph_module.named_parameters()}
        return by_module(prunable_counts(self.trace, self.groups, sizes), sizes)

    @property
    def total_share(self) -> Share:
        """The prunable share of the whole model, with the numbers behind it."""
        return Share(
            "", sum(s.parameters for s in self.shares), sum(s.prunable for s in self.shares)
        )

    @property
    def prunable_share(self) -> float:
        """The share of the parameters that some plan can remove, from 0 to 1.

        It is a / b, where b counts the entries of all parameters of the captured graph (tied ones
        once, buffers not), and a those that on at least one axis lie at a position of a channel
        of a prunable group (one that is not pinned and has more than one channel, of any kind).
        No plan removes more: it is the ceiling, reached if every group could lose all its channels.
        """
        return self.total_share.share

    def why(self, pattern: str) -> Explanation:
        """Whether each axis of what `pattern` names can be pruned, and what stops it if not.

        Args:
            pattern: a module (with all below it), a parameter or a group by name, or a glob such
                as "layer3.*".

        Returns:
            An entry for every axis of every parameter and buffer and each group on it. Printed, it
            tells the reason in a sentence, its place, and where the channels were coupled to it.

        Raises:
            PlanError: nothing has that name; the message tells the nearest names.
        """
        return explain(self, pattern)

    def group(self, name: str) -> Group:
        """The group of that name.

        Raises:
            PlanError: there is none; the message tells the nearest names.
        """
        for group in self.groups:
            if group.name == name:
                return group
        raise PlanError(
            f"no group is named {name!r}", hint=nearest(name, [g.name for g in self.groups])
        )

    def to_networkx(self) -> nx.DiGraph:
        """The graph as a networkx DiGraph, whose attributes are texts, numbers and flags.

        Nodes are ("op", name), ("parameter", name) and ("group", name), with `type` and

        - op: `op`, `target`, `module`, `source` (line), `shape` ("1x64x56x56") and `macs`;
        - parameter: `kind` ("parameter" or "buffer"), `shape` and `entries`;
        - group: `kind`, `size`, `prunable`, and of a pin `pinned` (the reason), `pinned_by` (the
          node that what must stay comes from), `pinned_at` (the node where the channels met it),
          `pinned_source` (its line) and `hint`.

        Edges have a `type` too: "data" from op to op, "read" from a parameter to an op, "member"
        from a group to a parameter (`dims`, and the `entries` that lie there), and "carried" from a
        group to an op whose value has its channels (`dims`). `fxprune.graphs` writes the graph as
        GraphML, JSON or DOT, and answers questions about it.
        """
        graph: nx.DiGraph = deferred("graph of networkx")(self)
        return graph

    def text(self, *, full: bool = False) -> str:
        """What printing it shows, at most 100 columns wide unless names are longer.

        Groups whose names differ in indices only, and which have the same kind and size, are one
        row: `layer1.{0-2}.conv{1,2}`. `layers` counts the modules that a group is in, `parameters`
        those that lie at channels of the row's groups. What must stay is told by its reason.

        Args:
            full: every group on its own, with all the axes of parameters that its channels are on.
        """
        return listing(self) if full else str(analysis_page(self))

    def _repr_html_(self) -> str:
        return graph_html(self)

    def __str__(self) -> str:
        return self.text()

    def __rich__(self) -> Page:
        return analysis_page(self)


Model: TypeAlias = nn.Module | ExportedProgram | DependencyGraph


@undisturbed()
def analyze(model: Model, example_inputs: Any = None) -> DependencyGraph:
    """Find out which channels of a model live and die together.

    The model is captured with `torch.fx` and interpreted once on meta tensors: no data is touched,
    no weight is copied, the model is not changed. A model that no tracer takes is run once on the
    example inputs instead.

    Args:
        model: the model, a GraphModule, or an `ExportedProgram` of torch.export; a DependencyGraph
            is returned as it is, if its model has still its weights.
        example_inputs: a tensor, a tuple of arguments, or a dict of keyword arguments. Only shapes
            and dtypes matter (and the values of integers), unless the model has to be run. None
            for those that an `ExportedProgram` was exported with.

    Returns:
        The dependency graph with its groups and diagnostics.

    Raises:
        InputError: the inputs do not fit the model's arguments.
        CaptureError: the model can be neither traced nor run.
        AnalysisError: the graph cannot be interpreted.
    """
    if isinstance(model, DependencyGraph):
        if isinstance(example_inputs, Real):
            raise InputError(
                f"example_inputs is {shown(example_inputs)}", hint="pass a ratio by keyword: ratio="
            )
        _check_weights(model)
        return model
    if isinstance(model, ExportedProgram):
        example_inputs = program_inputs(model, example_inputs)
        model = program_module(model)
    with collector_paused():
        captured, trace = _interpreted(model, example_inputs)
        trace.labels.resolve(trace.all_axes)
        graph_module = captured.graph_module
        return DependencyGraph(
            graph_module=graph_module,
            inputs=describe(bind(graph_module, example_inputs)),
            groups=build_groups(graph_module.graph, trace),
            trace=trace,
            model=model,
            remarks=tuple(_unused(model, trace)),
            captured=captured,
        )


def _check_weights(deps: DependencyGraph) -> None:
    """Refuse an analysis of a model that has no weights any more.

    Raises:
        InputError: they were donated.
    """
    for name, tensor in deps.state.items():
        if not tensor.numel() and all(axis.size for axis in deps.trace.axes[name]):
            raise InputError(
                f"the analyzed model has no weights any more: {name} is empty",
                why="they are used up by a shrink with donate=True",
                hint="analyze another instance of the model",
            )


def _interpreted(model: nn.Module, example_inputs: Any) -> tuple[Captured, Trace]:
    """The captured model and its labels. If it needs data to be interpreted, it is run on data."""
    captured = capture_with(model, example_inputs)
    if captured.recording is not None:
        return captured, captured.recording.trace
    values = bind(captured.graph_module, example_inputs)
    try:
        return captured, interpret(captured.graph_module, values)
    except AnalysisError as error:
        try:
            captured = recorded(model, example_inputs)
        except AnalysisError:
            raise error from None
        assert captured.recording is not None
        return captured, captured.recording.trace


def _unused(model: nn.Module, trace: Trace) -> tuple[Diagnostic, ...]:
    """What no operator reads: whole modules by their name, else single tensors."""
    state = {**parameters_in(model), **buffers_in(model)}
    names = [name for name, tensor in state.items() if tensor.is_floating_point()]
    unread = [name for name in names if trace.tied.get(name) not in trace.touched]
    total = Counter(prefix for name in names for prefix in _prefixes(name))
    idle = Counter(prefix for name in unread for prefix in _prefixes(name))
    found = dict.fromkeys(
        next((p for p in _prefixes(name) if idle[p] == total[p]), name) for name in unread
    )
    return tuple(
        Diagnostic(f"{name} is not used by the graph and belongs to no group") for name in found
    )


def _prefixes(name: str) -> list[str]:
    """The modules that hold a tensor, the outermost first."""
    parts = name.split(".")
    return [".".join(parts[:k]) for k in range(1, len(parts))]
