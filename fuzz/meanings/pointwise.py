"""Functions of single elements: an element of the result is gone if one that it is made of is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fuzz.masked import Masked, data_of, meaning, operands, union, written_out

_OF_SEVERAL = (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "pow", "rpow", "truediv", "rtruediv", "div"),
    *("maximum", "minimum", "gt", "lt", "ge", "le", "eq", "ne", "and", "or", "addcmul", "addcdiv"),
    *("lerp", "where", "masked_fill", "logaddexp", "complex", "polar"),
)
_OF_ONE = (
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus"),
    *("sigmoid", "tanh", "hardtanh", "hardsigmoid", "hardswish", "logsigmoid", "log_sigmoid"),
    *("softsign", "threshold", "_threshold", "exp", "cos", "sin", "square", "abs", "neg", "sqrt"),
    *("rsqrt", "reciprocal", "clamp", "clamp_min", "erf", "expm1", "log1p", "invert", "round"),
    *("double", "float", "to", "clone", "detach", "contiguous", "zeros_like", "ones_like"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "tril", "triu"),
)


@meaning(*_OF_ONE, *_OF_SEVERAL)
def pointwise(func: Any, args: Any, kwargs: Any) -> Masked:
    """One element of each operand makes one of the result."""
    out = func(*data_of(args), **data_of(kwargs))
    return Masked(out, union(out.shape, operands(args, kwargs)))


@meaning(
    *("relu_", "add_", "sub_", "mul_", "div_", "clamp_", "tanh_", "sigmoid_", "exp_", "neg_"),
    *("iadd", "isub", "imul", "itruediv", "copy_", "masked_fill_", "fill_", "zero_", "square_"),
    *("leaky_relu_", "clamp_min_", "addcmul_", "lerp_"),
)
def in_place(func: Any, args: Any, kwargs: Any) -> Masked:
    """Data and mask are written where the first operand lies, which may be a view."""
    target: Masked = args[0]
    func(*data_of(args), **data_of(kwargs))
    for other in operands(args[1:], kwargs):
        target.gone |= other.gone
    return target


@written_out("prelu")
def prelu(x: Any, weight: Any) -> Any:
    """One slope for all, or one for each position of dim 1."""
    if weight.numel() > 1 and x.dim() > 2:
        weight = weight.view(-1, *[1] * (x.dim() - 2))
    return torch.where(x > 0, x, x * weight)


@written_out("glu")
def glu(x: Masked, dim: int = -1) -> Any:
    """The first half times the sigmoid of the second."""
    first, second = x.chunk(2, dim)
    return first * second.sigmoid()


@meaning("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor")
def constant(func: Any, args: Any, kwargs: Any) -> Masked:
    """All positions are there until something is written to them."""
    made: Tensor = func(*data_of(args), **kwargs)
    return Masked.whole(made.zero_() if func.__name__ == "new_empty" else made)


@meaning("view_as_complex")
def view_as_complex(func: Any, args: Any, kwargs: Any) -> Masked:
    """Two numbers, of which both are gone or none, make one."""
    return Masked(func(args[0].data), args[0].gone.any(-1))


@meaning("view_as_real")
def view_as_real(func: Any, args: Any, kwargs: Any) -> Masked:
    """One number makes two."""
    out = func(args[0].data)
    return Masked(out, args[0].gone.unsqueeze(-1).expand(out.shape).contiguous())
