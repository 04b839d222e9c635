"""Groups: names, members, kinds, pins, and how they read and draw."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fxprune import DependencyGraph, Diagnostic, PlanError, analyze
from fxprune.groups import parameter_axes
from fxprune.planning.layout import Layout
from models_zoo import ZOO

NAMES = sorted(ZOO)


@cache
def analyzed(name: str) -> DependencyGraph:
    entry = ZOO[name]
    return analyze(entry.build().eval(), entry.example_inputs())


class Attention(nn.Module):
    """Two heads of four dims, written with views."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(6, 24)
        self.out = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, 8))


def with_unused_table() -> nn.Module:
    """A network whose second layer has a parameter that its forward does not read."""
    layer = nn.Linear(4, 4)
    layer.register_parameter("table", nn.Parameter(torch.zeros(3)))
    return nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 2))


@pytest.mark.parametrize("name", NAMES)
def test_group_names_are_unique(name: str) -> None:
    names = [group.name for group in analyzed(name).groups]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_axis_is_a_union_of_whole_groups(name: str) -> None:
    for group in analyzed(name).groups:
        for member in group.members:
            present = set(member.channels.tolist()) - {-1}
            assert present == set(range(group.size)), f"{group.name} on {member}"


@pytest.mark.parametrize("name", NAMES)
def test_no_two_channels_of_a_group_meet_at_a_position(name: str) -> None:
    deps = analyzed(name)
    for _, _, axis in parameter_axes(deps.trace):
        vectors = deps.trace.labels.expand(axis.vectors)
        for group in deps.groups if len(vectors) > 1 else ():
            assert np.isin(np.stack(vectors), group.ids).sum(axis=0).max() <= 1, group.name


@pytest.mark.parametrize("name", NAMES)
def test_a_member_has_one_entry_for_each_position_of_its_axis(name: str) -> None:
    deps = analyzed(name)
    for group in deps.groups:
        for member in group.members:
            assert len(member.channels) == deps.state[member.parameter].shape[member.dim]


class GramOfCopies(Attention):
    """The outcome twice in place, and what it says of itself: channels by channels."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 24), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        x = mixed.transpose(1, 2).reshape(batch, tokens, 8).repeat_interleave(2, -1)
        return self.out(x @ (x.transpose(1, 2) @ x).softmax(-1))


class Squared(nn.Module):
    """The outer product of channels with themselves: each column is of a pair of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last((x.unsqueeze(2) * x.unsqueeze(1)).flatten(1))


def test_a_channel_owns_all_pairs_that_it_is_in() -> None:
    deps = analyze(Squared().eval(), torch.zeros(2, 5))
    (columns,) = (m for m in deps.group("first").members if m.parameter == "last.weight")
    pairs = [divmod(column, 4) for column in range(16)]
    assert columns.positions == tuple(
        tuple(column for column, pair in enumerate(pairs) if channel in pair)
        for channel in range(4)
    )
    assert str(columns) == "last.weight[1] x7"


@pytest.mark.parametrize("name", ["squared", *NAMES])
def test_the_positions_of_a_channel_are_those_that_go_with_it(name: str) -> None:
    is_squared = name == "squared"
    deps = analyze(Squared().eval(), torch.zeros(2, 5)) if is_squared else analyzed(name)
    for group in deps.groups:
        if not group.prunable:
            continue
        channel = group.size // 2
        gone = Layout(deps, group.ids[[channel]]).slices
        told = {(m.parameter, m.dim): m.positions[channel] for m in group.members}
        assert told == {
            (parameter, dim): positions
            for parameter, dims in gone.items()
            for dim, positions in dims.items()
            if deps.trace.tied[parameter] == parameter
        }, group.name


@pytest.mark.parametrize("name", NAMES)
def test_a_pinned_group_carries_the_reason_as_a_diagnostic(name: str) -> None:
    for group in analyzed(name).groups:
        assert group.pinned is None or (isinstance(group.pinned, Diagnostic) and group.pinned.what)
        assert group.prunable == (group.pinned is None and group.size > 1)


