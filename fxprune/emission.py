"""The user's own module, smaller: `emit="module"`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from fxprune.donated_runs import BorrowingMode
from fxprune.errors import InputError, RewriteError, first_line
from fxprune.fixers import Widths, by_name, fixer_of
from fxprune.inputs import materialize, named_values
from fxprune.module_calls import FirstCall, first_calls
from fxprune.module_runs import run_model, without_axes
from fxprune.module_trees import clone_tree, named_tensors, tensor_at, to_meta
from fxprune.passes.align_attributes import set_attributes
from fxprune.passes.slicing import sliced
from fxprune.real_calls import with_own_buffers
from fxprune.reconstruction.noted import note_repaired
from fxprune.reference import QuietMode
from fxprune.stepping import RESULT, ResultFailsError
from fxprune.values import mapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fxprune.analysis import DependencyGraph
    from fxprune.errors import Diagnostic
    from fxprune.passes.donation import Donation, Kept
    from fxprune.planning import Layout
    from fxprune.report import ShrinkReport


def emit_module(
    deps: DependencyGraph,
    layout: Layout,
    values: Sequence[Any] | None,
    donation: Donation | None = None,
) -> nn.Module:
    """A copy of the user's module with sliced tensors and attributes that tell the new widths.

    Its `forward`, methods and state-dict names are the original's. The original is run once, with
    removed positions masked and without data where that works, to learn what each of its modules
    takes and returns.

    Args:
        deps: the analysis of the original.
        layout: what stays.
        values: one for each placeholder of the captured graph; None for random ones (none at all
            if the model is on the meta device).
        donation: of the original, which is to be used up; tensors without data stand for what is
            kept until `donation.fill` takes them.

    Raises:
        RewriteError: the model is a GraphModule, which has no forward but its graph, or a constant
            that forward makes would have to be sliced, or forward cannot take the new widths.
        OriginalFailsError: the original does not run on these inputs.
    """
    model = deps.model
    if isinstance(model, fx.GraphModule):
        raise RewriteError(
            "a GraphModule cannot be emitted as a module",
            why="it has no forward but its graph",
            hint='pass emit="graph"',
        )
    report_of(model)
    if layout.emptied:
        raise RewriteError(
            f"a module cannot be emitted without {layout.emptied}",
            why="nothing would be left there, and its own forward cannot leave a branch out",
            hint='pass emit="graph", or keep at least one channel',
        )
    _check_names(deps, layout)
    arguments = example_arguments(deps, values)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        calls, labels = first_calls(deps, layout, arguments)
        small = _sliced(deps, layout, sliced if donation is None else donation.stand_in)
        _align(small, layout.under(labels), calls)
        del calls, labels  # axes take memory, too
        if donation is None:
            _try(with_own_buffers(small), arguments, QuietMode())
        else:
            _try_donated(deps, small, arguments, donation)
    return small


def example_arguments(deps: DependencyGraph, values: Sequence[Any] | None) -> dict[str, Any]:
    """The values of forward's arguments by name; random ones if there are none."""
    if is_on_meta(deps):
        values = mapped(to_meta, values or materialize(deps.inputs, seed=None))
    elif values is None:
        values = materialize(deps.inputs, seed=0)
    return named_values(deps.graph_module, values)


def is_on_meta(deps: DependencyGraph) -> bool:
    """Whether a model has no values."""
    return any(tensor.device.type == "meta" for tensor in deps.state.values())


def _try(twin: nn.Module, arguments: Mapping[str, Any], mode: QuietMode) -> None:
    """Run a twin of the result once: a forward with sizes of its own may not take the new ones."""
    try:
        run_model(RESULT, twin, arguments, mode, without_axes)
    except ResultFailsError as error:
        raise RewriteError(
            f"forward cannot take the new widths: {error.what}",
            where=error.where,
            why=error.why,
            hint="register what follows from them with @fxprune.fixer, leave these channels alone"
            ' (ignore=, heads=False), or pass emit="graph"',
        ) from error


