"""From a model to a `torch.fx.GraphModule` that keeps module names."""

from __future__ import annotations

import keyword
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import fx, nn

from fxprune.errors import AnalysisError, CaptureError, Diagnostic, first_line
from fxprune.exporting import exported
from fxprune.inputs import absent_arguments, given_arguments
from fxprune.model_checks import check_model
from fxprune.module_trees import clone_tree, restore_root, walk
from fxprune.recording import Recording, record
from fxprune.tracing import Tracer, place_of, same_trace

_NOT_IN_QUOTES = ('"', "\\", "\n", "\r", "\0")
Rung: TypeAlias = Literal["given", "symbolic_trace", "export", "record"]


def capture(model: nn.Module, example_inputs: Any = None) -> fx.GraphModule:
    """Turn a model into a graph; a GraphModule passes as it is. The model is not changed.

    First `torch.fx.symbolic_trace` is tried, which keeps modules and reads best, then
    `torch.export`, and then the model is run on the example inputs and recorded. The result shares
    its tensors with the model. If it was traced symbolically, it keeps the train / eval flag of
    every module and the hooks of the model and of leaf modules (those of `torch.nn`).

    Args:
        model: any module that runs on the example inputs.
        example_inputs: a tensor, a tuple of arguments, or a dict of keyword arguments. Export and
            recording need them; tracing takes arguments that they leave at None for constants.

    Raises:
        InputError: `model` is not a module, or the inputs do not fit its arguments.
        CaptureError: all failed; says in which module, on which line, and what to do.
    """
    return capture_with(model, example_inputs).graph_module


class Captured(NamedTuple):
    """A graph and how it was made.

    Attributes:
        graph_module: the graph.
        rung: the way it was made.
        absent: arguments that are constants in it, with their values.
        flag_readers: names of the modules whose forward read the train / eval flag.
        counters: names of the numbers that forward changes so that the next call is another.
        recording: the run that it was made in, if it was recorded.
        modes: the train / eval flags of the model's modules when it was captured, by name.
    """

    graph_module: fx.GraphModule
    rung: Rung
    absent: Mapping[str, Any] = MappingProxyType({})
    flag_readers: Sequence[str] = ()
    counters: Sequence[str] = ()
    recording: Recording | None = None
    modes: Mapping[str, bool] = MappingProxyType({})


def capture_with(model: nn.Module, example_inputs: Any = None) -> Captured:
    """As `capture`; also tells which way it went."""
    with torch.random.fork_rng(devices=[]):  # forward may draw random numbers
        return _captured(model, example_inputs)._replace(modes=_modes(model))


def _modes(model: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in walk(model)}


def _captured(model: nn.Module, example_inputs: Any) -> Captured:
    check_model(model)
    if isinstance(model, fx.GraphModule):
        return Captured(model, "given")
    given = given_arguments(model, example_inputs)
    absent = absent_arguments(model, given)
    try:
        tracer, twin, graph = _traced(model, absent)
    except CaptureError as error:
        if example_inputs is None:
            raise
        chosen = {name: value for name, value in given.items() if name not in absent}
        try:
            return Captured(exported(model, chosen), "export")
        except Exception as other:  # noqa: BLE001  # whatever it is, the model may still run
            try:
                return recorded(model, example_inputs)
            except AnalysisError as last:
                raise _neither(model, error, other, last) from last
    return _written(model, tracer, twin, graph)


def _written(model: nn.Module, tracer: Tracer, twin: nn.Module, graph: fx.Graph) -> Captured:
    """What was traced, as a module with code."""
    _check_names(graph)
    graph._tracer_cls = fx.Tracer  # so that reading a pickle of the result needs torch only
    for node in graph.nodes:
        if isinstance(node.type, str):  # an annotation that torch 2.13 cannot pickle
            node.type = None
    graph_module = fx.GraphModule(twin, graph, type(model).__name__)
    restore_root(graph_module, model)
    counters = _counters(model, twin, tracer.absent, graph)
    return Captured(graph_module, "symbolic_trace", tracer.absent, tracer.flag_readers, counters)


def _neither(
    model: nn.Module, traced: CaptureError, exported: Exception, recorded: AnalysisError
) -> CaptureError:
    """The error for a model that can be neither traced, nor exported, nor run."""
    cause = traced.__cause__
    if cause and recorded.__cause__ and first_line(cause) == first_line(recorded.__cause__):
        return CaptureError(
            f"{type(model).__name__} does not run on these inputs: {first_line(cause)}",
            where=traced.where,
            why=type(cause).__name__,
            hint="check that the model runs on these inputs",
        )
    return CaptureError(
        traced.what,
        where=traced.where,
        why=f"{traced.why}; torch.export fails too: {first_line(exported)}; and recording:"
        f" {recorded.what}",
        hint=recorded.hint,
    )


