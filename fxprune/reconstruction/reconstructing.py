"""Repairing what reads removed channels, layer by layer or all at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch.export import ExportedProgram

from fxprune.analysis import DependencyGraph, Model
from fxprune.errors import InputError, shown
from fxprune.importance.criterion import parameters_of
from fxprune.importance.processes import jointly
from fxprune.importance.running import finite, first, nothing, taken, tracked
from fxprune.inputs import bind, materialize
from fxprune.module_trees import as_parameter, eval_clone, named_state
from fxprune.planning import Plan
from fxprune.reconstruction.moments import Moments
from fxprune.reconstruction.products import Key, Read, ReadingMode, Uses, key_of
from fxprune.reconstruction.repaired import with_tensors
from fxprune.reconstruction.results import Reconstruction, Repair
from fxprune.reference import is_state, put_state, relabel
from fxprune.rules import axes_of, put_axes
from fxprune.stepping import Stepper
from fxprune.surroundings import undisturbed
from fxprune.values import copied, memory

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray
    from torch import fx

    from fxprune.labels import Axis
    from fxprune.meaning import Norm
    from fxprune.planning import Layout

Method = Literal["regression", "mean"]
Mode = Literal["sequential", "parallel"]


@undisturbed()
def reconstruct(
    model: Model,
    plan: Plan | str | os.PathLike[str],
    batches: Iterable[Any],
    example_inputs: Any = None,
    *,
    method: Method = "regression",
    mode: Mode = "sequential",
    ridge: float = 1e-3,
    norm: Norm = "kept",
    inputs: Callable[[Any], Any] = first,
    progress: bool = True,
) -> Reconstruction:
    """Let layers make the best of the channels that a plan keeps, from unlabelled data.

    Each layer that sums over channels of which some are removed (a linear layer, a convolution, a
    projection of attention) gets weights and a bias that explain what it computed in the original
    by what it reads now, in the least squares: the removed channels are predicted from the kept
    ones, by ridge regression with an intercept, and the prediction is folded into its weights,
    tap by tap for a convolution, group by group for a grouped one. No fine-tuning is involved.
    As He et al., Channel Pruning for Accelerating Very Deep Neural Networks, 2017, section 3.1,
    with the regression in closed form and errors of layers before taken into account.

    The intercept goes into the layer's bias; without one, into the running mean of a batch norm
    that alone reads the layer; without either there is none. At the borders of a convolution that
    pads with zeros it is the mean over all places. A layer is left as it is, with the reason, if it
    passes channels through one by one (a depthwise convolution), is a transposed convolution, or
    shares its weight with another one.

    The repaired original is what the small model is proved to be:

    >>> import torch, fxprune
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    >>> batches = torch.randn(10, 64, 8)
    >>> plan = fxprune.plan(model, batches[0], ratio=0.5)
    >>> repaired = fxprune.reconstruct(model, plan, batches, progress=False)
    >>> small = fxprune.shrink(repaired.model, plan)

    Args:
        model: the original, or its DependencyGraph.
        plan: what will be removed.
        batches: a data loader, or any other iterable; without labels, some hundred samples do.
        example_inputs: what the model is analyzed with, as for `shrink`: one that is run on data to
            be analyzed needs them; by default inputs of the plan's shapes.
        method: "regression": what was said. "mean": weights stay, and the mean of what the removed
            channels did is added where the intercept goes; a few samples do (Evci et al., Mean
            Replacement Pruning, 2018).
        mode: "sequential": each layer is repaired for what it reads once those before it are
            pruned and repaired, so errors do not add up; what all batches yield at one node of the
            graph, in the original and in the pruned model, is in memory at once. "parallel": all
            are repaired for what they read in the original, a batch at a time, which takes one run
            of the original and less memory.
        ridge: the penalty on what is added to weights, in units of the mean second moment of the
            kept channels (0.001). More is safer for few samples.
        norm: what statistics over pruned axes run over in the pruned model; see `shrink`.
        inputs: from a batch to what the model takes (a tensor, a tuple or a dict); by default the
            first item of a tuple or list, or the batch itself.
        progress: whether a bar is shown on the standard error stream.

    Returns:
        The repaired original, and how well each layer was repaired. With `torch.distributed`,
        each process passes its own batches, as many as the others, and all get the same repair.

    Raises:
        InputError: there are no batches, the model does not take them, values are not finite,
            weights have no data, or an argument is of no use.
        PlanError: the plan is for another model.
        CaptureError, AnalysisError: see `analyze`.
    """
    _check(model, method, mode, ridge)
    plan = Plan.of(plan)
    made = materialize(plan.inputs, seed=None) if example_inputs is None else example_inputs
    deps = plan.analyze(model, made)
    if deps.drop is not None:
        raise InputError(
            "the plan drops whole blocks",
            why="what is repaired is the original with all its blocks",
            hint="drop the blocks first, and make a plan of channels for the model without them",
        )
    parameters_of(deps)  # refuses those without data
    values = _Values(deps, batches, inputs)
    ridge = math.inf if method == "mean" else float(ridge)
    work = _Work(deps, plan.layout(deps), norm, ridge, progress)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        if mode == "sequential":
            work.run_in_turn([*values])
        else:
            work.run_at_once(values)
    return work.outcome(values.count)


def _check(model: Any, method: Any, mode: Any, ridge: Any) -> None:
    if isinstance(model, ExportedProgram):
        raise InputError(
            "an ExportedProgram cannot be repaired", hint="pass the module that was exported"
        )
    for name, value, known in (("method", method, Method), ("mode", mode, Mode)):
        if value not in get_args(known):
            raise InputError(
                f"{name}={shown(value)} is not known",
                hint=f"take one of {', '.join(get_args(known))}",
            )
    is_number = isinstance(ridge, (int, float)) and not isinstance(ridge, bool)
    if not is_number or not 0 <= ridge < math.inf:
        raise InputError(f"the ridge is {shown(ridge)}", why="it must be a number, 0 or more")


@dataclass
class _Values:
    """What the graph takes, batch by batch.

    Attributes:
        count: how many batches came by.
    """

    deps: DependencyGraph
    batches: Iterable[Any]
    inputs: Callable[[Any], Any]
    count: int = 0

    def __iter__(self) -> Iterator[list[Any]]:
        for batch in tracked(self.batches, "", shown=False):
            self.count += 1
            yield copied(list(bind(self.deps.graph_module, taken(batch, self.inputs))))
        if not self.count:
            raise nothing("a repair")


class _Run:
    """One batch on its way through a graph.

    Args:
        name: what errors call the graph.
        module: the graph.
        values: the batch.
        mode: what every node is run under.
        deps: the analysis.
    """

    def __init__(
        self, name: str, module: fx.GraphModule, values: list[Any], mode: ReadingMode
    ) -> None:
        self.stepper = Stepper(name, module, values, mode)
        self.mode = mode

    def step(self, node: fx.Node, known: Any) -> list[Read]:
        """Run a node; what it read."""
        self.mode.found = []
        relabel(self.stepper.step(node), known, self.mode.labels)
        return self.mode.found

    def tried(self, node: fx.Node) -> list[Read]:
        """What a node reads; it is run on copies, and nothing stays."""
        self.mode.found = []
        self.stepper.tried(node, self._copy)
        return self.mode.found

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        if is_state(tensor):
            return tensor
        copy = tensor.clone()
        put_axes(copy, axes_of(tensor, self.mode.labels))
        return copy


@dataclass
class _Work:
    """The repair of one model."""

    deps: DependencyGraph
    layout: Layout
    norm: Norm
    ridge: float
    progress: bool
    repairs: list[Repair] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pruned = self._copy()
        self.uses = Uses()
        state = named_state(self.pruned)
        self._names = {memory(tensor): self.deps.trace.tied[name] for name, tensor in state.items()}

    def _copy(self) -> fx.GraphModule:
        module = eval_clone(self.deps.graph_module, lambda t: as_parameter(t.detach().clone(), t))
        put_state(named_state(module), self.deps.trace)
        copy: fx.GraphModule = module
        return copy

    def _run(self, module: fx.GraphModule, values: list[Any], *, masked: bool) -> _Run:
        labels = self.deps.trace.labels.copy()
        gone = partial(self.layout.removed_positions, labels=labels)
        mode = ReadingMode(labels, gone if masked else _none, gone, self.norm)
        return _Run("the pruned model" if masked else "the model", module, values, mode)

    def _known(self, node: fx.Node) -> Any:
        return self.deps.trace.values.get(node.name)

    def _note_uses(self, values: list[Any]) -> None:
        """See, by one run, what is done with each weight."""
        run = self._run(self.pruned, copied(values), masked=False)
        run.mode.uses = self.uses
        for node in self.pruned.graph.nodes:
            run.step(node, self._known(node))
        run.mode.finished()

    def run_in_turn(self, batches: Sequence[list[Any]]) -> None:
        """Repair each layer for what it reads once all before it are pruned and repaired."""
        self._note_uses(batches[0])
        original = self._copy()
        pairs = [
            (
                self._run(original, copied(values), masked=False),
                self._run(self.pruned, values, masked=True),
            )
            for values in batches
        ]
        theirs = original.graph.nodes
        nodes = list(zip(theirs, self.pruned.graph.nodes, strict=True))
        for node, twin in tracked(nodes, "reconstruction", shown=self.progress):
            known = self._known(node)
            layers = self._joint(partial(_measured_in_turn, pairs, node, twin, known))
            self._repair(node.name, layers)
            for _, small in pairs:
                small.step(twin, known)

    def run_at_once(self, batches: Iterable[list[Any]]) -> None:
        """Repair all layers for what they read in the original."""
        found: dict[str, list[_Layer]] = {}

        def measured() -> list[list[_Layer]]:
            for values in tracked(batches, "reconstruction", shown=self.progress):
                if not found:
                    self._note_uses(values)
                run = self._run(self.pruned, values, masked=False)
                for node in self.pruned.graph.nodes:
                    reads = run.step(node, self._known(node))
                    found[node.name] = _added(found.get(node.name, []), reads, reads)
            return list(found.values())

        names = [node.name for node in self.pruned.graph.nodes]
        for name, layers in zip(names, self._joint(measured), strict=True):
            self._repair(name, layers)

    def _joint(self, work: Callable[[], Any]) -> Any:
        """What was measured, with the moments of all processes."""
        mine, every = jointly(self.deps, work, _told)
        if len(every) > 1:
            for own, *others in zip(_told(mine), *every, strict=True):
                own.copy_(torch.stack(others).sum(0))
        return mine

    def _repair(self, node: str, layers: Sequence[_Layer]) -> None:
        """Let the products of a node read differently."""
        for layer in layers:
            read, key = layer.read, key_of(layer.read.weight)
            why = read.why or ("" if self.uses.reads[key] == 1 else "its weight is used elsewhere")
            if not why and memory(read.weight) not in self._names:
                why = "its weight is computed of others"
            gone = int(read.gone.sum())
            told = Repair(read.name, node, len(read.gone), len(read.gone) - gone, why=why)
            self.repairs.append(told if why else self._repaired(told, layer, key))

    def _repaired(self, told: Repair, layer: _Layer, key: Key) -> Repair:
        target, sign, name = self._intercept(layer.read, key)
        weight, shares = layer.read.weight, layer.read.shares
        rows = weight.double().chunk(len(layer.moments))
        constant, before, after, spread = [], 0.0, 0.0, 0.0
        changes = []
        for own, moments in zip(rows, layer.moments, strict=True):
            finite("what the model computes", moments.zz)
            finite("what the model computes", moments.xx)
            fit = moments.fit(self.ridge, with_intercept=target is not None)
            changes.append(torch.einsum("oc...,ck->ok...", own, fit.mixing))
            shift = torch.einsum("oc...,c->o...", own, fit.intercept) * shares.to(own)
            constant.append(shift.reshape(len(shift), -1).sum(1))
            before += _size(own, moments.error())
            after += _size(own, moments.error(fit))
            spread += _size(own, moments.spread())
        scale = spread or 1.0
        if not after <= before:  # rounding, where nothing can be gained
            return replace(told, before=before / scale, after=before / scale)
        changed = [name] if target is not None else []
        if self.ridge < math.inf:
            changed.insert(0, told.weight)
            parts = zip(weight.chunk(len(rows)), changes, layer.moments, strict=True)
            for own, change, moments in parts:
                own[:, moments.kept] += change.to(own)
        if target is not None:
            target += sign * torch.cat(constant).to(target)
        return replace(
            told,
            before=before / scale,
            after=after / scale,
            intercept=name,
            tensors=tuple(changed),
        )

    def _intercept(self, read: Read, key: Key) -> tuple[torch.Tensor | None, int, str]:
        """What takes up a constant, with its sign and name."""
        taker, sign = self.uses.takers.get(key, (None, 1))
        if taker is None or memory(taker) not in self._names or len(taker) != len(read.weight):
            return None, 1, ""
        return taker, sign, self._names[memory(taker)]

    def outcome(self, batches: int) -> Reconstruction:
        """What was made."""
        new = named_state(self.pruned)
        names = dict.fromkeys(name for each in self.repairs for name in each.tensors)
        tensors = {name: as_parameter(new[name].detach(), self.deps.state[name]) for name in names}
        model = with_tensors(self.deps, tensors)
        return Reconstruction(model, tuple(self.repairs), tensors, batches)


@dataclass
class _Layer:
    """A product, and the moments of what it reads: for each group of a convolution."""

    read: Read
    moments: list[Moments]


def _added(layers: list[_Layer], before: Sequence[Read], now: Sequence[Read]) -> list[_Layer]:
    """Take in what the products of a node read, in the original and in the pruned model."""
    layers = layers or [_Layer(read, _moments(read)) for read in now]
    if not len(layers) == len(before) == len(now):
        raise _ways()
    for layer, x, z in zip(layers, before, now, strict=True):
        is_alike = x.x.shape == z.x.shape and np.array_equal(x.gone, z.gone)
        if not is_alike or x.name != layer.read.name:
            raise _ways()
        parts = zip(layer.moments, x.x.chunk(x.groups, 1), z.x.chunk(x.groups, 1), strict=False)
        for moments, own, other in parts:
            moments.add(own, other[:, moments.kept])
        layer.read = replace(z, x=z.x[:0])
    return layers


def _moments(read: Read) -> list[Moments]:
    """Empty ones; none for what stays as it is."""
    if read.why:
        return []
    stays = torch.from_numpy(~read.gone).to(read.x.device).chunk(read.groups)
    return [Moments(part.nonzero().flatten(), len(part)) for part in stays]


def _measured_in_turn(
    pairs: Sequence[tuple[_Run, _Run]], node: fx.Node, twin: fx.Node, known: Any
) -> list[_Layer]:
    """The moments of what a node reads in both models, over all batches."""
    layers: list[_Layer] = []
    for dense, small in pairs:
        before = dense.step(node, known)
        if before or layers:
            layers = _added(layers, before, small.tried(twin))
    return layers


def _told(layers: Any) -> list[torch.Tensor]:
    """All sums of layers, or of lists of them."""
    if isinstance(layers, list):
        return [tensor for each in layers for tensor in _told(each)]
    return [tensor for moments in layers.moments for tensor in moments.tensors()]


def _size(weight: torch.Tensor, second: torch.Tensor) -> float:
    """The sum over all rows and taps of w^T M w."""
    return float(torch.einsum("oc...,cd,od...->", weight, second, weight))


def _none(axis: Axis) -> NDArray[np.bool_]:
    return np.zeros(axis.size, dtype=np.bool_)


def _ways() -> InputError:
    return InputError(
        "batches take different ways through the model",
        hint="pass batches of inputs like those that the model was analyzed with",
    )