@pytest.mark.parametrize("name", ["grouped_conv", "inception", "multi_output", "transposed"])
def test_the_text_of_an_analysis_is_the_same_for_the_same_model(name: str) -> None:
    entry = ZOO[name]
    again = analyze(entry.build().eval(), entry.example_inputs())
    assert str(again) == str(analyzed(name))
    assert again.digest == analyzed(name).digest


def test_a_residual_stream_is_one_group_of_all_its_writers_and_readers() -> None:
    group = analyzed("residual").group("0.0")
    weights = {(m.parameter, m.dim) for m in group.members if m.parameter.endswith("0.weight")}
    assert {("0.0.weight", 0), ("1.body.0.0.weight", 1), ("2.body.0.0.weight", 1)} <= weights
    assert group.size == 8


def test_positions_list_every_place_of_a_channel() -> None:
    group = analyzed("classic_cnn").group("conv2")
    (columns,) = (member for member in group.members if member.parameter == "fc1.weight")
    assert columns.dim == 1
    assert columns.positions == tuple(tuple(range(49 * c, 49 * c + 49)) for c in range(8))


def test_members_of_a_concatenation_hold_their_own_range() -> None:
    deps = analyzed("dense_concat")
    texts = [str(member) for group in deps.groups for member in group.members]
    assert any(text.endswith("0:10") for text in texts)
    assert any(text.endswith("10:16") for text in texts)


def test_groups_are_named_after_the_module_that_first_produces_them() -> None:
    names = [group.name for group in analyzed("classic_cnn").groups if group.pinned is None]
    assert names == ["conv1", "conv2", "fc1"]


def test_an_unknown_group_name_is_answered_with_the_nearest_ones() -> None:
    with pytest.raises(PlanError, match="no group is named 'conv_1'") as caught:
        analyzed("classic_cnn").group("conv_1")
    assert "conv1" in str(caught.value)


def test_rows_and_columns_of_a_grouped_convolution_are_groups_and_channels() -> None:
    kinds = {(g.kind, g.size) for g in analyzed("grouped_conv").groups if g.pinned is None}
    assert ("groups", 2) in kinds
    assert ("channels", 6) in kinds


def test_rows_of_a_depthwise_convolution_are_its_channels() -> None:
    groups = [g for g in analyzed("inverted_residual").groups if g.pinned is None]
    assert {group.kind for group in groups} == {"channels"}


def test_an_attention_has_heads_and_head_dims() -> None:
    groups = analyze(Attention(), torch.randn(2, 3, 6)).groups
    kinds = [(group.kind, group.size) for group in groups if group.pinned is None]
    assert ("heads", 2) in kinds
    assert ("head_dims", 4) in kinds
    assert all(f"[{group.kind}]" in group.name for group in groups if group.kind != "channels")


def test_copies_of_heads_that_meet_in_a_contraction_stay_copies() -> None:
    groups = analyze(GramOfCopies().eval(), torch.zeros(1, 3, 6)).groups
    sizes = {group.kind: group.size for group in groups if group.pinned is None}
    assert sizes == {"heads": 2, "head_dims": 4, "copies": 2}


def test_inputs_and_outputs_are_pinned_groups_with_their_reason() -> None:
    deps = analyzed("residual")
    pinned = {group.name: group.pinned.what for group in deps.groups if group.pinned}
    assert pinned["4.2"] == "output of the model"
    assert pinned["0.0.weight"].startswith("input ")
    assert deps.diagnostics == ()


def test_a_parameter_that_no_operator_reads_is_reported_and_in_no_group() -> None:
    deps = analyze(with_unused_table(), torch.randn(2, 4))
    unused = [diagnostic.what for diagnostic in deps.diagnostics]
    assert unused == ["1.table is not used by the graph and belongs to no group"]
    assert all(member.parameter != "1.table" for g in deps.groups for member in g.members)


def test_the_text_of_a_group_tells_size_kind_and_members() -> None:
    text = str(analyzed("classic_cnn").group("conv1"))
    lines = ["conv1: 4 channels", "conv1.weight[0]", "conv1.bias[0]", "conv2.weight[1]"]
    assert [line.strip() for line in text.splitlines()] == lines


def test_the_text_of_a_pinned_group_tells_the_reason_and_the_node() -> None:
    text = str(analyzed("classic_cnn").group("fc2"))
    assert text.startswith("fc2: 10 channels pinned: output of the model at output")
