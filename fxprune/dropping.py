"""Residual blocks dropped whole: a twin of the model in which they pass their input on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from fxprune.analysis import DependencyGraph, Model, analyze
from fxprune.errors import AnalysisError, CaptureError, PlanError, RewriteError, shown
from fxprune.inputs import materialize, named_values
from fxprune.module_trees import clone_tree, named_tensors
from fxprune.module_uses import ModuleUse, ModuleUses, uses_of
from fxprune.suggestions import nearest
from fxprune.traces import TracedTensor

if TYPE_CHECKING:
    from fxprune.labels import LabelAlgebra

_ATTRIBUTES = (bool, int, float, str, type(None), torch.dtype)
"""Types of attributes that stay, for the modules around a block read some (its attention's type).

All others could hold parts of the block.
"""


@dataclass(frozen=True)
class Drop:
    """What was dropped from which model.

    Attributes:
        model: the user's model, with all its blocks.
        names: of the dropped blocks, in the order of the model.
        shapes: name -> shape of every parameter and buffer that is gone.
        macs: multiply-accumulate operations of the whole model on the example inputs.
        macs_of: name of a dropped block -> those of them that were its own.
    """

    model: nn.Module
    names: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    macs: int
    macs_of: Mapping[str, int]


class Dropped(nn.Module):
    """Stands where a residual block was, and passes the block's input on.

    It has no parameter and leaves no node in a graph, since tracing goes through it.

    Args:
        block: what it stands for; attributes that are numbers, texts or types stay.
        argument: the position or the name of the argument that is passed on.
        wrapped: None if the block returned a tensor, else the type of what it returned, how many
            values these were, and which of them was the tensor; the others were None.
    """

    def __init__(
        self, block: nn.Module, argument: int | str, wrapped: tuple[type, int, int] | None
    ) -> None:
        super().__init__()
        self.training = block.training
        for name, value in vars(block).items():
            if isinstance(value, _ATTRIBUTES) and name not in vars(self):
                setattr(self, name, value)
        self._was = type(block).__name__
        self._place = argument if isinstance(argument, int) else None
        self._name = _name_of(block, argument)
        self._wrapped = wrapped

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the input as the block returned its output."""
        place = self._place
        x = args[place] if place is not None and place < len(args) else kwargs[self._name]
        if self._wrapped is None:
            return x
        kind, count, index = self._wrapped
        return kind(x if k == index else None for k in range(count))

    def extra_repr(self) -> str:
        """What was here."""
        return self._was


def _name_of(block: nn.Module, argument: int | str) -> str:
    """The name of an argument of a block; if it is given by name, that."""
    if isinstance(argument, str):
        return argument
    return list(inspect.signature(block.forward).parameters)[argument]


def without_blocks(model: Model, example_inputs: Any, names: Sequence[str]) -> DependencyGraph:
    """The analysis of a model in which some residual blocks pass their input on.

    Args:
        model: the model, or the DependencyGraph that `analyze` made of it. It is not changed.
        example_inputs: as for `analyze`; with a DependencyGraph they may be None, but for a model
            that has to be run on data.
        names: of modules; without any, this is `analyze`.

    Raises:
        PlanError: one of them cannot be dropped; says why.
        InputError, CaptureError, AnalysisError: see `analyze`.
    """
    if not names:
        return analyze(model, example_inputs)
    if isinstance(model, DependencyGraph) and set(model.dropped) == set(names):
        return analyze(model, example_inputs)
    source = with_modules(model)
    example_inputs = arguments_for(model, example_inputs)
    uses = uses_of(source, example_inputs)
    chosen = _chosen(source, names)
    instead = {id(block): stand_in(name, block, uses) for name, block in chosen.items()}
    twin = clone_tree(source, lambda tensor: tensor, instead)
    left = named_tensors(twin)
    shapes = {n: tuple(t.shape) for n, t in named_tensors(source).items() if n not in left}
    macs_of = {name: uses.macs(name) for name in chosen}
    drop = Drop(source, tuple(chosen), shapes, uses.macs(), macs_of)
    try:
        return replace(analyze(twin, example_inputs), drop=drop)
    except (CaptureError, AnalysisError) as error:
        what = f"without {', '.join(chosen)}: {error.what}"
        raise type(error)(what, where=error.where, why=error.why, hint=error.hint) from error


def arguments_for(model: Model, example_inputs: Any) -> Any:
    """The example inputs; those of an analysis, without data, if there are none."""
    if example_inputs is None and isinstance(model, DependencyGraph):
        values = materialize(model.inputs, seed=None)
        return named_values(model.graph_module, values)
    return example_inputs


def with_modules(model: Model) -> nn.Module:
    """The user's module, of which blocks can be told by their names.

    Raises:
        PlanError: there is none but a graph, or blocks of it were dropped before.
    """
    if isinstance(model, DependencyGraph):
        if model.drop is not None:
            raise PlanError(
                "blocks of the analyzed model were dropped before",
                why=f"these are {', '.join(model.dropped)}",
                hint="pass the original module, and all that is to be dropped at once",
            )
        model = model.model
    if isinstance(model, (fx.GraphModule, ExportedProgram)):
        raise PlanError(
            f"no blocks of a {type(model).__name__} can be dropped",
            why="it has no forward that calls them, but a graph in which they are dissolved",
            hint="pass the original module",
        )
    return model


def _chosen(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The named blocks, in the order of the model; one that has several names has its first.

    Raises:
        PlanError: a name means no module, the whole model, or a part of another of these blocks.
    """
    everything = dict(model.named_modules(remove_duplicate=False))
    first = {id(module): name for name, module in model.named_modules()}
    for name in names:
        if not name:
            raise PlanError("the whole model is to be dropped", hint="name blocks inside of it")
        if name not in everything:
            raise PlanError(f"no module is named {shown(name)}", hint=nearest(name, everything))
    wanted = {first[id(everything[name])] for name in names}
    for outer in wanted:
        inner = next((name for name in wanted if name.startswith(f"{outer}.")), None)
        if inner is not None:
            raise PlanError(
                f"{inner} is inside of {outer}, and both are to be dropped", hint=f"drop {outer}"
            )
    return {name: module for name, module in model.named_modules() if name in wanted}


def stand_in(name: str, block: nn.Module, uses: ModuleUses) -> Dropped:
    """What stands where a block was.

    Raises:
        PlanError: the block is not one that can be dropped.
    """
    if why := refusal(name, block, uses):
        raise PlanError(
            f"{name} ({type(block).__name__}) cannot be dropped",
            where=f"module {name}",
            why=why,
            hint="drop residual blocks only: what they return is their input, and something added",
        )
    first = uses.calls[name][0]
    return Dropped(block, next(iter(first.taken)), _wrapping(first))


def refusal(name: str, block: nn.Module, uses: ModuleUses) -> str:
    """Why a module cannot be dropped; empty if it can.

    1. It is called, and no hooks are on it, for they would go with it.
    2. What it returns is one tensor, alone or in a tuple or list beside None.
    3. That has the shape and the type of the first tensor that it takes,
    4. is that tensor with something added that the module computes of it,
    5. and its channels stand where they stood there.
    6. All calls get that tensor in the same place, and return it in the same form.
    """
    calls = uses.calls.get(name, ())
    if not calls:
        return "it is never called as a module: forward uses its parts, or nothing of it"
    if block._forward_hooks or block._forward_pre_hooks:
        return "it has forward hooks, which would go with it; remove them first"
    for call in calls:
        if why := _unlike_its_input(call, uses.labels):
            return why
    if len({next(iter(call.taken)) for call in calls}) > 1:
        return "its calls pass its input by position and by name, or in several places"
    if len({_wrapping(call) for call in calls}) > 1:
        return "its calls return values of several forms"
    return ""


def _unlike_its_input(call: ModuleUse, labels: LabelAlgebra) -> str:
    """Why what a call returned is not its input and something added; empty if it is."""
    out = _returned_tensor(call)
    if out is None:
        return f"it returns {_told(call)}, where one tensor could be passed on"
    argument, taken = next(iter(call.taken.items()), (None, None))
    if argument is None or taken is None:
        return "it takes no tensor that could be passed on"
    if taken.shape != out.shape:
        return f"it takes shape {list(taken.shape)} and returns {list(out.shape)}"
    if taken.dtype != out.dtype:
        return f"it takes {taken.dtype} and returns {out.dtype}"
    if argument not in call.added:
        return "its input is not added to what it computes of it, so nothing of it would be left"
    for there, here in zip(taken.axes, out.axes, strict=True):
        before, after = labels.leaves(there), labels.leaves(here)
        if {v.tobytes() for v in before} != {v.tobytes() for v in after}:
            return "the channels that it returns do not stand where those of its input stand"
    return ""


def _returned_tensor(call: ModuleUse) -> TracedTensor | None:
    """The only tensor that a module returned; None if there is another value, but for None."""
    if isinstance(call.returned, TracedTensor):
        return call.returned
    found = [item for item in call.returned if item is not None] if _is_plain(call.kind) else []
    return found[0] if len(found) == 1 and isinstance(found[0], TracedTensor) else None


def _is_plain(kind: type) -> bool:
    return kind in (tuple, list)


def _wrapping(call: ModuleUse) -> tuple[type, int, int] | None:
    """How the only tensor that a module returned is wrapped (see `Dropped`)."""
    if isinstance(call.returned, TracedTensor):
        return None
    index = next(k for k, item in enumerate(call.returned) if item is not None)
    return call.kind, len(call.returned), index


def _told(call: ModuleUse) -> str:
    """What a module returned, in words."""
    told = f"a {call.kind.__name__}"
    if not _is_plain(call.kind):
        return told
    parts = ["a tensor" if isinstance(v, TracedTensor) else shown(v) for v in call.returned]
    return f"{told} of {', '.join(parts) or 'nothing'}"


def refuse_cache_keepers(deps: DependencyGraph) -> None:
    """A module of transformers reads the length of its cache off the first layer of each kind.

    If that is dropped, the cache seems to be empty in every step of `generate`. With several kinds
    (attention and a recurrence) the last of each is read, too.

    Raises:
        RewriteError: such a layer is dropped.
    """
    drop = deps.drop
    if drop is None or not _takes_cache(drop.model):
        return
    kinds = _cached_layers(drop.model)
    for indices in kinds:
        ends = {min(indices.values()), *([max(indices.values())] if len(kinds) > 1 else [])}
        for name, index in indices.items():
            dropped = next((b for b in drop.names if f"{name}.".startswith(f"{b}.")), None)
            if dropped is not None and index in ends:
                raise RewriteError(
                    f"without {dropped} the module could not use a cache of keys and values",
                    where=f"module {name}",
                    why=f"the length of the cache is read off its layer {index}",
                    hint='drop other blocks, or pass emit="graph"',
                )


def _takes_cache(model: nn.Module) -> bool:
    """Whether a model, or a part of it that is a model of its own, may be called with a cache."""
    if "past_key_values" in inspect.signature(model.forward).parameters:
        return True
    asked = (getattr(module, "can_generate", None) for module in model.modules())
    return any(can_generate() for can_generate in asked if callable(can_generate))


def _cached_layers(model: nn.Module) -> list[dict[str, int]]:
    """For each kind of layers with a place in the cache: their names, and these places."""
    kinds: dict[tuple[str, ...], dict[str, int]] = {}
    for name, module in model.named_modules():
        told = vars(module)
        if type(told.get("layer_idx")) is int and told.get("is_decoder") is not False:
            of_kind = (str(told.get(n)) for n in ("is_sliding", "sliding_window", "layer_type"))
            kind = (type(module).__name__, *of_kind)
            kinds.setdefault(kind, {})[name] = told["layer_idx"]
    return list(kinds.values())
