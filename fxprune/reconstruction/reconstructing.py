"""Repairing what reads removed channels, layer by layer or all at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

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
from fxprune.reconstruction.products import Read, ReadingMode, Uses
from fxprune.reconstruction.repaired import with_tensors
from fxprune.reconstruction.results import Reconstruction, Repair
from fxprune.reference import is_state, put_state, relabel
from fxprune.rules import axes_of, put_axes
from fxprune.stepping import Stepper
from fxprune.surroundings import undisturbed
from fxprune.values import copied, memory, tensors

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray
    from torch import fx

    from fxprune.labels import Axis
    from fxprune.meaning import Norm
    from fxprune.planning import Layout

Method = Literal["regression", "mean"]
Mode = Literal["sequential", "parallel"]
_T = TypeVar("_T")
_Place: TypeAlias = tuple[str, int]
_Pair: TypeAlias = tuple[Read, Read]


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
        (work.in_turn if mode == "sequential" else work.at_once)([*values])
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
    """One batch on its way through a graph."""

    def __init__(
        self, name: str, module: fx.GraphModule, values: list[Any], mode: ReadingMode
    ) -> None:
        self.stepper = Stepper(name, module, values, mode)
        self.mode = mode
        self.value: Any = None

    def step(self, node: fx.Node, known: Any) -> list[Read]:
        """Run a node; what it read."""
        self.mode.found = []
        self.value = self.stepper.step(node)
        relabel(self.value, known, self.mode.labels)
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
class _Model:
    """A copy of the analyzed graph.

    Attributes:
        module: the copy.
        state: its stored tensors, each by its first name.
        names: the same names by the memory of the tensors.
    """

    module: fx.GraphModule
    state: dict[str, torch.Tensor]
    names: dict[int, str]

    @classmethod
    def of(cls, deps: DependencyGraph) -> _Model:
        """A copy with tensors of its own."""
        module: Any = eval_clone(deps.graph_module, lambda t: as_parameter(t.detach().clone(), t))
        named = named_state(module)
        put_state(named, deps.trace)
        state = {name: named[name] for name in named if deps.trace.tied[name] == name}
        return cls(module, state, {memory(tensor): name for name, tensor in state.items()})


@dataclass
class _Measured:
    """What a product read and yielded, in the original and in the pruned model.

    Attributes:
        read: what it is, without values.
        moments: of what it read, for each group of a convolution.
        error: the sum over rows of the squares of the difference between outcomes.
        count: how many rows there are.
        total: the sums of the original's outcomes, by channel.
        squares: the sums of their squares.
    """

    read: Read
    moments: list[Moments]
    error: torch.Tensor
    count: torch.Tensor
    total: torch.Tensor
    squares: torch.Tensor

    @classmethod
    def of(cls, read: Read) -> _Measured:
        """Nothing yet."""
        stays = torch.from_numpy(~read.gone).to(read.x.device).chunk(read.groups)
        moments = [Moments(part.nonzero().flatten(), len(part)) for part in stays]
        rows = read.out.new_zeros(read.out.shape[1], dtype=torch.float64)
        zero = rows.new_zeros(())
        alone = replace(read, x=read.x.new_empty(0, len(read.gone)), out=read.out.new_empty(0, 0))
        return cls(alone, moments, zero, zero.clone(), rows, rows.clone())

    def add(self, before: Read, now: Read) -> None:
        """Take in a batch."""
        same = before.x.shape == now.x.shape and np.array_equal(before.gone, now.gone)
        if not same or before.part != now.part or before.gone.shape != self.read.gone.shape:
            raise _ways()
        groups = zip(
            self.moments, before.x.chunk(now.groups, 1), now.x.chunk(now.groups, 1), strict=True
        )
        for moments, x, z in groups:
            moments.add(x, z[:, moments.kept])
        out = before.out.double()
        self.error += (now.out.double() - out).square().sum()
        self.count += len(out)
        self.total += out.sum(0)
        self.squares += out.square().sum(0)

    def tensors(self) -> list[torch.Tensor]:
        """All sums."""
        own = [self.error, self.count, self.total, self.squares]
        return [*own, *(tensor for each in self.moments for tensor in each.tensors())]

    def relative(self, error: torch.Tensor) -> float:
        """An error as a share of the variance of what the original yields."""
        spread = (self.squares - self.total.square() / self.count).sum()
        return float(error / spread) if spread > 0 else float(error > 0)


@dataclass(frozen=True)
class _Change:
    """What a repair does to a product.

    Attributes:
        told: of it, but for how well it went.
        values: views of stored tensors, with their old and new values.
        outside: what is added to the kept channels of the outcome after the product.
    """

    told: Repair
    values: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    outside: torch.Tensor

    def put(self, *, back: bool = False) -> None:
        """Put the new values, or the old ones again."""
        for view, old, new in self.values:
            view.copy_(old if back else new)

    def error(self, before: Read, now: Read) -> torch.Tensor:
        """The sum of the squares of the difference between outcomes in a batch."""
        return (now.out.double() + self.outside - before.out.double()).square().sum()


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
        self.pruned = _Model.of(self.deps)
        self.uses = Uses()

    def _run(self, model: _Model, values: list[Any], *, masked: bool) -> _Run:
        labels = self.deps.trace.labels.copy()
        gone = partial(self.layout.removed_positions, labels=labels)
        mode = ReadingMode(labels, gone if masked else _none, gone, self.norm, model.names)
        name = "the pruned model" if masked else "the model"
        return _Run(name, model.module, copied(values), mode)

    def _known(self, node: fx.Node) -> Any:
        return self.deps.trace.values.get(node.name)

    def _note_uses(self, values: list[Any]) -> None:
        """See, by one run of a copy, what is done with each weight."""
        model = _Model.of(self.deps)
        run = self._run(model, values, masked=False)
        run.mode.uses = self.uses
        returned: list[torch.Tensor] = []
        for node in model.module.graph.nodes:
            run.step(node, self._known(node))
            if node.op == "output":
                returned = tensors(run.value)
        run.mode.finished(returned)

    def in_turn(self, batches: Sequence[list[Any]]) -> None:
        """Repair each layer for what it reads once all before it are pruned and repaired."""
        self._note_uses(batches[0])
        if written := sorted(self.uses.written):
            raise InputError(
                f"forward writes into {written[0]}",
                why="all batches go through the model together, node by node, and would read what"
                " others wrote",
                hint='pass mode="parallel" to fxprune.reconstruct, which runs batch by batch',
            )
        original = _Model.of(self.deps)
        dense = [self._run(original, values, masked=False) for values in batches]
        small = [self._run(self.pruned, values, masked=True) for values in batches]
        nodes = zip(original.module.graph.nodes, self.pruned.module.graph.nodes, strict=True)
        for node, twin in tracked([*nodes], "reconstruction", shown=self.progress):
            known = self._known(node)
            before = [run.step(node, known) for run in dense]
            for number in range(_number_of(before)):
                self._repair(node.name, number, before, twin, small)
            for run in small:
                run.step(twin, known)

    def _repair(
        self,
        node: str,
        number: int,
        before: Sequence[Sequence[Read]],
        twin: fx.Node,
        small: Sequence[_Run],
    ) -> None:
        """Repair one product of a node; the products before it in the node are repaired."""

        def pairs() -> Iterator[_Pair]:
            for reads, run in zip(before, small, strict=True):
                now = run.tried(twin)
                if len(now) != len(reads):
                    raise _ways()
                yield reads[number], now[number]

        def measured() -> _Measured:
            found = _Measured.of(before[0][number])
            for pair in pairs():
                found.add(*pair)
            return found

        if (left := self._left(node, before[0][number])) is not None:
            self.repairs.append(left)
            return
        found = self._joint(measured, _Measured.tensors)
        change = self._change(node, found)
        change.put()
        (error,) = self._joint(
            lambda: [torch.stack([change.error(*p) for p in pairs()]).sum()], list
        )
        self.repairs.append(_judged(change, found, error))

    def at_once(self, batches: Sequence[list[Any]]) -> None:
        """Repair all layers for what they read in the original."""
        self._note_uses(batches[0])
        found = self._joint(partial(self._all_measured, batches), _all_sums)
        left = {place: self._left(place[0], each.read) for place, each in found.items()}
        changes = {p: self._change(p[0], found[p]) for p, entry in left.items() if entry is None}
        for change in changes.values():
            change.put()
        errors = self._joint(partial(self._all_errors, batches, changes), list)
        after = dict(zip(changes, errors, strict=True))
        for place, entry in left.items():
            self.repairs.append(entry or _judged(changes[place], found[place], after[place]))

    def _pairs(self, batches: Sequence[list[Any]], what: str) -> Iterator[tuple[_Place, _Pair]]:
        """What products yield in the original, and for what is kept with weights of now."""
        for values in tracked(batches, what, shown=self.progress):
            original = _Model.of(self.deps)
            run = self._run(original, values, masked=False)
            run.mode.instead = self.pruned.state
            for node in original.module.graph.nodes:
                run.mode.trials = []
                reads = run.step(node, self._known(node))
                both = zip(reads, run.mode.trials, strict=True)
                yield from (((node.name, number), pair) for number, pair in enumerate(both))

    def _all_measured(self, batches: Sequence[list[Any]]) -> dict[_Place, _Measured]:
        found: dict[_Place, _Measured] = {}
        for place, (before, now) in self._pairs(batches, "reconstruction"):
            if place not in found:
                found[place] = _Measured.of(before)
            if self._left(place[0], before) is None:
                found[place].add(before, now)
        return found

    def _all_errors(
        self, batches: Sequence[list[Any]], changes: Mapping[_Place, _Change]
    ) -> list[torch.Tensor]:
        sums = {place: torch.zeros((), dtype=torch.float64) for place in changes}
        for place, pair in self._pairs(batches, "how well it went"):
            if place in changes:
                sums[place] += changes[place].error(*pair)
        return list(sums.values())

    def _joint(self, work: Callable[[], _T], sums: Callable[[_T], list[torch.Tensor]]) -> _T:
        """What some work measures here, with the sums of all processes."""
        mine, every = jointly(self.deps, work, lambda found: [t.cpu() for t in sums(found)])
        if len(every) > 1:
            for own, *others in zip(sums(mine), *every, strict=True):
                own.copy_(torch.stack(others).sum(0))
        return mine

    def _left(self, node: str, read: Read) -> Repair | None:
        """Why a product stays as it is, if it does."""
        why = read.why
        if not why and (read.part is None or not self.uses.is_alone(read.part)):
            why = "its weight is used elsewhere"
        if not why and read.name in self.uses.written:
            why = "forward writes into its weight"
        told = Repair(read.name, node, len(read.gone), int((~read.gone).sum()), why=why)
        return told if why else None

    def _change(self, node: str, found: _Measured) -> _Change:
        """How a product is to read what is kept."""
        read = found.read
        assert read.part is not None
        weight = read.weight(self.pruned.state)
        taker = self.uses.taker(read.part)
        new = weight.to(torch.float64, copy=True)
        constants = []
        groups = zip(weight.double().chunk(read.groups), new.chunk(read.groups), strict=True)
        for (own, made), moments in zip(groups, found.moments, strict=True):
            finite("what the model computes", moments.zz)
            finite("what the model computes", moments.xx)
            fit = moments.fit(self.ridge, with_intercept=taker is not None)
            made[:, moments.kept] += torch.einsum("oc...,ck->ok...", own, fit.mixing)
            shift = torch.einsum("oc...,c->o...", own, fit.intercept) * read.shares.to(own)
            constants.append(shift.reshape(len(shift), -1).sum(1))
        constant = torch.cat(constants)
        values = []
        if self.ridge < math.inf:
            values.append((weight, weight.clone(), new.to(weight)))
        outside, intercept = torch.zeros_like(constant), ""
        if taker is not None:
            intercept = taker.part.name
            bias = taker.part.of(self.pruned.state)
            values.append((bias, bias.clone(), (bias.double() + taker.sign * constant).to(bias)))
            outside = outside if taker.is_inside else constant
        told = Repair(
            read.name,
            node,
            len(read.gone),
            int((~read.gone).sum()),
            intercept=intercept,
            tensors=tuple(filter(None, (read.name if self.ridge < math.inf else "", intercept))),
        )
        return _Change(told, values, outside[read.kept_rows])

    def outcome(self, batches: int) -> Reconstruction:
        """What was made."""
        names = dict.fromkeys(name for each in self.repairs for name in each.tensors)
        known = self.deps.state
        tensors = {n: as_parameter(self.pruned.state[n].detach(), known[n]) for n in names}
        deps = with_tensors(self.deps, tensors)
        return Reconstruction(deps, tuple(self.repairs), tensors, batches)


def _all_sums(found: dict[_Place, _Measured]) -> list[torch.Tensor]:
    return [tensor for each in found.values() for tensor in each.tensors()]


def _judged(change: _Change, found: _Measured, error: torch.Tensor) -> Repair:
    """What became of a repair; it is taken back if the outcome was better without it."""
    before, after = found.relative(found.error), found.relative(error)
    if error <= found.error:
        return replace(change.told, before=before, after=after)
    change.put(back=True)
    why = "the outcome is better without a repair"
    return replace(change.told, before=before, after=before, why=why, intercept="", tensors=())


def _number_of(reads: Sequence[Sequence[Read]]) -> int:
    """How many products a node has, the same in all batches."""
    if len({len(each) for each in reads}) != 1:
        raise _ways()
    return len(reads[0])


def _none(axis: Axis) -> NDArray[np.bool_]:
    return np.zeros(axis.size, dtype=np.bool_)


def _ways() -> InputError:
    return InputError(
        "batches take different ways through the model",
        hint="pass batches of inputs like those that the model was analyzed with",
    )
