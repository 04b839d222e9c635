"""Proof of gradients: those of kept parameters are the masked original's.

The mode of the reference works below autograd, which would not see its zeros. So the original is
traced to the operators that it consists of, and these are run one by one, masked where autograd
looks on. Both models get the same output gradients, at random.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fxprune.comparison import UnprovableError
from fxprune.decompositions import decomposed
from fxprune.differences import largest
from fxprune.errors import FxPruneError, VerificationError, first_line
from fxprune.gradient_runs import MaskedRun, SeveredRun
from fxprune.inputs import call_arguments
from fxprune.interpretation import decomposed_attention
from fxprune.modes import mode_of
from fxprune.module_trees import clone_tree, named_state, tensor_at
from fxprune.planning.branches import state_of_numbers
from fxprune.real_calls import copies, set_mode
from fxprune.reference import QuietMode, put_state, run_quietly
from fxprune.rounding import CAP, FACTOR, RUNS
from fxprune.rules import Call, lookup
from fxprune.stepping import OriginalFailsError, ResultFailsError, seed
from fxprune.values import mapped, taken, tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._ops import OpOverload

    from fxprune.comparison import Claim
    from fxprune.input_sets import Inputs
    from fxprune.precision import Precision
    from fxprune.reference import MaskedMode

Gradients = dict[str, torch.Tensor]
"""The gradient of each parameter, by name."""
_DIFFERS = "train the original, and shrink it afterwards; and please report this"
_LOST = (
    "it gets no gradient at all: if you froze it after shrinking (requires_grad_(False)), freeze it"
    " in the original, too, or verify before; else please report this"
)
_DROPOUTS = frozenset(
    {
        *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout),
        *(F.feature_alpha_dropout, torch.dropout, torch.dropout_, torch.feature_dropout),
        *(torch.alpha_dropout, torch.feature_alpha_dropout, torch.native_dropout),
    }
)


class _NoDropout(TorchFunctionMode):
    """Dropout that a forward calls as a function passes its input, for autograd too."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            args = (*args[:4], 0.0, *args[5:]) if len(args) > 4 else args
            kwargs = {name: v for name, v in kwargs.items() if name != "dropout_p"}
        return func(*args, **kwargs)


class _Decomposing(QuietMode):
    """Runs operators without chance, and those without a rule by their decomposition."""

    def __init__(self, labels: Any, widening: Any) -> None:
        super().__init__(widening)
        self.labels = labels

    def run_operator(self, func: OpOverload, args: Any, kwargs: Any) -> Any:
        if lookup(func) is None:
            with self:
                out = decomposed(Call(self.labels, func, args, kwargs))
            if out is not NotImplemented:
                return out
        return super().run_operator(func, args, kwargs)


def check_gradients(
    claim: Claim,
    small: nn.Module,
    precision: Precision,
    values: Inputs,
    tolerance: float,
    *,
    known_parts: bool = True,
) -> tuple[int, float]:
    """Compare the gradients of kept positions, in training mode where that is possible.

    Graphs that torch.export made, or that were recorded, have the mode that they were made in.
    Where branches lose all their channels, what they still add is a constant of eval mode.

    Args:
        claim: the original, what stays, and what that means.
        small: the shrunk model, which is not changed.
        precision: what both are run in.
        values: one for each placeholder.
        tolerance: the difference that is rounding, relative to the largest gradient of all: one
            that is zero but for rounding is no measure for itself.
        known_parts: whether all parameters have the names of the original's; if not, those that
            have are compared. Where branches lose all their channels, what they still add may be
            a constant, which follows no parameter.

    Returns:
        How many parameters were compared, and the largest difference.

    Raises:
        VerificationError: a gradient differs; names the parameter.
        OriginalFailsError: the original cannot be differentiated on these inputs.
        ResultFailsError: the shrunk model cannot, although the original can.
    """
    check = _GradientCheck(claim, small, precision, tolerance, known_parts)
    given = claim.deps.captured_by in ("export", "record") or claim.meaning.constants == "fold"
    if not (given or claim.layout.emptied):
        try:
            return check(values, training=True)
        except (OriginalFailsError, UnprovableError):
            pass  # batch norm over one value for each channel, or so few that rounding is all
    return check(values, training=False)


