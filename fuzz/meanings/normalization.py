"""Normalizations: statistics over what is kept (norm="kept")."""

from __future__ import annotations

import math
from typing import Any

import torch

from fuzz.masked import Masked, masked, written_out
from fuzz.meanings.reduction import mean, norm, var


@written_out("softmax", "_softmax")
def softmax(x: Masked, dim: int, *_: Any, **__: Any) -> Masked:
    """Over the kept elements."""
    return Masked(x.data.masked_fill(x.gone, -math.inf).softmax(dim), x.gone)


@written_out("log_softmax")
def log_softmax(x: Masked, dim: int, *_: Any, **__: Any) -> Masked:
    """Its logarithm."""
    return Masked(x.data.masked_fill(x.gone, -math.inf).log_softmax(dim), x.gone)


@written_out("softmin")
def softmin(x: Any, dim: int, *_: Any, **__: Any) -> Any:
    """Of the negatives."""
    return (-x).softmax(dim)


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _standardized(x: Masked, dims: Any, eps: float) -> Any:
    spread = (var(x, dims, keepdim=True, correction=0).data + eps).sqrt()
    return Masked((x.data - mean(x, dims, True).data) / spread, x.gone)


@written_out("layer_norm")
def layer_norm(
    x: Masked, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Mean and variance over the trailing dims."""
    dims = tuple(range(-len(normalized_shape), 0))
    return _affine(_standardized(x, dims, eps), weight, bias)


@written_out("rms_norm")
def rms_norm(x: Masked, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """Mean square over the trailing dims."""
    dims = tuple(range(-len(normalized_shape), 0))
    square = mean(Masked(x.data**2, x.gone), dims, True)
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return _affine(Masked(x.data / (square.data + eps).sqrt(), x.gone), weight, None)


@written_out("group_norm")
def group_norm(
    x: Masked, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Mean and variance over the kept channels of each group and all places."""
    shape = (x.shape[0], num_groups, -1, *x.shape[2:])
    parts = Masked(x.data.reshape(shape), x.gone.reshape(shape))
    out = _standardized(parts, tuple(range(2, parts.dim())), eps)
    return _per_channel(out.reshape(x.shape), weight, bias)


def _per_channel(x: Any, weight: Any, bias: Any) -> Any:
    shape = (-1, *[1] * (x.dim() - 2))
    return _affine(x, *(v if v is None else masked(v).view(shape) for v in (weight, bias)))


@written_out("batch_norm")
def batch_norm(
    x: Masked,
    running_mean: Any,
    running_var: Masked,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """With the statistics of the training."""
    assert not training
    centred: Any = _per_channel(x, None, -running_mean)
    scale = Masked((running_var.data + eps).rsqrt(), running_var.gone)
    return _per_channel(_per_channel(centred, scale, None), weight, bias)


@written_out("instance_norm")
def instance_norm(
    x: Masked,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Each channel over its places, or with the statistics of the training."""
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
    return _per_channel(_standardized(x, tuple(range(2, x.dim())), eps), weight, bias)


@written_out("normalize")
def normalize(x: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None) -> Any:
    """Divided by the norm of what is kept."""
    return x / norm(x, p, dim, True).clamp_min(eps)


@written_out("cosine_similarity")
def cosine_similarity(a: Any, b: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """The sum of products, each side divided by its norm."""
    parts = [x / norm(x, 2, dim, True).clamp_min(eps) for x in (a, b)]
    return (parts[0] * parts[1]).sum(dim)


@written_out("_weight_norm")
def weight_norm(v: Any, g: Any, dim: int = 0) -> Any:
    """A weight made of lengths and directions."""
    others = tuple(d for d in range(v.dim()) if d != dim)
    return v * (g / norm(v, 2, others, True))
