"""Module attributes tell the truth about the tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune.passes import AlignAttributes, SliceState, shrink_pipeline
from models_zoo import randomize
from tests.passes.models import laid_out, zoo

IMAGE, FEATURES = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3)
SIGNAL, VOLUME = torch.zeros(2, 3, 8), torch.zeros(2, 3, 4, 4, 4)
TOKENS = torch.zeros(2, 5, dtype=torch.int64)


def aligned(*layers: nn.Module, x: Tensor) -> list[str]:
    """The texts of the layers of a chain after half of every group is removed."""
    model = randomize(nn.Sequential(*layers)).eval()
    deps, layout = laid_out(model, x)
    small = shrink_pipeline()(deps.graph_module, layout).graph_module
    return [repr(small.get_submodule(str(number))) for number in range(len(layers))]


def texts(*layers: nn.Module) -> list[str]:
    return [repr(layer) for layer in layers]


def test_convolutions_tell_both_widths() -> None:
    layers = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3, bias=False), nn.Conv2d(6, 2, 1)
    assert aligned(*layers, x=IMAGE) == texts(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3, bias=False), nn.Conv2d(3, 2, 1)
    )


@pytest.mark.parametrize(
    ("conv", "x"), [(nn.Conv1d, SIGNAL), (nn.Conv2d, IMAGE), (nn.Conv3d, VOLUME)]
)
def test_convolutions_of_any_rank_tell_both_widths(conv: Any, x: Tensor) -> None:
    assert aligned(conv(3, 8, 1), conv(8, 2, 1), x=x) == texts(conv(3, 4, 1), conv(4, 2, 1))


def test_a_depthwise_convolution_loses_groups() -> None:
    layers = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 2, 1)
    assert aligned(*layers, x=IMAGE)[1] == repr(nn.Conv2d(4, 4, 3, groups=4))


def test_a_depthwise_convolution_with_a_multiplier_loses_groups() -> None:
    layers = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 24, 3, groups=8), nn.Conv2d(24, 2, 1)
    assert aligned(*layers, x=IMAGE)[1] == repr(nn.Conv2d(4, 12, 3, groups=4))


def test_a_depthwise_convolution_that_is_called_twice_loses_groups_once() -> None:
    shared = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), shared, nn.ReLU(), shared, nn.Conv2d(8, 2, 1)).eval()
    small = fxprune.shrink(model, fxprune.plan(model, IMAGE, ratio=0.5))
    assert repr(small.get_submodule("1")) == repr(nn.Conv2d(4, 4, 3, padding=1, groups=4))


def test_a_grouped_convolution_keeps_its_groups() -> None:
    layers = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 3, groups=2), nn.Conv2d(12, 2, 1)
    assert aligned(*layers, x=IMAGE)[1] == repr(nn.Conv2d(4, 6, 3, groups=2))


def test_a_convolution_of_an_unbatched_image_tells_both_widths() -> None:
    layers = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 2, 1)
    assert aligned(*layers, x=IMAGE[0])[1] == repr(nn.Conv2d(4, 4, 3, groups=4))


def test_a_transposed_convolution_tells_both_widths() -> None:
    layers = nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 12, 2, stride=2), nn.Conv2d(12, 2, 1)
    assert aligned(*layers, x=IMAGE)[1] == repr(nn.ConvTranspose2d(4, 6, 2, stride=2))


def test_a_grouped_transposed_convolution_keeps_its_groups() -> None:
    layers = nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 12, 3, groups=2), nn.Conv2d(12, 2, 1)
    assert aligned(*layers, x=IMAGE)[1] == repr(nn.ConvTranspose2d(4, 6, 3, groups=2))


def test_a_depthwise_transposed_convolution_loses_groups() -> None:
    layers = nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 8, 3, groups=8), nn.Conv2d(8, 2, 1)
    assert aligned(*layers, x=IMAGE)[1] == repr(nn.ConvTranspose2d(4, 4, 3, groups=4))


def test_linear_layers_tell_both_widths() -> None:
    layers = nn.Linear(3, 8), nn.Linear(8, 6, bias=False), nn.Linear(6, 2)
    assert aligned(*layers, x=FEATURES) == texts(
        nn.Linear(3, 4), nn.Linear(4, 3, bias=False), nn.Linear(3, 2)
    )


@pytest.mark.parametrize(
    ("layer", "norm", "x"),
    [
        (nn.Linear, nn.BatchNorm1d, FEATURES),
        (nn.Conv1d, nn.BatchNorm1d, SIGNAL),
        (nn.Conv2d, nn.BatchNorm2d, IMAGE),
        (nn.Conv3d, nn.BatchNorm3d, VOLUME),
        (nn.Conv1d, nn.InstanceNorm1d, SIGNAL),
        (nn.Conv2d, nn.InstanceNorm2d, IMAGE),
        (nn.Conv3d, nn.InstanceNorm3d, VOLUME),
    ],
)
def test_batch_and_instance_norms_tell_their_width(layer: Any, norm: Any, x: Tensor) -> None:
    kernel = () if layer is nn.Linear else (1,)
    layers = layer(3, 8, *kernel), norm(8, affine=True), layer(8, 2, *kernel)
    assert aligned(*layers, x=x)[1] == repr(norm(4, affine=True))


def test_an_instance_norm_without_weights_tells_its_width() -> None:
    layers = nn.Conv2d(3, 8, 1), nn.InstanceNorm2d(8), nn.Conv2d(8, 2, 1)
    assert aligned(*layers, x=IMAGE)[1] == repr(nn.InstanceNorm2d(4))


def test_an_instance_norm_of_an_unbatched_image_tells_its_width() -> None:
    layers = nn.Conv2d(3, 8, 1), nn.InstanceNorm2d(8), nn.Conv2d(8, 2, 1)
    assert aligned(*layers, x=IMAGE[0])[1] == repr(nn.InstanceNorm2d(4))


@pytest.mark.parametrize(("groups", "left"), [(1, 1), (2, 2), (4, 4), (8, 4)])
def test_a_group_norm_keeps_its_groups_unless_each_is_one_channel(groups: int, left: int) -> None:
    layers = nn.Conv2d(3, 8, 1), nn.GroupNorm(groups, 8), nn.Conv2d(8, 2, 1)
    assert aligned(*layers, x=IMAGE)[1] == repr(nn.GroupNorm(left, 4))


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_a_norm_over_the_last_axis_tells_its_shape(norm: Any) -> None:
    layers = nn.Linear(3, 8), norm(8), nn.Linear(8, 2)
    assert aligned(*layers, x=FEATURES)[1] == repr(norm(4))


def test_a_norm_over_several_axes_tells_its_shape() -> None:
    layers = nn.Conv2d(3, 8, 1), nn.LayerNorm([8, 8, 8]), nn.Conv2d(8, 2, 1)
    assert aligned(*layers, x=IMAGE)[1] == repr(nn.LayerNorm([4, 8, 8]))


def test_an_embedding_keeps_its_rows_and_tells_its_width() -> None:
    layers = nn.Embedding(10, 8, padding_idx=0), nn.Linear(8, 2)
    assert aligned(*layers, x=TOKENS)[0] == repr(nn.Embedding(10, 4, padding_idx=0))


def test_a_prelu_per_channel_tells_its_width_and_a_shared_one_stays() -> None:
    layers = nn.Conv2d(3, 8, 1), nn.PReLU(8), nn.PReLU(), nn.Conv2d(8, 2, 1)
    assert aligned(*layers, x=IMAGE)[1:3] == texts(nn.PReLU(4), nn.PReLU())


@pytest.mark.parametrize(
    ("dim", "sizes", "left"),
    [
        (1, (3, 4), (3, 2)),
        (-1, (3, 4), (3, 2)),
        (1, (3, -1), (3, -1)),
        (1, (12, 1), (6, 1)),
    ],
)
def test_an_unflatten_tells_its_sizes(
    dim: int, sizes: tuple[int, ...], left: tuple[int, ...]
) -> None:
    layers = nn.Linear(3, 12), nn.Unflatten(dim, sizes), nn.Flatten(), nn.Linear(12, 2)
    assert aligned(*layers, x=FEATURES)[1] == repr(nn.Unflatten(dim, left))


def test_a_module_that_is_called_twice_is_aligned_once() -> None:
    deps, layout = zoo("shared_module")
    small = shrink_pipeline()(deps.graph_module, layout).graph_module
    assert repr(small.get_submodule("refine")) == repr(nn.Conv2d(6, 6, 3, padding=1))


@pytest.mark.parametrize(
    "name",
    ["residual", "bottleneck_grouped", "grouped_conv_multiplier", "transposed", "group_norm"],
)
def test_a_layer_built_anew_from_its_attributes_has_the_shapes_of_its_tensors(name: str) -> None:
    deps, layout = zoo(name)
    small = shrink_pipeline()(deps.graph_module, layout).graph_module
    for path, layer in small.named_modules():
        text = repr(layer)
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.GroupNorm)):
            anew = eval(f"nn.{text}", {"nn": nn})
            shapes = {key: value.shape for key, value in layer.state_dict().items()}
            assert {k: v.shape for k, v in anew.state_dict().items()} == shapes, path


def test_only_widths_change() -> None:
    layer = nn.Conv2d(8, 8, 3, stride=2, padding=1, dilation=2, groups=8, padding_mode="reflect")
    layers = nn.Conv2d(3, 8, 1), layer, nn.Conv2d(8, 2, 1)
    left = nn.Conv2d(4, 4, 3, stride=2, padding=1, dilation=2, groups=4, padding_mode="reflect")
    assert aligned(*layers, x=IMAGE)[1] == repr(left)


def test_alignment_alone_leaves_tensors_and_graph_alone() -> None:
    deps, layout = zoo("residual")
    given = SliceState()(deps.graph_module, layout).graph_module
    result = AlignAttributes()(given, layout)
    assert result.modified
    assert result.graph_module.code == given.code
    before, after = given.state_dict(), result.graph_module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_shrunk_model_can_be_shrunk_again() -> None:
    model = randomize(nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Linear(16, 2))).eval()
    small: nn.Module = model
    for width in (8, 4, 2):
        small = fxprune.shrink(small, fxprune.plan(small, FEATURES, 0.5))
        assert repr(small.get_submodule("1")) == repr(nn.BatchNorm1d(width))


@pytest.mark.parametrize(
    ("layer", "smaller"),
    [
        (nn.LSTM(8, 12, 2, bidirectional=True), nn.LSTM(4, 6, 2, bidirectional=True)),
        (nn.LSTM(8, 12, proj_size=6), nn.LSTM(4, 6, proj_size=3)),
        (nn.GRU(8, 12), nn.GRU(4, 6)),
        (nn.RNNCell(8, 12), nn.RNNCell(4, 6)),
    ],
)
def test_recurrent_layers_tell_their_sizes(layer: nn.Module, smaller: nn.Module) -> None:
    width = getattr(layer, "proj_size", 0) or 12
    width *= 1 + getattr(layer, "bidirectional", False)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.layer, self.head = nn.Linear(3, 8), layer, nn.Linear(width, 2)

        def forward(self, x: Tensor) -> Any:
            out = self.layer(self.embed(x))
            return self.head(out[0] if isinstance(layer, nn.RNNBase) else out)

    x = torch.zeros(5, 2, 3) if isinstance(layer, nn.RNNBase) else torch.zeros(2, 3)
    deps, layout = laid_out(randomize(Model()).eval(), x)
    small = shrink_pipeline()(deps.graph_module, layout).graph_module
    assert repr(small.get_submodule("layer")) == repr(smaller)
    weights = getattr(small.get_submodule("layer"), "_flat_weights", [])
    assert all(any(w is p for p in small.parameters()) for w in weights)


def test_a_projection_as_wide_as_its_state_is_refused() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.LSTM(3, 8, proj_size=4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Any:
            return self.head(self.layer(x)[0])

    model, x = randomize(Model()).eval(), torch.randn(5, 2, 3)
    deps = fxprune.analyze(model, x)
    state = next(group.name for group in deps.groups if group.size == 8)
    plan = fxprune.plan(deps, ratios={state: 0.5})
    with pytest.raises(fxprune.RewriteError, match="hidden sizes"):
        fxprune.shrink(deps, plan)