@dataclass(frozen=True)
class _GradientCheck:
    """Both models, and how precisely their gradients are compared."""

    claim: Claim
    small: nn.Module
    precision: Precision
    tolerance: float
    known_parts: bool
    traced: dict[Any, Any] = field(default_factory=dict)
    changed: dict[bool, list[Gradients]] = field(default_factory=dict)

    def __call__(self, values: Inputs, *, training: bool) -> tuple[int, float]:
        """Compare the gradients of both models in one mode."""
        self.refuse_gradients_of_its_own(values, training)
        expected = self.expected(values, training, self.precision)
        try:
            got = self.called(self.small, values, training)
        except Exception as error:
            raise ResultFailsError(
                f"the shrunk model cannot be differentiated: {first_line(error)}",
                why=type(error).__name__,
                hint="shrink a model after training, and please report this",
            ) from error
        scale = _largest_of(expected)
        if not math.isfinite(scale):
            raise UnprovableError("gradients of the original are not finite")
        deps, layout = self.claim.deps, self.claim.layout
        severed: Gradients = {}
        numeric = state_of_numbers(deps.graph_module.graph, layout) if layout.emptied else ()
        count, worst = 0, 0.0
        for name, gradient in expected.items():
            is_lost = name not in got and not (self.known_parts and gradient.any())
            if is_lost or deps.trace.tied.get(name) in numeric:
                continue
            found = got.get(name, torch.zeros_like(gradient))
            off = _distance(gradient, found, scale)
            if off > self.tolerance and layout.emptied:
                severed = severed or self.expected(values, training, self.precision, severed=True)
                off = min(off, _distance(severed[name], found, scale))
                if not off and name not in got:
                    continue
            count += 1
            if off > self.tolerance and not self.explains(values, training, name, off, scale):
                raise VerificationError(
                    f"the gradient of {name} differs from the original's by {off:.2e} of the"
                    f" largest gradient, more than {self.tolerance:.0e}",
                    where=f"parameter {name}",
                    why=self.claim.told_groups(self.claim.deps.trace.axes.get(name, ())),
                    hint=_DIFFERS if name in got else _LOST,
                )
            worst = max(worst, off)
        return count, worst

    def refuse_gradients_of_its_own(self, values: Inputs, training: bool) -> None:
        """The operators of the original are no reference where forward hides them from autograd.

        `no_grad` and functions with a backward of their own leave no trace in a graph.
        """
        traced = self.expected(values, training, self.precision, masked=False)
        with _differentiating():
            own = self.called(self.claim.deps.model, values, training)
        scale = _largest_of(traced)
        for name, gradient in traced.items():
            called = own.get(name, torch.zeros_like(gradient))
            if not _distance(gradient, called, scale) <= CAP:
                raise UnprovableError("forward has gradients of its own, which no graph keeps")

    def explains(
        self, values: Inputs, training: bool, name: str, error: float, scale: float
    ) -> bool:
        """Whether last bits of weights and inputs change the original's gradient as much.

        Raises:
            UnprovableError: they do, and by more than is ever taken for rounding.
        """
        if training not in self.changed:
            precisions = [self.precision, *map(self.precision.seeded, range(RUNS))]
            self.changed[training] = [self.expected(values, training, p) for p in precisions]
        plain, *changed = (gradients[name] for gradients in self.changed[training])
        noise = max(_distance(plain, other, scale) for other in changed)
        if CAP < error <= FACTOR * noise:
            raise UnprovableError(
                f"gradients are too ill-conditioned: that of {name} changes by {noise:.0e} with the"
                " last bits of the weights"
            )
        return error <= FACTOR * noise

    # -- the original -----------------------------------------------------------------------

    def expected(
        self,
        values: Inputs,
        training: bool,
        precision: Precision,
        *,
        masked: bool = True,
        severed: bool = False,
    ) -> Gradients:
        """The gradients of kept positions of the masked original, or all without masks.

        With `severed`, what a branch that has gone still adds is a constant.
        """
        with _differentiating():
            values = mapped(precision.cast, values)
            return self._expected(values, training, precision, masked, severed)

    def _expected(
        self, values: Inputs, training: bool, precision: Precision, masked: bool, severed: bool
    ) -> Gradients:
        deps, layout = self.claim.deps, self.claim.layout
        labels = deps.trace.labels.copy()
        key = training, precision
        if key not in self.traced:  # once with masks and once without them
            original = self.copy(deps.graph_module, training, precision)
            put_state(named_state(original), deps.trace)
            quiet = _Decomposing(labels, precision.widening())
            self.traced.clear()
            self.traced[key] = original, *_operators(original, values, quiet)
        original, names, flat, graph = self.traced[key]

        def run(runner: MaskedRun) -> tuple[Any, Mapping[str, torch.Tensor]]:
            leaves = _leaves(names, flat, original)
            given = flat[len(names) :]  # the run may write into buffers and inputs
            state = {
                name: leaves[name] if name in leaves else tensor.clone()
                for name, tensor in zip(names, flat, strict=False)
            }
            put_state(state, deps.trace)
            with torch.enable_grad():
                return runner.run(*state.values(), *(t.clone() for t in given)), leaves

        if not masked:
            outputs, leaves = run(MaskedRun(graph, run_quietly, labels))
            return _gradients(tensors(outputs), leaves)
        removed = partial(layout.removed_positions, labels=labels)
        mode = mode_of(self.claim.meaning, labels, removed)

        def run_masked(func: OpOverload, args: Any, kwargs: Any) -> Any:
            if training and mode.norm == "exact":
                _refuse_places(mode, Call(labels, func, args, kwargs))
            return mode.run_operator(func, args, kwargs)

        first = MaskedRun(graph, run_masked, labels)
        outputs, leaves = run(first)
        if severed:
            outputs, leaves = run(
                SeveredRun(graph, run_masked, labels, first.axes, removed=removed, state=len(names))
            )
        elif first.has_learned(removed):
            outputs, leaves = run(MaskedRun(graph, run_masked, labels, first.axes))
        found = _gradients(tensors(outputs), leaves)
        return {n: self._kept(n, gradient) for n, gradient in found.items()}

    def _kept(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        """The kept positions of a gradient."""
        for dim, axis in enumerate(self.claim.deps.trace.axes[name]):
            positions = self.claim.layout.kept(axis)
            if positions is not None:
                index = torch.from_numpy(positions).to(gradient.device)
                gradient = taken(gradient, dim, index)
        return gradient

    # -- real calls -------------------------------------------------------------------------

    def called(self, model: nn.Module, values: Inputs, training: bool) -> Gradients:
        """The gradients of a real call of a model, the shrunk one or the user's."""
        model = self.copy(model, training, self.precision)
        given = copies(mapped(self.precision.cast, values))
        args, kwargs = call_arguments(self.claim.deps.graph_module, model, given)
        leaves = {name: p for name, p in model.named_parameters() if p.requires_grad}
        with torch.enable_grad(), decomposed_attention(), _NoDropout():
            with QuietMode(self.precision.widening()):
                seed()
                outputs = tensors(model(*args, **kwargs))
            return _gradients(outputs, leaves)

    def copy(self, model: Any, training: bool, precision: Precision) -> Any:
        """A copy of a model in a mode, whose layers drop nothing out."""
        clone = clone_tree(model, precision.cast)
        set_mode(self.claim.deps, clone, training=training)
        for child in clone.modules():
            if isinstance(child, nn.modules.dropout._DropoutNd):
                child.p = 0.0
            elif isinstance(child, (nn.MultiheadAttention, nn.RNNBase)):
                child.dropout = 0.0
        return clone


def _refuse_places(mode: MaskedMode, call: Call) -> None:
    """A batch norm over pruned places has exact statistics in eval mode only, where it has none."""
    rule = lookup(call.op)
    across = rule.normalizes(call) if rule is not None and "batch_norm" in call.name else ()
    if any(mode.gone(call, name, dim) is not None for name, dim in across):
        raise OriginalFailsError("a batch norm looks across pruned places in training mode")


@contextmanager
def _differentiating() -> Iterator[None]:
    """Whatever the original raises says that it has no gradients here."""
    try:
        yield
    except FxPruneError:
        raise
    except Exception as error:
        raise OriginalFailsError(
            f"the original cannot be differentiated: {first_line(error)}",
            why=type(error).__name__,
        ) from error


def _operators(
    original: fx.GraphModule, values: Inputs, mode: QuietMode
) -> tuple[list[str], list[torch.Tensor], fx.GraphModule]:
    """The operators of a run.

    Returns:
        The names of parameters and buffers; these and the tensors of the inputs; the graph, which
        takes all of them.
    """
    state = {**dict(original.named_parameters()), **dict(original.named_buffers())}
    names = list(state)
    given = tensors(list(values))
    flat = [*(tensor.detach() for tensor in state.values()), *given]

    def run(*tensors_given: torch.Tensor) -> list[torch.Tensor]:
        own = dict(zip(names, tensors_given, strict=False))
        rest = iter(tensors_given[len(names) :])
        inputs = mapped(lambda _: next(rest), tuple(values))
        args, kwargs = call_arguments(original, original, inputs)
        with _NoDropout(), mode:
            seed()
            return tensors(torch.func.functional_call(original, own, tuple(args), kwargs))

    with torch.no_grad(), decomposed_attention():
        # an empty table, because torch's own turns a detach into something that passes gradients
        traced = make_fx(run, decomposition_table={}, tracing_mode="real")
        graph = traced(*[tensor.clone() for tensor in flat])
    return names, flat, graph


def _leaves(
    names: Sequence[str], flat: Sequence[torch.Tensor], original: nn.Module
) -> dict[str, torch.Tensor]:
    """The parameters that autograd follows."""
    found = {}
    for name, tensor in zip(names, flat, strict=False):
        own = tensor_at(original, name)
        if isinstance(own, nn.Parameter) and own.requires_grad:
            found[name] = tensor.detach().clone().requires_grad_()
    return found


def _gradients(outputs: Sequence[torch.Tensor], leaves: Mapping[str, torch.Tensor]) -> Gradients:
    """Gradients of a random weighted sum of the outputs; zero where there is no way to it."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for out in outputs:
        if not out.requires_grad:
            continue
        with torch.enable_grad():
            real = torch.view_as_real(out.resolve_conj()) if out.is_complex() else out
            weight = torch.randn(real.shape, generator=generator, dtype=torch.float64)
            parts.append((real * weight.to(real)).sum())
    if not parts or not leaves:
        return {}
    found = torch.autograd.grad(
        parts, list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    return dict(zip(leaves, found, strict=True))


def _largest_of(gradients: Gradients) -> float:
    return max((largest(g) for g in gradients.values() if g.numel()), default=0.0)


def _distance(expected: torch.Tensor, got: torch.Tensor, scale: float) -> float:
    if expected.shape != got.shape:
        return float("inf")
    if not expected.numel():
        return 0.0
    error = largest(expected - got) / (scale or 1.0)
    return float("inf") if math.isnan(error) else error
