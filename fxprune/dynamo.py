"""The backend "fxprune" of `torch.compile`: pruning between Dynamo and another backend.

Found by its entry point in the group `torch_dynamo_backends`; fxprune need not be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import torch

from fxprune.analysis import analyze
from fxprune.api import as_plan, check_making, shrink
from fxprune.dynamo_graphs import DynamoGraph
from fxprune.errors import InputError, PlanError, shown
from fxprune.meaning import Meaning, Norm
from fxprune.planning import Plan
from fxprune.planning.transferring import transferred
from fxprune.suggestions import nearest
from fxprune.surroundings import undisturbed

if TYPE_CHECKING:
    import os

    from torch import fx

    from fxprune.api import Removal

Compiled = Callable[..., Any]


@dataclass(frozen=True)
class Options:
    """What `torch.compile(model, backend="fxprune", options={...})` takes.

    Attributes:
        plan: a Plan for the model, the path of one, or a dict {module name or pattern: ratio or
            list of output channels}.
        inner: the backend that compiles the pruned graph: a name that `torch.compile` knows, or a
            function of a graph module and its inputs.
        norm: see `fxprune.shrink`.
        verify: likewise.
    """

    plan: Plan | Removal
    inner: str | Compiled = "inductor"
    norm: Norm = "kept"
    verify: bool | Literal["quick"] = True

    @classmethod
    def of(cls, given: Any) -> Options:
        """The options in what `torch.compile` hands on.

        Raises:
            InputError: an option is missing, unknown or of no known value.
            PlanError: the plan's file cannot be read.
        """
        if not isinstance(given, Mapping) or "plan" not in given:
            raise InputError(
                'the backend "fxprune" needs a plan',
                why=f"options is {shown(given)}",
                hint='pass options={"plan": a Plan, its path, or {module: ratio}}',
            )
        names = [field.name for field in fields(cls)]
        for name in given:
            if name not in names:
                raise InputError(
                    f'the backend "fxprune" has no option {name!r}',
                    hint=nearest(str(name), names),
                )
        plan: Plan | str | os.PathLike[str] | Removal = given["plan"]
        made = plan if isinstance(plan, Mapping) else Plan.of(plan)
        options = cls(**{**given, "plan": made})
        Meaning(options.norm)
        check_making("graph", options.verify)
        options.compiler()
        return options

    def compiler(self) -> Compiled:
        """The inner backend.

        Raises:
            InputError: there is none of that name, or it is this one.
        """
        known = [name for name in torch._dynamo.list_backends(()) if name != "fxprune"]
        if isinstance(self.inner, str) and self.inner in known:
            return torch._dynamo.lookup_backend(self.inner)
        if callable(self.inner) and self.inner is not backend:
            return self.inner
        hint = nearest(self.inner, known) if isinstance(self.inner, str) else "pass a name"
        raise InputError(f"inner={shown(self.inner)} is no backend to compile with", hint=hint)


def backend(
    graph_module: fx.GraphModule, example_inputs: Sequence[Any], *, options: Any = None
) -> Compiled:
    """Prune a graph of Dynamo, prove it, and compile what is left with another backend.

    The compiled function takes the model's own dense parameters in every call and takes the kept
    positions of them, so that it goes with whatever becomes of them: new weights that are loaded,
    or steps of an optimizer, whose gradients are those of the kept positions, and zero elsewhere.
    Of buffers that a forward writes to (running statistics in training mode) the kept positions are
    written back.

    Args:
        graph_module: what Dynamo captured; parameters and buffers are inputs of it.
        example_inputs: the values of its inputs.
        options: see `Options`.

    Returns:
        What the inner backend returned, for the pruned graph. A graph without tensors of which the
        plan removes positions is compiled as it is.

    Raises:
        InputError: the options are malformed.
        PlanError: the plan is for another model, or the graph has not all of what it removes,
            because Dynamo broke the model into several graphs.
        RewriteError, VerificationError, AnalysisError: see `fxprune.shrink`. Dynamo makes a
            BackendCompilerFailed of any of them, which has its text.
    """
    chosen = Options.of(options)
    captured = DynamoGraph.of(graph_module, example_inputs)
    if captured.is_concerned(chosen.plan):
        with torch._guards.tracing(None), undisturbed():
            graph_module = _pruned(captured, chosen)
    compiled: Compiled = chosen.compiler()(graph_module, list(example_inputs))
    return compiled


def _pruned(captured: DynamoGraph, options: Options) -> fx.GraphModule:
    dense, values = captured.as_module()
    deps = analyze(dense, values)
    plan = as_plan(deps, options.plan, values)
    plan = transferred(plan, deps)
    layout = plan.layout(deps)
    if layout.emptied:
        raise PlanError(
            f"the plan takes all of {layout.emptied}",
            why="what the branch still adds is a constant of the weights, and these can change",
            hint="shrink the model first, with fxprune.shrink, and compile the result",
        )
    small = shrink(deps, plan, values, norm=options.norm, verify=options.verify)
    pruned = captured.with_inputs(small, layout)
    if options.verify:
        captured.check(pruned, small, layout)
    return pruned
