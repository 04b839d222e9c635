"""Each repair, at the example's batch and resolution and at others.

A shrunk model is compared with the original in which all that was removed is zero.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

import fxprune
from fxprune import RewriteError
from fxprune.planning import Plan
from models_zoo import ZOO, randomize
from tests.passes.models import (
    EXAMPLE,
    OTHER_SHAPES,
    Between,
    Operator,
    assert_computes_the_original,
    between,
    call,
    conv,
    conv1d,
    images,
    linear,
)

Case = tuple[Operator, nn.Module]


def shrunk(
    operator: Operator, head: nn.Module, width: int = 12, example: Tensor = EXAMPLE, **options: Any
) -> Any:
    """The model around an operator, its plan and what `shrink` makes of both."""
    model = between(operator, head, width)
    deps = fxprune.analyze(model, example)
    plan = fxprune.plan(deps, **({"ratio": 0.5} | options))
    return model, plan, fxprune.shrink(deps, plan, verify=False)


def assert_repaired(operator: Operator, head: nn.Module, **options: Any) -> None:
    model, plan, small = shrunk(operator, head, **options)
    assert any(group.removed for group in plan.groups.values())
    assert_computes_the_original(model, plan, small, [EXAMPLE, *OTHER_SHAPES])
    before = fxprune.analyze(model, EXAMPLE).graph_module
    assert aten_calls(small) <= aten_calls(before), "lowered, though there is a repair"


def aten_calls(graph_module: fx.GraphModule) -> set[Any]:
    """The ATen operators that a graph calls."""
    targets = {node.target for node in graph_module.graph.nodes}
    return {target for target in targets if isinstance(target, torch._ops.OpOverload)}


# -- operators that name sizes --------------------------------------------------------------


def shuffled(m: Between, x: Tensor) -> Tensor:
    batch, channels, height, width = x.size()
    x = x.view(batch, 3, channels // 3, height, width).transpose(1, 2)
    return x.reshape(batch, channels, height, width)


def squares(m: Between, x: Tensor) -> Tensor:
    x = x.unsqueeze(1).flatten(1, 2)  # the new axis might have more positions another time
    pooled = x.mean((2, 3))
    pairs = pooled.unsqueeze(1) * pooled.unsqueeze(2)
    return pairs.view(x.size(0), x.size(1), x.size(1)).sum(1)


SIZES: dict[str, Case] = {
    "view by a literal": (lambda m, x: x.view(x.size(0), 12, -1), conv1d(12)),
    "view by a list": (lambda m, x: x.view([x.size(0), 12, -1]), conv1d(12)),
    "view by a size": (lambda m, x: x.view(x.size(0), x.size(1), -1), conv1d(12)),
    "view by sizes and a product": (
        lambda m, x: x.view(x.shape[0], x.shape[1], x.shape[2] * x.shape[3]),
        conv1d(12),
    ),
    "view by another's shape": (lambda m, x: (x * 2).view(x.shape), conv(12)),
    "view by a part of a shape": (
        lambda m, x: x.view(operator.add(x.shape[:2], (-1,))),
        conv1d(12),
    ),
    "view back from single channels": (
        lambda m, x: x.reshape(-1, 1, x.size(2), x.size(3)).view(-1, 12, x.size(2), x.size(3)),
        conv(12),
    ),
    "view that flattens": (
        lambda m, x: F.adaptive_avg_pool2d(x, 2).view(x.size(0), -1),
        linear(48),
    ),
    "view that flattens to a literal": (
        lambda m, x: F.adaptive_avg_pool2d(x, 2).view(-1, 48),
        linear(48),
    ),
    "view that flattens to a product": (
        lambda m, x: F.adaptive_avg_pool2d(x, 2).view(x.size(0), x.size(1) * 4),
        linear(48),
    ),
    "view as a channel shuffle": (shuffled, conv(12)),
    "reshape by a literal": (
        lambda m, x: x.permute(0, 2, 3, 1).reshape(x.size(0), -1, 12),
        linear(12),
    ),
    "reshape by a keyword": (
        lambda m, x: torch.reshape(x.flatten(2), shape=(-1, 12, x.size(2), x.size(3))),
        conv(12),
    ),
    "expand": (
        lambda m, x: x.mean((2, 3), keepdim=True).expand(-1, 12, x.size(2), x.size(3)),
        conv(12),
    ),
    "expand of a parameter": (
        lambda m, x: torch.cat([m.token.expand(x.shape[0], -1, 12), x.flatten(2).mT], dim=1),
        linear(12),
    ),
    "broadcast_to": (
        lambda m, x: torch.broadcast_to(
            x.mean((2, 3), keepdim=True), (x.size(0), 12, x.size(2), x.size(3))
        ),
        conv(12),
    ),
    "unflatten": (lambda m, x: x.unflatten(1, (3, 4)).flatten(1, 2), conv(12)),
    "unflatten with a rest": (lambda m, x: x.unflatten(1, (3, -1)).flatten(1, 2), conv(12)),
    "unflatten by keywords": (
        lambda m, x: x.unflatten(dim=-3, sizes=(2, 6)).flatten(1, 2),
        conv(12),
    ),
    "new_zeros": (
        lambda m, x: torch.cat([x, x.new_zeros(x.size(0), 4, x.size(2), x.size(3))], 1),
        conv(16),
    ),
    "new_ones by a tuple": (
        lambda m, x: torch.cat([x, x.new_ones((x.size(0), 4, x.size(2), x.size(3)))], 1),
        conv(16),
    ),
    "new_full": (
        lambda m, x: torch.cat([x, x.new_full((x.size(0), 4, x.size(2), x.size(3)), 2.0)], 1),
        conv(16),
    ),
    "repeat of all channels": (lambda m, x: x.repeat(1, 2, 1, 1), conv(24)),
    "view that merges batch and channels": (
        lambda m, x: x.reshape(x.size(0) * x.size(1), 1, x.size(2), x.size(3)).reshape(x.size()),
        conv(12),
    ),
    "view by a product beside a rest": (
        lambda m, x: x.view(x.size(0) * x.size(1), -1).relu().view(x.size(0), 12, -1),
        conv1d(12),
    ),
    "view that merges channels and rows": (
        lambda m, x: x.reshape(x.size(0), x.size(1) * x.size(2), x.size(3)).reshape(x.size()),
        conv(12),
    ),
    "ones": (
        lambda m, x: torch.cat(
            [x, torch.ones((x.size(0), 4, x.size(2), x.size(3)), dtype=x.dtype)], 1
        ),
        conv(16),
    ),
    "zeros by a keyword": (
        lambda m, x: torch.cat(
            [x, torch.zeros(size=(x.size(0), 4, x.size(2), x.size(3)), dtype=x.dtype)], 1
        ),
        conv(16),
    ),
    "zeros by another's shape": (
        lambda m, x: torch.cat([x, torch.zeros(x.shape, dtype=x.dtype)], 1),
        conv(24),
    ),
    "full": (
        lambda m, x: torch.cat(
            [x, torch.full((x.size(0), 4, x.size(2), x.size(3)), 2.0, dtype=x.dtype)], 1
        ),
        conv(16),
    ),
    "repeat_interleave": (lambda m, x: x.repeat_interleave(2, 1), conv(24)),
    "view by the shape of what stays wide": (
        lambda m, x: x.mean((2, 3)).view(m.token.expand(x.size(0), 1, 12).shape),
        linear(12),
    ),
    "view by two sizes of what stays wide": (
        lambda m, x: x.mean((2, 3), keepdim=True).view(m.token[0].expand(x.size(0), 12).shape),
        linear(12),
    ),
    "view as one axis": (lambda m, x: x.reshape(x.numel()).relu().view(x.shape), conv(12)),
    "view by two sizes that may have more factors": (
        squares,
        linear(12),
    ),
    "unflatten by one computed size": (
        lambda m, x: (y := x.flatten(0, 1)).unflatten(0, (y.size(0),)).view(x.shape),
        conv(12),
    ),
}


COPIES: dict[str, Case] = {
    "expand of one channel to many": (lambda m, x: x[:, 3:4].expand(-1, 12, -1, -1), conv(12)),
    "repeat of one channel": (lambda m, x: x[:, 3:4].repeat(1, 12, 1, 1), conv(12)),
    "tile of one channel": (lambda m, x: torch.tile(x[:, 3:4], (12, 1, 1)), conv(12)),
    "repeat by a list": (lambda m, x: x[:, 3:4].repeat([1, 12, 1, 1]), conv(12)),
    "repeat along a new axis": (
        lambda m, x: x[:, 3].repeat(12, 1, 1, 1).transpose(0, 1),
        conv(12),
    ),
    "repeat behind a new axis": (
        lambda m, x: x[:, 3:4].repeat(2, 1, 12, 1, 1).sum(0),
        conv(12),
    ),
    "repeat by sizes": (
        lambda m, x: x[:, 3:4].mean((2, 3), keepdim=True).repeat(1, 12, x.size(2), x.size(3)),
        conv(12),
    ),
    "tile by a keyword": (lambda m, x: torch.tile(x[:, 3:4], dims=(12, 1, 1)), conv(12)),
    "repeat_interleave of one channel": (
        lambda m, x: x[:, 3:4].repeat_interleave(12, dim=1),
        conv(12),
    ),
    "repeat_interleave of one channel from the end": (
        lambda m, x: x[:, 3:4].repeat_interleave(repeats=12, dim=-3, output_size=12),
        conv(12),
    ),
    "repeat_interleave of all that there is": (
        lambda m, x: x.mean((2, 3))[:, 3].repeat_interleave(12).reshape(-1, 12),
        linear(12),
    ),
}


@pytest.mark.parametrize("ratio", [0, 0.5])
@pytest.mark.parametrize("name", COPIES)
def test_copies_of_a_channel_can_go_alone_or_with_channels(name: str, ratio: float) -> None:
    deps = fxprune.analyze(between(*COPIES[name]), EXAMPLE)
    ratios = {group.name: 0.5 for group in deps.groups if group.kind == "copies"}
    assert ratios
    assert_repaired(*COPIES[name], ratio=ratio, ratios=ratios)


def test_a_rest_stays_a_rest_if_a_literal_beside_it_shrinks_too() -> None:
    def regrouped(m: Between, x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 3, 1).reshape(-1, 3)
        return rows.relu().view(x.size(0), -1, 12)

    assert_repaired(regrouped, linear(12), groups=True)


@pytest.mark.parametrize("name", SIZES)
def test_an_operator_that_names_sizes_gets_the_new_ones(name: str) -> None:
    assert_repaired(*SIZES[name])


@pytest.mark.parametrize("name", ["view that flattens to a literal", "expand of a parameter"])
def test_the_repairs_hold_for_any_choice_of_channels(name: str) -> None:
    for seed in range(4):
        assert_repaired(*SIZES[name], criterion="random", seed=seed)


def test_only_the_size_that_is_wrong_is_written_anew() -> None:
    small = shrunk(lambda m, x: x.view(x.size(0), 12, -1), conv1d(12))[2]
    batch, width, rest = call(small, "view").args[1:]
    assert (batch.name, width, rest) == ("size", 6, -1)


def test_a_computed_size_becomes_the_rest() -> None:
    small = shrunk(*SIZES["view that flattens to a product"])[2]
    assert call(small, "view").args[2] == -1


def test_sizes_in_a_list_stay_in_a_list() -> None:
    small = shrunk(*SIZES["view by a list"])[2]
    sizes = call(small, "view").args[1]
    assert list(sizes)[1:] == [6, -1]


@pytest.mark.parametrize("zoo_name", ["glu_maxout", "pixel_shuffle_focus", "flatten_concat_nhwc"])
def test_views_of_the_zoo_are_repaired(zoo_name: str) -> None:
    entry = ZOO[zoo_name]
    model = randomize(entry.build()).eval()
    plan = fxprune.plan(model, entry.example_inputs(), 0.5)
    assert fxprune.shrink(model, plan).meta["fxprune"].verification.every_node


def test_pairs_of_a_maxout_can_go_as_a_whole() -> None:
    def maxout(m: Between, x: Tensor) -> Tensor:
        return x.view(x.size(0), x.size(1) // 2, 2, x.size(2), x.size(3)).amax(2)

    assert_repaired(maxout, conv(6), ratio=0, ratios={"stem": 0.5})


def test_a_functional_layer_norm_gets_the_new_shape() -> None:
    def norm(m: Between, x: Tensor) -> Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), (12,))

    model, plan, small = shrunk(norm, linear(12))
    assert call(small, "layer_norm").args[1] == (6,)
    kept = [c for c in range(12) if c not in plan.groups["stem"].removed]
    with torch.no_grad():
        for x in (EXAMPLE, *OTHER_SHAPES):
            normed = F.layer_norm(model.stem(x)[:, kept].permute(0, 2, 3, 1), (6,))
            expected = F.linear(normed, model.head.weight[:, kept], model.head.bias)
            torch.testing.assert_close(small(x), expected)


def test_a_functional_rms_norm_gets_the_new_shape() -> None:
    def norm(m: Between, x: Tensor) -> Tensor:
        return F.rms_norm(x.permute(0, 2, 3, 1), normalized_shape=(12,))

    model, plan, small = shrunk(norm, linear(12))
    kept = [c for c in range(12) if c not in plan.groups["stem"].removed]
    with torch.no_grad():
        for x in (EXAMPLE, *OTHER_SHAPES):
            normed = F.rms_norm(model.stem(x)[:, kept].permute(0, 2, 3, 1), (6,))
            expected = F.linear(normed, model.head.weight[:, kept], model.head.bias)
            torch.testing.assert_close(small(x), expected)


GROUPS: dict[str, Case] = {
    "depthwise": (lambda m, x: F.conv2d(x, m.depthwise, padding=1, groups=12), conv(12)),
    "depthwise by position": (lambda m, x: F.conv2d(x, m.depthwise, None, 1, 1, 1, 12), conv(12)),
    "depthwise by a size": (
        lambda m, x: F.conv2d(x, m.depthwise, padding=1, groups=x.shape[1]),
        conv(12),
    ),
    "two groups": (lambda m, x: F.conv2d(x, m.grouped, padding=1, groups=2), conv(12)),
    "transposed": (
        lambda m, x: F.conv_transpose2d(x, m.transposed, padding=1, groups=3),
        conv(6),
    ),
    "depthwise of one image": (
        lambda m, x: F.conv2d(x[-1], m.depthwise, padding=1, groups=12).unsqueeze(0),
        conv(12),
    ),
    "depthwise of all images as one": (
        lambda m, x: F.conv2d(
            x.reshape(1, x.size(0) * x.size(1), x.size(2), x.size(3)),
            m.depthwise.repeat(x.size(0), 1, 1, 1),
            padding=1,
            groups=x.size(0) * x.size(1),
        ).view(x.shape),
        conv(12),
    ),
    "depthwise transposed": (
        lambda m, x: F.conv_transpose2d(x, m.depthwise, padding=1, groups=12),
        conv(12),
    ),
}


@pytest.mark.parametrize("name", GROUPS)
def test_a_functional_convolution_gets_the_new_groups(name: str) -> None:
    assert_repaired(*GROUPS[name])


def test_a_convolution_that_names_no_groups_gets_none() -> None:
    small = shrunk(lambda m, x: F.conv2d(x, m.full, padding=1), conv(4))[2]
    assert call(small, "conv2d").kwargs == {"padding": 1}


def in_rows(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


ATTENTION: dict[str, Case] = {
    "by default": (
        lambda m, x: F.scaled_dot_product_attention(in_rows(x), in_rows(x), in_rows(x)),
        linear(12),
    ),
    "with all arguments before the scale": (
        lambda m, x: F.scaled_dot_product_attention(
            in_rows(x), in_rows(x), in_rows(x), None, 0.0, False
        ),
        linear(12),
    ),
    "with a scale": (
        lambda m, x: F.scaled_dot_product_attention(in_rows(x), in_rows(x), in_rows(x), scale=0.7),
        linear(12),
    ),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_the_scale_of_attention_is_the_originals(name: str) -> None:
    assert_repaired(*ATTENTION[name])


def test_attention_over_what_keeps_its_width_gets_no_scale() -> None:
    def attended(m: Between, x: Tensor) -> Tensor:
        beside = torch.ones(1, 5, 36, dtype=x.dtype)
        return F.scaled_dot_product_attention(x.flatten(2), beside, beside)

    small = shrunk(attended, conv1d(12))[2]
    assert not call(small, "scaled_dot_product_attention").kwargs


def test_a_functional_group_norm_of_single_channels_stays_one() -> None:
    assert_repaired(lambda m, x: F.group_norm(x, 12), conv(12))


def test_a_functional_group_norm_keeps_its_groups() -> None:
    small = shrunk(lambda m, x: F.group_norm(x, 3), conv(12))[2]
    assert call(small, "group_norm").args[1] == 3
    assert small(OTHER_SHAPES[0]).shape == (3, 5, 6, 6)


def test_an_axis_that_shrinks_to_one_channel_is_not_squeezed() -> None:
    def pooled(m: Between, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True).squeeze()

    model, plan, small = shrunk(pooled, linear(2), width=2)
    assert plan.groups["stem"].width == 1
    assert_computes_the_original(model, plan, small, [EXAMPLE, *OTHER_SHAPES[:1]])
    assert call(small, "squeeze").args[1] == (2, 3)


@pytest.mark.parametrize("squeeze", ["squeeze", torch.squeeze])
@pytest.mark.parametrize("dims", [1, -3, (1, 3), (-1, -3)])
def test_an_axis_that_is_named_to_be_squeezed_and_shrinks_to_one_channel_stays(
    dims: int | tuple[int, ...], squeeze: Any
) -> None:
    def pooled(m: Between, x: Tensor) -> Tensor:
        x = x.mean((2, 3), keepdim=True)
        x = x.squeeze(dims) if squeeze == "squeeze" else squeeze(x, dims)
        return x.flatten(1)

    model, plan, small = shrunk(pooled, linear(2), width=2)
    assert plan.groups["stem"].width == 1
    assert_computes_the_original(model, plan, small, [EXAMPLE, *OTHER_SHAPES[:1]])
    assert not aten_calls(small)
    assert call(small, "squeeze").op == ("call_method" if squeeze == "squeeze" else "call_function")


def test_an_index_that_names_nothing_of_the_channels_stays_as_it_is_written() -> None:
    small = shrunk(lambda m, x: x[..., ::2], conv(12))[2]
    assert call(small, "getitem").args[1] == (..., slice(None, None, 2))


PIECES: dict[str, Case] = {
    "chunk": (lambda m, x: torch.cat([x.chunk(2, 1)[1], x.chunk(2, dim=1)[0]], 1), conv(12)),
    "chunk multiplied": (lambda m, x: x.chunk(2, 1)[0] * x.chunk(2, -3)[1].sigmoid(), conv(6)),
    "uneven chunk": (lambda m, x: torch.cat([x.chunk(5, 1)[3], x.chunk(5, 1)[0]], 1), conv(6)),
    "split": (lambda m, x: torch.cat([x.split(5, 1)[1], x.split(5, dim=1)[2]], 1), conv(7)),
    "split by sizes": (lambda m, x: torch.split(x, [2, 7, 3], 1)[1], conv(7)),
    "split_with_sizes": (lambda m, x: x.split_with_sizes([2, 7, 3], 1)[1], conv(7)),
    "tensor_split": (lambda m, x: x.tensor_split(5, 1)[1], conv(3)),
    "tensor_split at positions": (lambda m, x: x.tensor_split((2, 9), dim=1)[1], conv(7)),
    "chunk of the first axis, which is not named": (
        lambda m, x: torch.cat([x.transpose(0, 1).chunk(3)[2], x.transpose(0, 1)[:8]]).transpose(
            0, 1
        ),
        conv(12),
    ),
}


@pytest.mark.parametrize("name", PIECES)
def test_pieces_get_the_predicted_sizes(name: str) -> None:
    for seed in range(2):
        assert_repaired(*PIECES[name], criterion="random", seed=seed)


def test_a_split_of_space_stays_a_split_of_space() -> None:
    def halves(m: Between, x: Tensor) -> Tensor:
        top, bottom = x.chunk(2, dim=2)[0], x.chunk(2, dim=2)[1]
        return top - bottom

    model, plan, small = shrunk(halves, conv(12))
    assert call(small, "chunk").target == "chunk"
    assert_computes_the_original(model, plan, small, [EXAMPLE, *OTHER_SHAPES])


# -- operators that name positions ----------------------------------------------------------


POSITIONS: dict[str, Case] = {
    "a slice": (lambda m, x: x[:, 3:9], conv(6)),
    "a step": (lambda m, x: x[:, 1::2], conv(6)),
    "a step with ends": (lambda m, x: x[:, 2:11:3], conv(3)),
    "the last": (lambda m, x: x[:, -5:], conv(5)),
    "all but the last": (lambda m, x: x[:, :-5], conv(7)),
    "an end beyond the axis": (lambda m, x: x[:, 4:100], conv(8)),
    "a slice by half of a size": (lambda m, x: x[:, : x.shape[1] // 2], conv(6)),
    "one channel": (lambda m, x: x[:, 4].unsqueeze(1) + x, conv(12)),
    "one from the end": (lambda m, x: x[:, -3].unsqueeze(1) + x, conv(12)),
    "one and a new axis": (lambda m, x: x[:, 4, None] + x, conv(12)),
    "an ellipsis before": (lambda m, x: x[..., 2:9, :, :], conv(7)),
    "an ellipsis after": (lambda m, x: x[:, 2:9, ...], conv(7)),
    "a new axis before": (lambda m, x: x[:, None, 2:9].squeeze(1), conv(7)),
    "a list with a repeat": (lambda m, x: x[:, [2, 0, 7, 7, 11]], conv(5)),
    "a list from the end": (lambda m, x: x[:, [-1, 0, -4, 5]], conv(4)),
    "channels and space": (lambda m, x: x[:, 2:9, : x.shape[2] // 2, ::2], conv(7)),
    "a permutation buffer": (lambda m, x: x[:, m.permutation], conv(12)),
    "a part of a buffer": (lambda m, x: x[:, m.permutation[2:9]], conv(7)),
    "a buffer counted from the end": (lambda m, x: x[:, m.permutation - 12], conv(12)),
    "index_select": (lambda m, x: x.index_select(1, m.permutation), conv(12)),
    "index_select by keywords": (
        lambda m, x: torch.index_select(x, dim=-3, index=m.permutation),
        conv(12),
    ),
    "narrow": (lambda m, x: x.narrow(1, 3, 6), conv(6)),
    "narrow from the end": (lambda m, x: torch.narrow(x, 1, -7, 6), conv(6)),
    "select": (lambda m, x: x.select(1, 7).unsqueeze(1) + x, conv(12)),
    "select from the end": (lambda m, x: torch.select(x, 1, -2).unsqueeze(1) + x, conv(12)),
    "roll": (lambda m, x: x.roll(5, 1), conv(12)),
    "roll back": (lambda m, x: torch.roll(x, shifts=-5, dims=-3), conv(12)),
    "roll by more than the width": (lambda m, x: x.roll(29, 1), conv(12)),
    "roll of channels and space": (lambda m, x: torch.roll(x, (4, 1), (1, 2)), conv(12)),
    "flip": (lambda m, x: x.flip(1), conv(12)),
    "pad with ones": (lambda m, x: F.pad(x, (0, 0, 1, 0, 2, 3), value=1.0), conv(17)),
    "pad before only": (lambda m, x: F.pad(x, (0, 0, 0, 0, 4, 0)), conv(16)),
    "crop": (lambda m, x: F.pad(x, (0, 0, 0, 0, -2, -3)), conv(7)),
    "crop before and pad after": (lambda m, x: F.pad(x, (0, 0, 0, 0, -2, 3)), conv(13)),
    "pad before and crop after": (lambda m, x: F.pad(x, (0, 0, 0, 0, 3, -2)), conv(13)),
    "lists apart": (
        lambda m, x: x[:, [2, 0, 7, 7], :, [1, 0, 2, 3]].transpose(0, 1),
        conv1d(4),
    ),
    "lists side by side": (lambda m, x: x[:, [2, 0, 7, 7], [1, 0, 2, 3]], conv1d(4)),
    "a list behind one sample": (lambda m, x: x[-1, [2, 0, 7, 7]].unsqueeze(0), conv(4)),
    "a list behind a new axis": (lambda m, x: x[:, None, [2, 0, 7, 7]].squeeze(1), conv(4)),
    "aten.index": (lambda m, x: torch.ops.aten.index.Tensor(x, [None, m.permutation]), conv(12)),
    "aten.index on two axes apart": (
        lambda m, x: torch.ops.aten.index.Tensor(
            x, [None, m.permutation[:4], None, m.permutation[:4] % 6]
        ).transpose(0, 1),
        conv1d(4),
    ),
    "aten.index on two axes side by side": (
        lambda m, x: torch.ops.aten.index.Tensor(
            x, [None, m.permutation[:4], m.permutation[:4] % 6]
        ),
        conv1d(4),
    ),
    "aten.slice": (lambda m, x: torch.ops.aten.slice.Tensor(x, 1, 3, 9), conv(6)),
    "aten.slice with a step": (lambda m, x: torch.ops.aten.slice.Tensor(x, 1, 1, 12, 2), conv(6)),
    "aten.slice to the end": (lambda m, x: torch.ops.aten.slice.Tensor(x, 1, 4), conv(8)),
    "aten.slice of the first axis": (
        lambda m, x: torch.ops.aten.slice.Tensor(x.transpose(0, 1), 0, 2, 9).transpose(0, 1),
        conv(7),
    ),
    "pad of space alone": (lambda m, x: F.pad(x, (1, 2, -1, 0)), conv(12)),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_an_operator_that_names_positions_gets_the_new_ones(name: str) -> None:
    for seed in range(2):
        assert_repaired(*POSITIONS[name], criterion="random", seed=seed)


@settings(max_examples=15)
@given(
    start=st.integers(-14, 14) | st.none(),
    stop=st.integers(-14, 14) | st.none(),
    step=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_any_slice_of_channels_reads_the_kept_ones_of_what_it_read(
    start: int | None, stop: int | None, step: int, seed: int
) -> None:
    picked = range(12)[start:stop:step]
    if len(picked) < 2:
        return
    model, plan, small = shrunk(
        lambda m, x: x[:, start:stop:step], conv(len(picked)), criterion="random", seed=seed
    )
    assert_computes_the_original(model, plan, small, [EXAMPLE])


@settings(max_examples=10)
@given(shift=st.integers(-30, 30), seed=st.integers(0, 1000))
def test_any_roll_of_channels_turns_the_kept_ones(shift: int, seed: int) -> None:
    model, plan, small = shrunk(
        lambda m, x: x.roll(shift, 1), conv(12), criterion="random", seed=seed
    )
    assert_computes_the_original(model, plan, small, [EXAMPLE])


@settings(max_examples=15)
@given(before=st.integers(-5, 5), after=st.integers(-5, 5), seed=st.integers(0, 1000))
def test_any_padding_of_channels_keeps_what_the_plan_leaves(
    before: int, after: int, seed: int
) -> None:
    model, plan, small = shrunk(
        lambda m, x: F.pad(x, (0, 0, 0, 0, before, after), value=0.5),
        conv(12 + before + after),
        criterion="random",
        seed=seed,
    )
    assert_computes_the_original(model, plan, small, [EXAMPLE])


def removed(channels: list[int], operator: Operator, width: int) -> Any:
    """The graph module that is left when these channels of the stem go."""
    return shrunk(operator, conv(width), ratio=0, channels={"stem": channels})[2]


def test_an_unbroken_slice_stays_a_slice() -> None:
    small = removed([0, 4, 5], lambda m, x: x[:, 3:9], 6)
    assert call(small, "getitem").args[1] == (slice(None), slice(2, 6))


def test_a_strided_slice_becomes_a_list_of_the_kept_positions() -> None:
    small = removed([0, 3], lambda m, x: x[:, 1::2], 6)
    assert call(small, "getitem").args[1][1] == [0, 3, 5, 7, 9]


def test_an_index_buffer_is_replaced_by_one_with_new_numbers() -> None:
    small = removed([7, 0], lambda m, x: x[:, m.permutation], 12)
    index = call(small, "getitem").args[1][1]
    expected = [c - 1 - (c > 7) for c in [2, 11, 5, 9, 1, 10, 4, 8, 3, 6]]
    assert index.op == "get_attr"
    assert dict(small.named_buffers())[index.target].tolist() == expected


def test_the_index_buffer_of_the_original_stays_as_it_is() -> None:
    model = shrunk(lambda m, x: x[:, m.permutation], conv(12))[0]
    assert model.permutation.tolist() == [7, 2, 11, 0, 5, 9, 1, 10, 4, 8, 3, 6]
    assert [name for name, _ in model.named_buffers()] == ["permutation"]


def test_a_shift_counts_the_kept_channels_that_it_moves_round() -> None:
    small = removed([10, 3], lambda m, x: x.roll(5, 1), 12)
    assert call(small, "roll").args[1] == [4]  # of 7, 8, 9, 10 and 11 all but 10


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_padding_alone_can_go(value: float) -> None:
    def padded(m: Between, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 2, 3), value=value)

    assert_repaired(padded, conv(17), ratio=0, ratios={"pad": 0.5})


def test_padding_of_space_is_left_as_it_is() -> None:
    small = removed([1], lambda m, x: F.pad(x, (1, 2, -1, 0)), 12)
    assert list(call(small, "pad").args[1]) == [1, 2, -1, 0]


# -- numbers --------------------------------------------------------------------------------


NUMBERS: dict[str, Operator] = {
    "a power of a size": lambda m, x: x * x.shape[1] ** -0.5,
    "a sum of sizes": lambda m, x: x / (x.size(1) + x.size(2)),
    "a quotient of sizes": lambda m, x: x * (x.size(1) / x.size(3)),
    "a size of another tensor": lambda m, x: x + m.grouped.shape[0],
    "a quotient of all elements": lambda m, x: x / (x.numel() / x.size(0)),
    "a size as a number to add": lambda m, x: torch.add(x, x.size(1), alpha=2),
    "a size by a keyword": lambda m, x: x * x.size(dim=1),
    "one of all sizes": lambda m, x: x * x.size()[-3],
    "a number of all elements": lambda m, x: x / x.nelement(),
    "a product of some sizes": lambda m, x: x / x.shape[1:].numel(),
    "a product of the last sizes": lambda m, x: x / math.prod(x.shape[-3:]),
    "a size of the batch and channels": lambda m, x: x / x.flatten(0, 1).size(0),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_read_off_a_size_stays_the_originals(name: str) -> None:
    assert_repaired(NUMBERS[name], conv(12))


@pytest.mark.parametrize(
    ("batch", "number"),
    [
        (1, lambda x: x.size(1)),
        (2, lambda x: x.size(dim=1)),
        (2, lambda x: x.shape[1]),
        (1, lambda x: x.relu().size(1)),
        (2, lambda x: x.flatten(2).size(1)),
        (1, lambda x: x.mean((2, 3), keepdim=True).size(1)),
        (1, lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 7, -1).size(1)),
    ],
)
def test_a_number_of_channels_alone_becomes_a_constant(
    batch: int, number: Callable[[Tensor], int]
) -> None:
    small = shrunk(lambda m, x: x * number(x), conv(12), example=images(batch))[2]
    (product,) = call(small, "head").args
    assert product.args[1] == 12


@pytest.mark.parametrize(
    "number",
    [
        lambda x: x.flatten(0, 1).size(0),
        lambda x: x.flatten(0, 1).relu().shape[0],
        lambda x: x.flatten(0, 1)[:, 0].neg().numel(),
    ],
)
def test_a_batch_of_one_that_is_merged_with_channels_may_be_another(
    number: Callable[[Tensor], int],
) -> None:
    model, plan, small = shrunk(lambda m, x: x * number(x), conv(12), example=images(1))
    assert_computes_the_original(model, plan, small, [EXAMPLE, *OTHER_SHAPES])


@pytest.mark.parametrize(
    "number",
    [
        lambda x: x.stride(0),
        lambda x: x.stride()[0],
        lambda x: x.shape.count(6),
        lambda x: x.shape[: x.dim() - 2].numel(),
    ],
)
def test_a_number_that_is_no_product_of_sizes_is_refused(number: Callable[[Tensor], int]) -> None:
    model = between(lambda m, x: x * number(x), conv(12))
    plan = fxprune.plan(model, EXAMPLE, 0.5)
    with pytest.raises(RewriteError) as caught:
        fxprune.shrink(model, plan)
    assert caught.value.why == "how it depends on the sizes is not known"


def test_sizes_that_did_not_change_are_still_read_off() -> None:
    small = shrunk(lambda m, x: x * (x.shape[1] / x.shape[3]), conv(12))[2]
    assert "12 / " in small.code
    assert small.code.count("shape") == 1


# -- graphs of ATen operators ---------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "classic_cnn",
        "grouped_conv_multiplier",
        "csp_split_uneven",
        "flip_roll_slices",
        "index_channels",
        "padded_shortcut",
        "shape_arithmetic_literal",
        "transposed",
    ],
)
def test_a_graph_of_aten_operators_is_repaired(name: str) -> None:
    entry = ZOO[name]
    inputs = tuple(x.double() for x in entry.example_inputs())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `make_fx` warns of tensors that it keeps as attributes
        traced = make_fx(randomize(entry.build()).double().eval())(*inputs)
    assert any("aten" in str(node.target) for node in traced.graph.nodes)
    plan: Plan = fxprune.plan(traced, inputs, 0.5)
    assert plan.slices
    small = fxprune.shrink(traced, plan, verify=False)
    assert_computes_the_original(traced, plan, small, inputs)


@pytest.mark.parametrize(
    ("norm", "node", "argument", "value"),
    [
        (nn.LayerNorm(8), "native_layer_norm", 1, [4]),
        (nn.GroupNorm(8, 8), "native_group_norm", 6, 4),
        (nn.GroupNorm(2, 8), "native_group_norm", 6, 2),
        (nn.GroupNorm(2, 8), "native_group_norm", 4, 4),
    ],
)
def test_an_aten_norm_gets_the_new_widths(
    norm: nn.Module, node: str, argument: int, value: Any
) -> None:
    model = randomize(nn.Sequential(nn.Linear(3, 8), norm, nn.Linear(8, 2))).eval()
    x = torch.randn(5, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = make_fx(model)(x)
    small = fxprune.shrink(traced, fxprune.plan(traced, x, 0.5))
    written = call(small, node).args[argument]
    assert (list(written) if isinstance(written, (list, tuple)) else written) == value