def _try_donated(
    deps: DependencyGraph, small: nn.Module, arguments: Mapping[str, Any], donation: Donation
) -> None:
    """The same on weights that are sliced as they are read; none may be read in another way."""
    mode = BorrowingMode(donation)
    try:
        _try(mode.twin(small), arguments, mode)
    finally:
        if mode.strays:
            names = {
                id(tensor): name for name, tensor in reversed(named_tensors(deps.model).items())
            }
            name = names.get(id(mode.strays[0]), "a weight")
            raise RewriteError(
                f"forward reads {name} from a place where no copy of the module looks",
                why="the result would go on reading it there, and it is to be given up",
                hint="keep it in a parameter, buffer, list or dict of a module, or shrink without"
                " donate=True",
            )


def _check_names(deps: DependencyGraph, layout: Layout) -> None:
    for name in layout.slices:
        if tensor_at(deps.model, name) is None:
            raise RewriteError(
                f"{name} would have to lose positions, and is no tensor of the model",
                why="forward makes it anew in every call",
                hint='pass emit="graph", or register it as a buffer',
            )


def _sliced(
    deps: DependencyGraph, layout: Layout, taken: Callable[[torch.Tensor, Kept], torch.Tensor]
) -> nn.Module:
    kept = {
        id(tensor_at(deps.model, name)): [layout.kept(axis) for axis in axes]
        for name, axes in deps.trace.axes.items()
    }
    return clone_tree(deps.model, lambda tensor: taken(tensor, kept.get(id(tensor), ())))


def _align(small: nn.Module, layout: Layout, calls: Mapping[str, FirstCall]) -> None:
    for path, module in small.named_modules():
        call = calls.get(path)
        taken = call.taken if call is not None else None
        returned = call.returned if call is not None else None
        widths = Widths(layout, path, taken, returned)
        fix = fixer_of(module)
        try:
            wanted = by_name(module, widths) if fix is None else fix(module, widths)
        except RewriteError:
            if call is not None:  # what is never called may be as it likes
                raise
            continue
        except Exception as error:
            raise RewriteError(
                f"the fixer of {type(module).__name__} fails for module {path}:"
                f" {first_line(error)}",
                why=type(error).__name__,
                hint="correct the function that was registered with @fxprune.fixer",
            ) from error
        set_attributes(module, wanted)


def report_of(model: nn.Module) -> dict[str, Any]:
    """The place for a report where GraphModules have it: `model.meta`.

    Raises:
        InputError: the model has something else there.
    """
    meta = vars(model).get("meta", {})
    if not isinstance(meta, dict) or getattr(model, "meta", meta) is not meta:
        raise InputError(
            "the model has an attribute `meta` of its own, so the report has no place",
            hint='rename it, or pass emit="graph"',
        )
    return meta


def put_report(model: nn.Module, report: ShrinkReport) -> None:
    """Put a report into `model.meta["fxprune"]`, and what it says of repairs beside it."""
    vars(model)["meta"] = {**report_of(model), "fxprune": report}
    note_repaired(model, report.repaired)


def refuse_exact(renormalized: Sequence[Diagnostic]) -> None:
    """A module's own forward cannot be told to use another width than that of its operands.

    Raises:
        RewriteError: it has statistics over a pruned axis.
    """
    if renormalized:
        raise RewriteError(
            'a module cannot be emitted with norm="exact"',
            where=renormalized[0].where,
            why="its own forward takes statistics over the width that it gets, here for one",
            hint='pass emit="graph", norm="kept", or ignore the groups that reach it',
        )


def refuse_decisions(deps: DependencyGraph) -> None:
    """A graph of one run is wrong wherever another value leads elsewhere.

    Raises:
        RewriteError: the recording holds for its inputs only.
    """
    if deps.captured_by == "record" and deps.decisions:
        first = deps.decisions[0]
        raise RewriteError(
            "the graph holds for these example inputs only",
            where=first.where,
            why=first.what,
            hint='pass emit="module", which keeps forward as it is',
        )
