"""Real calls of models, beside their graphs run node by node."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from fxprune.errors import first_line
from fxprune.inputs import call_arguments
from fxprune.module_trees import clone_tree, eval_clone
from fxprune.passing_weights import PassingWeights
from fxprune.stepping import RESULT, Stepper, run_error, seed
from fxprune.values import copied

if TYPE_CHECKING:
    from collections.abc import Callable

    from fxprune.analysis import DependencyGraph
    from fxprune.module_trees import Convert
    from fxprune.precision import Precision
    from fxprune.reference import QuietMode


MODEL = "the model"


@dataclass(frozen=True)
class RealCalls:
    """What calls of the models return, for comparison with their graphs.

    So a mistake of capture is found (the graph is not what the model does), and a result that
    cannot be called. Each starts from the models' own state, but where a graph writes into its
    parameters: then no call is like the one before, which shows when it goes on from there.

    A model is copied in the precision of the run when it is called, and the copy dropped after.

    Attributes:
        deps: the analysis of the original.
        small: the shrunk model.
        precision: what they are run in.
        quiet: makes the mode to run each of them under.
    """

    deps: DependencyGraph
    small: nn.Module
    precision: Precision
    quiet: Callable[[], QuietMode]

    def result(self, values: Sequence[Any]) -> Any:
        """What a call of the shrunk model returns."""
        return self._called(RESULT, eval_clone(self.small, self.precision.cast), values)

    def pairs(self, values: Sequence[Any]) -> Iterator[tuple[str, Any, Any]]:
        """For each model that has a graph: its name, what the graph yields, what a call returns."""
        if isinstance(self.small, fx.GraphModule):
            stepped, cast = self._stepped(RESULT, values)
            yield RESULT, stepped, self._called(RESULT, eval_clone(self.small, cast), values)
        if self.deps.captured_by != "given":
            stepped, cast = self._stepped(MODEL, values)
            yield MODEL, stepped, self._called(MODEL, as_captured(self.deps, cast), values)

    def stepped(self, name: str, values: Sequence[Any]) -> Any:
        """What the graph of one of the models yields."""
        return self._stepped(name, values)[0]

    def _stepped(self, name: str, values: Sequence[Any]) -> tuple[Any, Convert]:
        """The same, and what casts tensors to those that the run leaves."""
        graph = self.small if name == RESULT else self.deps.graph_module
        assert isinstance(graph, fx.GraphModule)
        told = RESULT if name == RESULT else "the captured graph"
        weights = PassingWeights(graph, self.precision.cast)
        out = Stepper(told, weights.module, copies(values), self.quiet(), weights).run()

        def left(tensor: torch.Tensor) -> torch.Tensor:
            changed = weights.changed.get(id(tensor))
            return torch.as_tensor(self.precision.cast(tensor)) if changed is None else changed

        return out, left

    def _called(self, name: str, model: nn.Module, values: Sequence[Any]) -> Any:
        args, kwargs = call_arguments(self.deps.graph_module, model, copies(values))
        seed()
        try:
            with self.quiet(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the user has seen them
                return model(*args, **kwargs)
        except Exception as error:
            what = f"{name} fails: {first_line(error)}"
            raise run_error(what, of_result=name == RESULT, where="", cause=error) from error


def copies(values: Sequence[Any]) -> list[Any]:
    """Copies of input values, which a model may write into."""
    return [copied(value) for value in values]


def with_own_buffers(module: Any) -> Any:
    """A copy that shares the parameters. Running a graph can update its buffers."""
    return clone_tree(module, lambda t: t if isinstance(t, nn.Parameter) else t.clone())


def as_captured(deps: DependencyGraph, convert: Convert) -> nn.Module:
    """A copy of the user's model whose leaf modules are in eval mode."""
    clone: nn.Module = clone_tree(deps.model, convert)
    set_mode(deps, clone, training=False)
    return clone


def set_mode(deps: DependencyGraph, model: nn.Module, *, training: bool) -> None:
    """Put a model, the original's or a shrunk one, into a mode in which it is as its graph.

    Modules that tracing went through keep their flags, since the graph has fixed those. A graph,
    and a model of which the modules are not known by their names, takes the mode as a whole.
    """
    leaves = {str(n.target) for n in deps.graph_module.graph.nodes if n.op == "call_module"}
    is_whole = isinstance(model, fx.GraphModule) or not leaves <= dict(model.named_modules()).keys()
    for name in [""] if is_whole else leaves:
        for module in model.get_submodule(name).modules():
            module.training = training
