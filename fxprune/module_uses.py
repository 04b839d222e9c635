"""Where a model's modules are called: what each takes and returns, and whether it is residual.

The user's own forward runs once, as a rule without data, under the label rules, so that it is known
which channels of what a module returns are those of what it took. Beside the labels, every tensor
knows of each open call how an input of it got here:

- *straight*: by no product and no other sum over channels;
- *computed*: by at least one;
- *added*: as a sum of both, as in `x + f(x)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import fx, nn

from fxprune.errors import AnalysisError, FxPruneError, first_line
from fxprune.inputs import arguments_of_call, given_arguments
from fxprune.interpretation import decomposed_attention, shadow_state
from fxprune.known_values import forget_values, on_meta
from fxprune.label_mode import LabelMode
from fxprune.labels import LabelAlgebra
from fxprune.module_trees import clone_tree, named_tensors
from fxprune.rules import put_axes
from fxprune.traces import Trace, TracedTensor, label_state, snapshot
from fxprune.values import copied, mapped, tensors

if TYPE_CHECKING:
    from fxprune.rules import Call, Rule
    from fxprune.traces import Work

aten = torch.ops.aten
Argument: TypeAlias = int | str
"""An argument of a call, by its position or its name."""
_FLOW = "_fxprune_flow"
_SUMS = frozenset({aten.add, aten.add_, aten.lerp, aten.lerp_})
"""In a difference, an input may stand with the other sign."""


class _Flow(NamedTuple):
    """Of which arguments of open calls a tensor was made, and how (see the module's text)."""

    straight: frozenset[tuple[int, Argument]] = frozenset()
    computed: frozenset[tuple[int, Argument]] = frozenset()
    added: frozenset[tuple[int, Argument]] = frozenset()

    def joined(self, other: _Flow) -> _Flow:
        """What an operator makes of two operands that it does not add."""
        return _Flow(*(mine | theirs for mine, theirs in zip(self, other, strict=True)))

    def summed(self, other: _Flow) -> _Flow:
        """What the sum of two operands is."""
        joined = self.joined(other)
        both = (self.straight & other.computed) | (other.straight & self.computed)
        return joined._replace(added=joined.added | both)

    def multiplied(self) -> _Flow:
        """What an operand becomes that is summed over."""
        return _Flow(computed=self.straight | self.computed | self.added)


@dataclass(frozen=True)
class ModuleUse:
    """One call of a module.

    Attributes:
        taken: its arguments that are tensors, in their order.
        kind: the type of what it returned.
        returned: what it returned, with a TracedTensor for each tensor.
        added: the arguments that it adds to something that it computes of them.
    """

    taken: Mapping[Argument, TracedTensor]
    kind: type
    returned: Any
    added: frozenset[Argument]


@dataclass(frozen=True)
class ModuleUses:
    """The calls of all modules of a model, by the module's name.

    Attributes:
        calls: name of a module -> its calls.
        labels: of the axes of what they took and returned.
        work: all products, each with the names of the modules that it is inside of.
    """

    calls: Mapping[str, Sequence[ModuleUse]]
    labels: LabelAlgebra
    work: Sequence[tuple[frozenset[str], Work]]

    def macs(self, module: str = "") -> int:
        """Multiply-accumulate operations inside a module, all its calls together."""
        there = (work for inside, work in self.work if module in inside)
        return sum(work.macs(lambda tensor: tensor.shape) for work in there)


def uses_of(model: nn.Module, example_inputs: Any) -> ModuleUses:
    """Run a model's own forward once under the label rules, and note the calls of its modules.

    It runs without data, or else, where it needs data, on the example inputs. It is not changed.

    Raises:
        InputError: the inputs do not fit the model's arguments.
        AnalysisError: the model does not run.
    """
    given = given_arguments(model, example_inputs)
    try:
        return _run(model, given, on_data=False)
    except FxPruneError as error:
        everything = [*named_tensors(model).values(), *tensors(dict(given))]
        if any(tensor.device.type == "meta" for tensor in everything):
            raise AnalysisError(
                f"{type(model).__name__} does not run without data: {first_line(error)}",
                why="the calls of its modules are found by running it",
                hint="pass example inputs with data",
            ) from error
    return _run(model, given, on_data=True)


def _run(model: nn.Module, given: Mapping[str, Any], *, on_data: bool) -> ModuleUses:
    trace = Trace(LabelAlgebra())
    twin = clone_tree(model, _with_data if on_data else shadow_state)
    label_state(trace, named_tensors(twin))
    watch = _Watch(trace, on_data=on_data)
    values = {name: watch.placed(value) for name, value in given.items()}
    args, kwargs = arguments_of_call(twin, values)
    with torch.random.fork_rng(devices=[]), decomposed_attention(), torch.no_grad():
        torch.manual_seed(0)
        with watch.modules_noted(twin), watch:
            try:
                twin(*args, **kwargs)
            except FxPruneError:
                raise
            except Exception as error:
                raise AnalysisError(
                    f"{type(model).__name__} fails: {first_line(error)}",
                    where=f"module {watch.open[-1].path}" if watch.open else "",
                    why=type(error).__name__,
                    hint="check that the model runs on these inputs",
                ) from error
    return ModuleUses(watch.calls, trace.labels, watch.work)


def _with_data(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().clone()


@dataclass(frozen=True)
class _Open:
    """A call that goes on."""

    number: int
    path: str
    taken: dict[Argument, TracedTensor] = field(default_factory=dict)


class _Watch(LabelMode):
    """Applies label rules, and lets tensors know of which arguments they were made."""

    def __init__(self, trace: Trace, *, on_data: bool) -> None:
        super().__init__(trace)
        self.on_data = on_data
        self.node = fx.Graph().placeholder("model")  # the place of all that happens
        self.open: list[_Open] = []
        self.count = 0
        self.calls: dict[str, list[ModuleUse]] = {}
        self.work: list[tuple[frozenset[str], Work]] = []

    def placed(self, value: Any) -> Any:
        """A copy of an argument of the model, labelled as input."""
        value = copied(value) if self.on_data else mapped(on_meta, value)
        for tensor in tensors(value):
            put_axes(tensor, [self.labels.pinned_axis(size, "input") for size in tensor.shape])
            forget_values(tensor)
        return value

    # -- an operator ------------------------------------------------------------------------

    def execute(self, call: Call, rule: Rule | None) -> Any:
        """Run an operator, on data if there is any."""
        if not self.on_data:
            return super().execute(call, rule)
        is_known = self.is_known(call)
        out = call.op(*call.args, **call.kwargs)
        if not is_known:
            forget_values(out)
        return out

    def account(self, call: Call, rule: Rule | None) -> None:
        """Note inside of which modules a product is."""
        super().account(call, rule)
        inside = frozenset(["", *(each.path for each in self.open)])
        self.work += [(inside, work) for work in self.trace.work]
        self.trace.work.clear()
        self.follow(call, rule)

    def follow(self, call: Call, rule: Rule | None) -> None:
        """Let what an operator returns know of which arguments it was made."""
        names = [argument.name for argument in call.op._schema.arguments]
        multiplied = set(names) if rule is None else {name for name, _ in rule.sums(call)}
        flows = []
        for name in names:
            for tensor in tensors([call.arg(name)]):
                flow = self.flow_of(tensor)
                flows.append(flow.multiplied() if name in multiplied else flow)
        is_sum = bool(multiplied) or call.op._overloadpacket in _SUMS
        found = flows[0] if flows else _Flow()
        for flow in flows[1:]:
            found = found.summed(flow) if is_sum else found.joined(flow)
        for tensor in call.outputs():
            setattr(tensor, _FLOW, found)

    def flow_of(self, tensor: torch.Tensor) -> _Flow:
        """Of which arguments of calls that go on a tensor was made."""
        flow: _Flow = getattr(tensor, _FLOW, _Flow())
        numbers = {each.number for each in self.open}
        return _Flow(*(frozenset(mark for mark in marks if mark[0] in numbers) for marks in flow))

    # -- around it --------------------------------------------------------------------------

    @contextmanager
    def modules_noted(self, model: nn.Module) -> Iterator[None]:
        """Know which modules are running, and note what they take and return."""
        handles = []
        for path, module in model.named_modules():
            handles += [
                module.register_forward_pre_hook(partial(self.enter, path), with_kwargs=True),
                module.register_forward_hook(partial(self.leave, path)),
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def enter(self, path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A module is called."""
        given = [*enumerate(args), *kwargs.items()]
        self.count += 1
        self.open.append(_Open(self.count, path))
        for argument, value in given:
            if isinstance(value, torch.Tensor):
                self.open[-1].taken[argument] = snapshot(value, self.labels)
                flow = self.flow_of(value)
                straight = flow.straight | {(self.count, argument)}
                setattr(value, _FLOW, flow._replace(straight=straight))

    def leave(self, path: str, module: nn.Module, args: Any, out: Any) -> None:
        """A module returns."""
        while self.open[-1].path != path:  # it failed, and forward went on
            self.open.pop()
        call = self.open[-1]
        added = {
            argument
            for tensor in tensors(out)
            for number, argument in self.flow_of(tensor).added
            if number == call.number
        }
        use = ModuleUse(call.taken, type(out), snapshot(out, self.labels), frozenset(added))
        self.calls.setdefault(path, []).append(use)
        self.open.pop()
