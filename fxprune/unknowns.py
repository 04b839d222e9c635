"""Running the original without knowing its inputs: what is a number all the same is a constant.

NaN stands for "not known", for every operator that is let through hands NaN on; what any other
makes of it is not known either. Zero times anything is zero: a weight, the scale of a norm or a
known factor that is zero hides what it is multiplied with.
"""

from __future__ import annotations

import operator
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fxprune.averages import averaged, note
from fxprune.folding import FoldedMode
from fxprune.inputs import materialize
from fxprune.module_trees import eval_clone, named_state
from fxprune.precision import Precision
from fxprune.products import Product
from fxprune.reference import is_state, put_state, relabel
from fxprune.rules import put_value, value_of, written
from fxprune.stepping import OriginalFailsError, Stepper
from fxprune.traces import STATE_NAME
from fxprune.values import mapped, memory, tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from numpy.typing import NDArray
    from torch import fx

    from fxprune.analysis import DependencyGraph
    from fxprune.folding import Rows
    from fxprune.labels import LabelAlgebra
    from fxprune.meaning import Norm
    from fxprune.planning import Layout
    from fxprune.reference import Removed
    from fxprune.rules import Call, Rule

    M = TypeVar("M", bound="UnknownMode")

aten = torch.ops.aten
_SWALLOWS = frozenset(
    {
        *("sign", "sgn", "nan_to_num", "fmax", "fmin", "heaviside", "where", "masked_fill"),
        *("bernoulli", "normal", "uniform", "exponential", "geometric", "cauchy", "log_normal"),
        *("random", "isnan", "zeros_like", "ones_like", "full_like", "empty_like", "rand_like"),
        *("randn_like", "zero", "fill", "threshold", "hardshrink", "softshrink", "copysign"),
    }
)
"""Operators that may make a number of NaN (some of them rightly)."""
_RIGHTLY = frozenset({"zeros_like", "ones_like", "full_like", "zero", "fill", "where"})
"""Those whose number does not depend on what the NaN stands for."""
_HANDS_ON = frozenset(
    {
        *("cat", "stack", "constant_pad_nd", "index", "index_select", "roll", "flip", "repeat"),
        *("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"),
        *("_native_batch_norm_legit", "_batch_norm_no_update", "pixel_shuffle", "clone", "copy"),
        *(f"{kind}_pad{rank}d" for kind in ("replication", "reflection") for rank in (1, 2, 3)),
        *("mean", "sum", "max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool1d"),
        *("avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "native_dropout"),
        *("upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d", "native_layer_norm"),
        *("native_group_norm", "_softmax", "_log_softmax", "_prelu_kernel", "_to_copy", "glu"),
        *("hardswish", "hardsigmoid", "hardtanh", "softplus", "log_sigmoid_forward", "leaky_relu"),
        *("elu", "silu", "mish", "gelu", "relu", "rrelu_with_noise", "celu", "selu", "im2col"),
        *("channel_shuffle", "native_channel_shuffle", "pixel_unshuffle", "unfold", "_unsafe_view"),
        *("unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk"),
    }
)
"""Operators that are no views and not pointwise, whose outcome is NaN where an operand is."""
_FACTORS = {
    aten.mul.Tensor: ("self", "other"),
    aten.mm.default: ("self", "mat2"),
    aten.bmm.default: ("self", "mat2"),
}
"""Operators that sum products of two operands, and add nothing."""
_NORMS = frozenset(name for name in _HANDS_ON if name.endswith("_norm") or "_norm_" in name)
"""Norms with a weight and a bias."""


class UnknownMode(FoldedMode):
    """Runs the original with unknown inputs.

    Rows of weights that make removed channels are zeroed unless what they make is known anyway;
    `constant_rows` tells which, use by use.
    """

    def __init__(
        self,
        labels: LabelAlgebra,
        removed: Removed,
        precision: Precision,
        norm: Norm,
    ) -> None:
        super().__init__(labels, removed, precision.widening(), norm)
        self.precision = precision
        self.node: fx.Node | None = None
        self.touched: Counter[str] = Counter()
        self.unknown: list[torch.Tensor] = []

    def read(self, call: Call, rule: Rule, product: Product, weight: torch.Tensor) -> None:
        """Called for every product of a value and a weight, before it runs."""

    def read_otherwise(self, call: Call, rule: Rule) -> None:
        """Called for every other operator, before it runs."""

    def run(self, call: Call, rule: Rule) -> Any:
        """Run an operator on what is known."""
        self.touched.update(
            getattr(tensor, STATE_NAME) for tensor in call.tensors() if is_state(tensor)
        )
        product = Product.of(call)
        if product is not None:
            out = self.product(call, rule, product)
        else:
            self.read_otherwise(call, rule)
            out = super().run(call, rule)
            self.recall(call, out)
        note(call, out)
        return self.forget(call, product, out)

    def product(self, call: Call, rule: Rule, product: Product) -> Any:
        """A product is known where all that counts of the value is; zeros of a weight do not."""
        masked = self.masked(call, rule)
        self.read(call, rule, product, masked.arg(product.weight))
        out = run_with(masked, {product.x: call.arg(product.x).nan_to_num(nan=0.0)})
        reach = _reach(masked, product)
        return out if reach is None else out.masked_fill_(reach, torch.nan)

    def constant(self, call: Call, product: Product, use: str) -> NDArray[np.bool_]:
        """The rows of a weight that read nothing unknown."""
        reach = _reach(call, product)
        if reach is None:
            found = np.ones(product.channels(call).size, dtype=np.bool_)
        else:
            found = ~by_channel(reach, call).any(1).cpu().numpy()
        self.constant_rows[use] = found
        return found

    def recall(self, call: Call, out: Any) -> None:
        """Put what is known where what is unknown does not count.

        Zeros, or the bias of a norm, where it is multiplied with zero; a constant where it is
        weights of an average of that.
        """
        if call.op in _FACTORS:
            a, b = (call.arg(name) for name in _FACTORS[call.op])
            has_nan = isinstance(b, torch.Tensor) and (_has_nan(a) or _has_nan(b))
            if has_nan and not out.is_complex():
                there = call.op((a != 0).to(out.dtype), (b != 0).to(out.dtype))
                known = (((t != 0) & ~t.isnan()).to(out.dtype) for t in (a, b))
                sums = call.op(*(t.nan_to_num(nan=0.0) for t in (a, b)))
                out.copy_(torch.where(there > call.op(*known) + 0.5, torch.nan, sums))
                if call.op is not aten.mul.Tensor:
                    out.copy_(averaged(call, out))
        elif call.name in _NORMS and call.arg("weight") is not None:
            first, weight, bias = tensors(out)[0], call.arg("weight"), call.arg("bias")
            is_last = call.name == "native_layer_norm"
            shape = weight.shape if is_last else (-1, *[1] * (first.dim() - 2))
            hidden = first.isnan() & (weight == 0).reshape(shape)
            first.copy_(torch.where(hidden, 0 if bias is None else bias.reshape(shape), first))

    def forget(self, call: Call, product: Product | None, out: Any) -> Any:
        """Make NaN of all that may depend on what is not known, or on chance."""
        operands = call.tensors()
        changed = any(is_state(t) for t in written(call.op, call.args, call.kwargs))
        blind = changed or any(self.is_unknown(t) for t in operands)
        by_chance = _is_random(call)
        if not (blind or by_chance or any(map(_has_nan, operands))):
            return out
        hides = blind or not (product is not None or call.op in _FACTORS or _hands_on(call))
        for tensor in tensors(out):
            if not is_float(tensor):
                self.unknown.append(tensor)
                put_value(tensor, None)
            elif hides:
                tensor.fill_(torch.nan)
            elif by_chance:  # dropout leaves zeros what they are
                tensor.masked_fill_(tensor != 0, torch.nan)
        return out

    def is_unknown(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor of integers depends on the inputs, be it by what was written into it."""
        if is_float(tensor):
            return False
        return value_of(tensor) is None or any(memory(tensor) == memory(t) for t in self.unknown)


def is_float(tensor: torch.Tensor) -> bool:
    """Whether a tensor has a number that stands for unknown ones."""
    return tensor.is_floating_point() or tensor.is_complex()


def _has_nan(tensor: torch.Tensor) -> bool:
    return is_float(tensor) and bool(tensor.isnan().any())


def _is_random(call: Call) -> bool:
    """Whether an operator draws random numbers, as dropout that stays on in eval mode does."""
    switches = [call.arg(name) for name in ("train", "training") if call.has(name)]
    return torch.Tag.nondeterministic_seeded in call.op.tags and False not in switches


def _hands_on(call: Call) -> bool:
    """Whether an operator's outcome is NaN wherever it depends on a NaN."""
    name = call.name
    if name in _SWALLOWS:
        return name in _RIGHTLY
    is_view = any(
        r.alias_info is not None and not r.alias_info.is_write for r in call.op._schema.returns
    )
    return is_view or name in _HANDS_ON or torch.Tag.pointwise in call.op.tags


def _reach(call: Call, product: Product) -> torch.Tensor | None:
    """Where a product sums something unknown; None if all is known."""
    x, weight = call.arg(product.x), call.arg(product.weight)
    unknown = x.isnan()
    if not bool(unknown.any()):
        return None
    counts = {product.x: unknown.to(x.dtype), product.weight: (weight != 0).to(x.dtype)}
    unscaled = {"alpha": 1} if call.has("alpha") else {}
    return torch.as_tensor(run_with(call, counts | unscaled, product.bias) > 0.5)


def run_with(call: Call, changes: dict[str, Any], bias: str | None = None) -> Any:
    """A product of other operands; without the bias, if its name is given."""
    if bias is not None and call.arg(bias) is not None:
        old = call.arg(bias)
        changes = {**changes, bias: torch.zeros_like(old) if bias == "self" else None}
    args, kwargs = call.replaced(**changes)
    return call.op(*args, **kwargs)


def by_channel(out: torch.Tensor, call: Call) -> torch.Tensor:
    """The outcome of a product, a row for each channel."""
    moved = out.movedim(1 if call.op is aten.convolution.default else -1, 0)
    return moved.reshape(len(moved), -1)


def run_on_unknown(
    deps: DependencyGraph, values: Sequence[Any], mode_of: Callable[[LabelAlgebra, Precision], M]
) -> M:
    """Run the original with every input unknown, as exactly as it can be run.

    Args:
        deps: the analysis.
        values: one for each placeholder; of tensors only shape and dtype matter.
        mode_of: makes the mode, of the labels and precision of a run.

    Returns:
        The mode, which knows what there was to see.

    Raises:
        OriginalFailsError: the original does not run on such inputs.
    """
    *others, last = Precision.candidates(deps.state.values(), tensors(list(values)))
    for precision in others:
        try:
            return run_in(deps, values, mode_of, precision)
        except OriginalFailsError:
            continue
    return run_in(deps, values, mode_of, last)


def run_in(
    deps: DependencyGraph,
    values: Sequence[Any],
    mode_of: Callable[[LabelAlgebra, Precision], M],
    precision: Precision,
) -> M:
    """As `run_on_unknown`, in a precision."""
    original = eval_clone(deps.graph_module, precision.cast)
    put_state(named_state(original), deps.trace)
    mode = mode_of(deps.trace.labels.copy(), precision)
    inputs = [mapped(_unknown, value) for value in mapped(precision.cast, tuple(values))]
    stepper = Stepper("the original", original, inputs, mode)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for node in original.graph.nodes:
            mode.node = node
            value = stepper.step(node)
            relabel(value, deps.trace.values.get(node.name), mode.labels)
    return mode


def _unknown(value: torch.Tensor) -> torch.Tensor:
    if is_float(value):
        return torch.full_like(value, torch.nan)
    value = value.clone()
    put_value(value, None)
    return value


def unknowable(deps: DependencyGraph, values: Sequence[Any]) -> str:
    """Why constants cannot be told; empty if they can.

    Numbers have no NaN, complex ones no order, and a recording knows one path only.
    """
    if any(tensor.device.type == "meta" for tensor in deps.state.values()):
        return "the model has no data (it is on the meta device): load the weights first"
    if deps.decisions:
        return "forward decides by values, so that what is constant on one path may not be on all"
    if any(t.is_complex() for t in (*deps.state.values(), *tensors(list(values)))):
        return "the model computes with complex numbers"
    nodes = [n for n in deps.graph_module.graph.nodes if n.op == "placeholder"]
    for node, value in zip(nodes, values, strict=True):
        is_used = any(user.target is not operator.eq for user in node.users)
        if isinstance(value, (bool, int, float)) and is_used:
            return f"the graph computes with the number {node.target}, which may be another one"
    return ""


def constant_rows(deps: DependencyGraph, layout: Layout, norm: Norm) -> Rows:
    """Which rows of weights make constants, by the uses of weights that make removed channels.

    None of a model of which that cannot be told: no constants are folded into it, either.
    """
    values = materialize(deps.inputs, seed=0)
    if unknowable(deps, values):
        return {}

    def mode_of(labels: LabelAlgebra, precision: Precision) -> UnknownMode:
        return UnknownMode(
            labels, partial(layout.removed_positions, labels=labels), precision, norm
        )

    try:
        return run_on_unknown(deps, values, mode_of).constant_rows
    except OriginalFailsError:
        return {}
