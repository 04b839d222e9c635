"""Running a graph node by node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from fxprune.errors import (
    FxPruneError,
    InputError,
    Location,
    VerificationError,
    first_line,
)
from fxprune.interpretation import decomposed_attention
from fxprune.interpreter import Interpreter
from fxprune.rules import locate
from fxprune.values import mapped, tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fxprune.passing_weights import PassingWeights

RESULT = "the shrunk model"
_OTHER_INPUTS = (
    "the graph holds for inputs of other sizes or numbers: analyze and shrink the model with such"
    ' as these, or pass emit="module"'
)


class OriginalFailsError(InputError):
    """The original cannot be run on these inputs."""


class ResultFailsError(VerificationError):
    """The shrunk model cannot be run at all."""


class RefusedInputsError(ResultFailsError):
    """The shrunk model says that it does not hold for inputs like these."""


def run_error(
    what: str,
    *,
    of_result: bool,
    where: Location | str,
    cause: Exception,
    remedy: str = "",
    hint: str = "",
) -> FxPruneError:
    """The error for a model that raised something.

    `hint` is what to do if that is known, `remedy` what else may help a result if it is not.
    """
    if of_result:
        hint = hint or f"pass the model that was shrunk from this original by this plan{remedy}"
        kind = RefusedInputsError if isinstance(cause, AssertionError) else ResultFailsError
        return kind(what, where=where, why=type(cause).__name__, hint=hint)
    hint = hint or "check that the model runs on these inputs in eval mode"
    return OriginalFailsError(what, where=where, why=type(cause).__name__, hint=hint)


def seed() -> None:
    """As `torch.manual_seed(0)`, which takes a millisecond, for the devices in use."""
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)


class Stepper:
    """Runs a graph node by node, freeing values that no later node needs.

    Args:
        name: what errors call the graph.
        module: the graph.
        values: one for each placeholder.
        mode: what every node is run under; a `RunMode` if there are `weights`.
        weights: those of the graph, if they are there only while they are read.
    """

    def __init__(
        self,
        name: str,
        module: fx.GraphModule,
        values: list[Any],
        mode: Any,
        weights: PassingWeights | None = None,
    ) -> None:
        self.name = name
        self.weights = weights
        self.interpreter = Interpreter(module)
        self.values = iter(values)
        self.mode = mode
        self.nodes = iter(module.graph.nodes)
        self.names = {node.name for node in module.graph.nodes}

    def __iter__(self) -> Iterator[tuple[fx.Node, Any]]:
        for node in self.nodes:
            yield node, self.step(node)

    def step(self, node: fx.Node) -> Any:
        """Run one node."""
        env = self.interpreter.env
        if node.op == "placeholder":
            env[node] = next(self.values)
            return env[node]
        seed()
        if self.weights is not None:
            self.weights.before(node, env)
        try:
            with decomposed_attention(), self.mode:
                env[node] = self.interpreter.run_node(node)
        except Exception as error:
            what = f"{self.name} fails at node {node.name}: {first_line(error)}"
            raise run_error(
                what,
                of_result=self.name == RESULT,
                where=locate(node),
                cause=error,
                hint=_OTHER_INPUTS if node.target is torch._assert else "",
            ) from error
        if self.weights is not None:
            self.weights.after(node, env[node], self.mode.written)
            self.mode.written.clear()
        for done in self.interpreter.user_to_last_uses.get(node, []):
            del env[done]
        return env[node]

    def tried(self, node: fx.Node, copy: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        """What a node would yield, of copies of what it takes; the run stays where it is."""
        env = self.interpreter.env
        taken = {source: env[source] for source in node.all_input_nodes}
        seed()
        try:
            env.update((source, mapped(copy, value)) for source, value in taken.items())
            with decomposed_attention(), self.mode:
                return self.interpreter.run_node(node)
        finally:
            env.update(taken)

    def operands_of(self, name: str) -> list[torch.Tensor]:
        """The tensors that a node takes, running all before it."""
        for node in self.nodes:
            if node.name == name:
                env = self.interpreter.env
                return [t for source in node.all_input_nodes for t in tensors(env[source])]
            self.step(node)
        return []

    def run(self) -> Any:
        """Run the rest; what the output node yields."""
        return [value for _, value in self][-1]

    def advance_to(self, name: str) -> tuple[Any] | None:
        """The value of the node of that name, running all before it; None if there is none."""
        if name not in self.names:
            return None
        for node in self.nodes:
            value = self.step(node)
            if node.name == name:
                return (value,)
        return None