def recorded(model: nn.Module, example_inputs: Any) -> Captured:
    """The graph of one run of a model on the example inputs."""
    given = given_arguments(model, example_inputs)
    recording = record(model, given)
    graph_module = recording.graph_module
    return Captured(graph_module, "record", recording=recording, modes=_modes(model))


def _traced(model: nn.Module, absent: Mapping[str, Any]) -> tuple[Tracer, nn.Module, fx.Graph]:
    """Symbolic tracing of a twin, because forward can set attributes.

    Returns:
        What traced it, the twin, and its graph.
    """
    missing = {name: value for name, value in absent.items() if value is None}
    attempts = [Tracer(missing), Tracer(absent)]
    for tracer in attempts[: 1 + (absent != missing)]:
        twin = clone_tree(model, lambda tensor: tensor)
        try:
            with warnings.catch_warnings():  # of reentrant checkpoints, which see no tensors here
                warnings.filterwarnings("ignore", "None of the inputs have requires_grad")
                graph = tracer.trace(twin)
        except Exception as error:  # noqa: BLE001  # whatever a user's forward raises
            failed, cause = tracer, error
        else:
            return tracer, twin, graph
    raise CaptureError(
        f"{type(model).__name__} cannot be traced symbolically: {first_line(cause)}",
        where=place_of(failed, cause),
        why="its forward does something with tensor values, shapes or types that needs real"
        " tensors",
        hint="move the branch out of forward, mark the function with torch.fx.wrap, or pass a"
        " GraphModule",
    ) from cause


def _check_names(graph: fx.Graph) -> None:
    """Refuse names that Python code cannot have as torch.fx writes them.

    Raises:
        CaptureError: such a name is used.
    """
    for node in graph.nodes:
        if node.op not in {"call_module", "get_attr"}:
            continue
        for part in node.target.split("."):
            is_plain, as_read = part.isidentifier(), unicodedata.normalize("NFKC", part)
            if is_plain and (keyword.iskeyword(part) or as_read != part):
                why = "Python does not take it for the name of an attribute"
            elif not is_plain and any(sign in part for sign in _NOT_IN_QUOTES):
                why = "torch.fx writes it between double quotes into the code that it makes"
            elif node.target == "self":
                why = "torch.fx calls the model so in the code that it makes"
            else:
                continue
            raise CaptureError(
                f"the name {part!r} cannot be in a torch.fx graph",
                where=f"{node.target!r}",
                why=why,
                hint="rename it, as one would name a variable",
            )


def _counters(
    model: nn.Module, traced: nn.Module, absent: Mapping[str, Any], graph: fx.Graph
) -> Sequence[str]:
    """The numbers that a trace changed, if they make the next call another one."""
    before, after = dict(walk(model)), dict(walk(traced))
    changed = [
        f"{path}.{name}".lstrip(".")
        for path in before.keys() & after.keys()
        for name, value in vars(before[path]).items()
        if type(value) in (bool, int, float) and vars(after[path]).get(name) != value
    ]
    if not changed or same_trace(clone_tree(traced, lambda tensor: tensor), absent, graph):
        return ()
    return sorted(changed)


def fixed_flags(model: nn.Module, captured: Captured) -> list[Diagnostic]:
    """What is fixed in the graph and not in the model: the train / eval flag, counts of calls.

    A forward that reads `self.training` leaves a graph of the mode that it was traced in, and
    export and recording always do.
    """
    if captured.rung == "export":
        return [_fixed(captured, "as in every graph of torch.export")]
    if captured.rung == "record":
        return [_fixed(captured, "as in every recording")]
    found = [_counted(name) for name in captured.counters]
    if not captured.flag_readers:
        return found
    twin = clone_tree(model, lambda tensor: tensor)
    for name, module in walk(twin):
        module.training = not captured.modes.get(name, module.training)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if same_trace(twin, captured.absent, captured.graph_module.graph):
            return found
    readers = list(dict.fromkeys(captured.flag_readers))
    return [*found, _fixed(captured, ", ".join(readers[:3]))]


def _counted(name: str) -> Diagnostic:
    return Diagnostic(
        f"forward changes {name} and goes by it: the result computes what the next call would,"
        " again and again",
        hint='pass emit="module", which keeps forward as it is',
    )


def _fixed(captured: Captured, where: str) -> Diagnostic:
    mode = "train" if captured.modes[""] else "eval"
    return Diagnostic(
        f"forward depends on the train / eval flag ({where}): the result computes what the"
        f" model does in {mode} mode, whatever mode it is put into",
        hint="shrink the model in the mode in which the result will run",
    )
