"""Runs of a model's own forward: with removed positions masked, or as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fxprune.errors import FxPruneError, first_line
from fxprune.inputs import arguments_of_call
from fxprune.interference import PoisonMode
from fxprune.interpretation import decomposed_attention
from fxprune.meaning import Meaning
from fxprune.modes import mode_of
from fxprune.module_trees import tensor_at
from fxprune.reference import QuietMode, put_state
from fxprune.rules import axes_of
from fxprune.stepping import run_error, seed
from fxprune.values import copied, tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fxprune.analysis import DependencyGraph
    from fxprune.folding import Rows
    from fxprune.labels import Axis, LabelAlgebra
    from fxprune.planning import Layout
    from fxprune.precision import Widening

_LARGEST = 1 << 30
"""How many bytes of what modules return are kept; what is beyond that is not compared."""
_REMEDY = (
    "; if forward reads its sizes from attributes, tell with @fxprune.fixer how they follow the"
    ' widths, or pass emit="graph"'
)


@dataclass(frozen=True)
class Part:
    """A tensor that a module took or returned: shape, axes, and the value if it was kept."""

    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    value: torch.Tensor | None = None


@dataclass(frozen=True)
class ModuleCall:
    """One call of a module of the model."""

    path: str
    inputs: tuple[Part, ...]
    outputs: tuple[Part, ...]


@dataclass
class Run:
    """What a call of a model returned, and the calls of its modules in the order of their ends."""

    output: Any = None
    calls: list[ModuleCall] = field(default_factory=list)


@dataclass(frozen=True)
class MaskedModel:
    """The original model, run on real tensors without the removed positions.

    Its own forward runs under the mode of the masked reference, so no graph is involved, and
    whatever forward decides by values it decides anew.
    """

    deps: DependencyGraph
    layout: Layout
    labels: LabelAlgebra
    widening: Widening | None = None
    meaning: Meaning = field(default_factory=Meaning)
    poisoned: bool = False
    constant_rows: Rows | None = None

    def __call__(
        self, model: nn.Module, arguments: Mapping[str, Any], *, values: bool = False
    ) -> Run:
        """Run `model`, a copy of the original.

        Args:
            model: the copy; labels are put on its tensors.
            arguments: values of forward's arguments by name.
            values: whether to keep what modules return.
        """
        found = {name: tensor_at(model, name) for name in self.deps.trace.axes}
        state = {name: tensor for name, tensor in found.items() if tensor is not None}
        put_state(state, self.deps.trace)

        def removed(axis: Axis) -> Any:
            return self.layout.removed_positions(axis, self.labels)

        mode = mode_of(
            self.meaning,
            self.labels,
            removed,
            self.widening,
            poisoned=self.poisoned,
            constant_rows=self.constant_rows,
        )
        if isinstance(mode, PoisonMode):
            mode.poison_all(state.values())

        def part(tensor: torch.Tensor, value: torch.Tensor | None) -> Part:
            return Part(tuple(tensor.shape), tuple(axes_of(tensor, self.labels)), value)

        return run_model("the original", model, arguments, mode, part, values=values)


def without_axes(tensor: torch.Tensor, value: torch.Tensor | None) -> Part:
    """A Part of a model that has no labels."""
    return Part(tuple(tensor.shape), (), value)


def run_model(
    name: str,
    model: nn.Module,
    arguments: Mapping[str, Any],
    mode: Any,
    part: Callable[[torch.Tensor, torch.Tensor | None], Part],
    *,
    values: bool = False,
) -> Run:
    """Run a model under a mode, and note what each of its modules took and returned.

    Raises:
        OriginalFailsError, ResultFailsError: the model fails; says in which module.
    """
    run, running = Run(), list[str]()
    try:
        with _noted(model, run, running, part, values), decomposed_attention():
            run.output = _called(model, arguments, mode)
    except Exception as error:
        raise _failure(name, error, running[-1] if running else "") from error
    return run


def call_model(name: str, model: nn.Module, arguments: Mapping[str, Any]) -> Any:
    """What a plain call returns, without chance.

    Raises:
        OriginalFailsError, ResultFailsError: the model fails.
    """
    try:
        return _called(model, arguments, QuietMode())
    except Exception as error:
        raise _failure(name, error, "") from error


def _called(model: nn.Module, arguments: Mapping[str, Any], mode: Any) -> Any:
    args, kwargs = arguments_of_call(model, {n: copied(v) for n, v in arguments.items()})
    seed()
    with mode:
        return model(*args, **kwargs)


def _failure(name: str, error: Exception, path: str) -> FxPruneError:
    place = f"module {path}" if path else ""
    what = f"{name} fails{' in ' + place if place else ''}: {first_line(error)}"
    of_result = name != "the original"
    return run_error(what, of_result=of_result, where=place, cause=error, remedy=_REMEDY)


@contextmanager
def _noted(
    model: nn.Module,
    run: Run,
    running: list[str],
    part: Callable[[torch.Tensor, torch.Tensor | None], Part],
    values: bool,
) -> Iterator[None]:
    """Hooks that note calls; `running` tells the modules that are being run, also in an error."""
    taken: list[tuple[Part, ...]] = []
    room = [_LARGEST if values else 0]

    def kept(tensor: torch.Tensor) -> torch.Tensor | None:
        room[0] -= tensor.numel() * tensor.element_size()
        return tensor.clone() if room[0] >= 0 else None

    def enter(path: str, args: Any, kwargs: Any) -> None:
        running.append(path)
        taken.append(tuple(part(t, None) for t in tensors([args, kwargs])))

    def leave(path: str, out: Any) -> None:
        while running.pop() != path:  # it failed, and forward went on
            taken.pop()
        with torch.utils._python_dispatch._disable_current_modes():
            outputs = tuple(part(t, kept(t)) for t in tensors(out))
        run.calls.append(ModuleCall(path, taken.pop(), outputs))

    handles = []
    for path, module in model.named_modules():
        handles += [
            module.register_forward_pre_hook(
                lambda _, args, kwargs, path=path: enter(path, args, kwargs), with_kwargs=True
            ),
            module.register_forward_hook(lambda _, __, out, path=path: leave(path, out)),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
