"""Why-not: what stops a channel, in a sentence, with the place where it met what must stay."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxprune import DependencyGraph, Diagnostic, Explanation, PlanError, analyze
from fxprune.explanations import AxisReason, in_plain_words
from models_zoo import ZOO

LIBRARY = torch.library.Library("fxprune_why", "DEF")
LIBRARY.define("mystery(Tensor x) -> Tensor")
LIBRARY.impl("mystery", lambda x: x * 2, "CPU")
LIBRARY.impl("mystery", torch.empty_like, "Meta")


@cache
def analyzed(name: str) -> DependencyGraph:
    entry = ZOO[name]
    return analyze(entry.build().eval(), entry.example_inputs())


class Mystery(nn.Module):
    """An operator of our own that nobody labelled."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.fxprune_why.mystery(x)
        return out


class Inverse(nn.Module):
    """An operator of torch without a label rule."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        return torch.cholesky_solve(y, y)


class Residual(nn.Module):
    """A residual block whose sum goes through `tail`."""

    def __init__(self, tail: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.conv = nn.Conv2d(8, 8, 1)
        self.inner = nn.Sequential(nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Conv2d(6, 8, 1))
        self.tail = tail

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        total = x + self.conv(x).relu()
        return self.tail(total + self.inner(total))


class InputSkip(nn.Module):
    """A convolution whose channels are added to the input's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.conv(x))


def residual(tail: nn.Module) -> DependencyGraph:
    return analyze(Residual(tail).eval(), torch.randn(2, 3, 8, 8))


def entry(found: Explanation, parameter: str, dim: int) -> AxisReason:
    (axis,) = (a for a in found.axes if (a.parameter, a.dim) == (parameter, dim))
    return axis


def nodes(axis: AxisReason) -> list[str]:
    return [place.node for place in axis.way]


# The sentences


def test_channels_of_an_output_say_so() -> None:
    text = str(analyzed("classic_cnn").why("fc2"))
    assert (
        "fc2.weight[0], fc2.bias[0]: must stay, group fc2, because these are channels of an output"
        " of the model, and outputs keep their shape" in text
    )
    assert "where: node output" in text
    assert "by way of: fc2 -> output" in text


def test_channels_of_an_input_say_so() -> None:
    found = analyzed("unet").why("*")
    assert "these are channels of input x of the model, and inputs keep their shape" in str(found)
    axis = entry(residual(nn.Identity()).why("stem"), "stem.weight", 1)
    assert axis.reason is not None
    assert axis.reason.where.node == "x"
    assert nodes(axis) == ["stem"]


def test_kernel_axes_say_so() -> None:
    found = analyzed("classic_cnn").why("conv1.weight")
    assert (
        "conv1.weight[2], conv1.weight[3]: must stay, because this is the kernel axis of a"
        " convolution: it has places, not channels" in str(found)
    )
    assert entry(found, "conv1.weight", 2).group == ""


def test_an_axis_of_one_position_says_so() -> None:
    model = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Conv2d(1, 2, 3))
    text = str(analyze(model, torch.randn(1, 3, 4, 4)).why("0"))
    assert "0.bias[0]: must stay, because the axis has a single position, and one" in text


def test_a_group_of_one_channel_says_so() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.head = nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x) + F.pad(x, (0, 0, 0, 0, 0, 1)))

    found = analyze(Padded(), torch.randn(1, 3, 4, 4)).why("conv.bias")
    assert [(axis.positions, axis.prunable) for axis in found.axes] == [(3, False), (1, False)]
    assert "conv.bias[0] 1 of 4: must stay, group conv, because this is a single channel" in str(
        found
    )


def test_integers_say_so() -> None:
    found = analyzed("index_channels").why("*")
    text = [str(reason) for reason in found.reasons]
    assert any(t.startswith("it holds integers") for t in text)


def test_what_no_operator_reads_says_so() -> None:
    layer = nn.Linear(4, 4)
    layer.register_parameter("table", nn.Parameter(torch.zeros(3)))
    found = analyze(nn.Sequential(layer, nn.Linear(4, 2)), torch.randn(2, 4)).why("0.table")
    assert str(found).startswith("0.table[0]: must stay, because no operator reads it")


def test_an_operator_of_torch_without_a_rule_is_named_with_its_line_and_a_hint() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Inverse(), nn.Linear(4, 2))
    axis = entry(analyze(model, torch.randn(2, 4, 4)).why("1.before"), "1.before.weight", 0)
    assert axis.reason is not None
    assert axis.reason.what == "operator aten.cholesky_solve.default has no label rule"
    assert axis.reason.where.module == "1"
    assert "test_explanations.py" in axis.reason.where.source
    assert "@fxprune.rule(torch.ops.aten.cholesky_solve.default)" in axis.reason.hint


def test_an_unlabelled_custom_operator_is_named_with_what_to_do() -> None:
    text = str(residual(nn.Sequential(Mystery(), nn.Conv2d(8, 2, 1))).why("inner.2"))
    assert "because operator fxprune_why.mystery.default has no label rule" in text
    assert "where: node mystery, module tail.0, op fxprune_why.mystery.default, " in text
    assert "what to do: register one with @fxprune.rule(torch.ops.fxprune_why.mystery.def" in text


def test_a_position_that_is_selected_says_so() -> None:
    class Selected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.before(x)[:, 2] * 2

    found = analyze(Selected(), torch.randn(2, 4)).why("before.bias")
    assert "before.bias[0] 1 of 4: must stay" in str(found)
    assert "because a single position is selected" in str(found)


def test_channels_that_meet_an_axis_of_places_say_what_made_it() -> None:
    class Positioned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Conv1d(3, 4, 1)
            self.table = nn.Parameter(torch.randn(6))
            self.head = nn.Conv1d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.before(x) + self.table)

    found = analyze(Positioned(), torch.randn(2, 3, 6)).why("table")
    assert "because they are coupled to an axis of convolution, all of which stays" in str(found)
    assert "where: node before, module before, op aten.convolution.default" in str(found)
    assert "coupled at: node add" in str(found)


def test_groups_that_only_go_by_name_say_so() -> None:
    deps = analyzed("grouped_conv")
    group = next(g for g in deps.groups if g.kind == "groups" and g.prunable)
    assert str(deps.why(group.name)).endswith(f"group {group.name}, where a plan names it")


# Far away


def test_a_pin_that_reaches_through_residual_adds_tells_the_way_and_the_adds() -> None:
    found = residual(nn.Sequential(Mystery(), nn.Conv2d(8, 2, 1))).why("conv")
    axis = entry(found, "conv.weight", 0)
    assert nodes(axis) == ["conv", "relu", "add", "add_1", "mystery"]
    assert [place.node for place in axis.joints] == ["add", "add_1"]
    assert all("test_explanations.py" in place.source for place in axis.joints)
    assert "by way of: conv -> relu -> add -> add_1 -> mystery" in str(found)
    assert "coupled at: node add, " in str(found)
    inside = entry(found, "conv.weight", 1)
    assert inside.reason == axis.reason


def test_an_output_that_is_reached_through_residual_adds_tells_the_way() -> None:
    axis = entry(residual(nn.Identity()).why("conv.weight"), "conv.weight", 0)
    assert axis.reason is not None
    assert axis.reason.what == "output of the model"
    assert nodes(axis) == ["conv", "relu", "add", "add_1", "tail", "output"]


def test_what_a_residual_block_has_inside_stays_free() -> None:
    found = residual(nn.Identity()).why("inner.0.weight")
    assert entry(found, "inner.0.weight", 0).prunable
    assert entry(found, "inner.0.weight", 0).reason is None
    assert not entry(found, "inner.0.weight", 1).prunable


def test_channels_that_meet_the_input_are_told_where() -> None:
    found = analyze(InputSkip().eval(), torch.randn(2, 4, 5, 5)).why("conv")
    axis = entry(found, "conv.weight", 0)
    assert axis.reason is not None
    assert axis.reason.what == "input x of the model"
    assert nodes(axis) == ["conv", "add"]
    assert [place.node for place in axis.joints] == ["add"]


def test_a_long_way_is_shortened_in_the_text_only() -> None:
    layers = [nn.Conv2d(8, 8, 1, groups=8) for _ in range(12)]
    found = residual(nn.Sequential(*layers)).why("conv.weight")
    assert len(entry(found, "conv.weight", 0).way) == 17
    assert "conv -> relu -> add -> (11 more) -> tail_10 -> tail_11 -> output" in str(found)


# Names


@pytest.mark.parametrize(
    ("pattern", "parameters"),
    [
        ("conv2", {"conv2.weight", "conv2.bias"}),
        ("conv*.bias", {"conv1.bias", "conv2.bias"}),
        ("conv?", {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"}),
        ("fc1.weight", {"fc1.weight"}),
    ],
)
def test_modules_patterns_and_parameters_can_be_asked_for(
    pattern: str, parameters: set[str]
) -> None:
    assert {axis.parameter for axis in analyzed("classic_cnn").why(pattern).axes} == parameters


def test_a_group_can_be_asked_for() -> None:
    deps = analyzed("grouped_conv")
    group = next(g for g in deps.groups if g.kind == "groups" and g.prunable)
    found = deps.why(group.name)
    assert {axis.group for axis in found.axes} == {group.name}
    assert [(a.parameter, a.dim) for a in found.axes] == [
        (m.parameter, m.dim) for m in group.members
    ]


def test_a_tied_parameter_answers_under_both_names() -> None:
    deps = analyzed("shared_module")
    both = [name for name, first in deps.trace.tied.items() if name != first]
    for name in both:
        first = deps.trace.tied[name]
        ours, theirs = deps.why(name).axes, deps.why(first).axes
        assert [(a.dim, a.reason, a.way) for a in ours] == [
            (a.dim, a.reason, a.way) for a in theirs
        ]


def test_an_unknown_name_is_answered_with_the_nearest_ones() -> None:
    with pytest.raises(PlanError, match="matches 'conv_1'") as caught:
        analyzed("classic_cnn").why("conv_1")
    assert "conv1" in str(caught.value)


def test_an_unused_module_is_told_apart_from_an_unknown_one() -> None:
    class Idle(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(4, 6), nn.Linear(6, 2))
            self.spare = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self[1](self[0](x))

    with pytest.raises(PlanError, match="why: spare is not used by the graph"):
        analyze(Idle(), torch.randn(2, 4)).why("spare")


# The zoo


@pytest.mark.parametrize("name", ZOO)
def test_every_axis_is_prunable_or_has_a_reason(name: str) -> None:
    deps = analyzed(name)
    found = deps.why("*")
    for axis in found.axes:
        assert axis.prunable == (axis.reason is None)
        assert axis.reason is None or isinstance(axis.reason, Diagnostic)
        assert axis.group == "" or deps.group(axis.group).prunable == axis.prunable
        assert 0 < axis.positions <= axis.size
    told = {(axis.parameter, axis.dim) for axis in found.axes}
    assert told == {(n, dim) for n, tensor in deps.state.items() for dim in range(tensor.dim())}


@pytest.mark.parametrize("name", ZOO)
def test_a_pinned_channel_always_has_a_way_to_what_pins_it(name: str) -> None:
    for axis in analyzed(name).why("*").axes:
        unread = axis.reason is not None and axis.reason.what.startswith("not read")  # no value
        if axis.group and not axis.prunable and axis.reason and str(axis.reason.where):
            assert unread or axis.way, str(axis)


@pytest.mark.parametrize("name", ZOO)
def test_the_members_of_a_group_are_the_axes_that_name_it(name: str) -> None:
    deps = analyzed(name)
    named: dict[str, set[tuple[str, int]]] = {}
    for axis in deps.why("*").axes:
        named.setdefault(axis.group, set()).add((deps.trace.tied[axis.parameter], axis.dim))
    for group in deps.groups:
        assert named[group.name] == {(m.parameter, m.dim) for m in group.members}


@pytest.mark.parametrize("what", ["constant", "integers", "a reason of a rule"])
def test_plain_words_of_other_reasons_are_sentences(what: str) -> None:
    text = in_plain_words(Diagnostic(what))
    assert what == "a reason of a rule" or "all of which stay" in text


# The prunable share


def entries_that_can_go(deps: DependencyGraph, name: str, tensor: Tensor) -> int:
    """Entry by entry, from the members of the groups."""
    goes = np.zeros(tuple(tensor.shape), dtype=np.bool_)
    for group in deps.groups:
        for member in group.members:
            if group.prunable and member.parameter == name:
                shape = [1] * tensor.dim()
                shape[member.dim] = -1
                goes |= (member.channels >= 0).reshape(shape)
    return int(goes.sum())


@pytest.mark.parametrize("name", ZOO)
def test_the_prunable_share_counts_entries_of_parameters(name: str) -> None:
    deps = analyzed(name)
    parameters = dict(deps.graph_module.named_parameters())
    prunable = sum(entries_that_can_go(deps, n, p) for n, p in parameters.items())
    total = sum(p.numel() for p in parameters.values())
    assert (deps.total_share.prunable, deps.total_share.parameters) == (prunable, total)
    assert deps.prunable_share == (prunable / total if total else 0)
    assert json.dumps(deps.prunable_share)


def test_nothing_to_prune_is_a_share_of_zero() -> None:
    assert analyzed("nothing_to_prune").prunable_share == 0
    assert analyze(nn.ReLU(), torch.randn(2, 3)).prunable_share == 0


def test_a_tied_parameter_counts_once() -> None:
    class Tied(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
            self[1].weight = self[0].weight

    assert analyze(Tied(), torch.randn(2, 4)).total_share.parameters == 16


def test_a_module_that_holds_all_the_others_is_opened() -> None:
    inner = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    deps = analyze(nn.Sequential(nn.Sequential(inner)), torch.randn(2, 4))
    assert [row.module for row in deps.shares] == ["0.0.0", "0.0.2"]
    assert [row.prunable for row in deps.shares] == [30, 12]


def test_the_text_of_an_analysis_tells_the_share() -> None:
    deps = analyzed("channel_shuffle_grouped")
    lines, listing = str(deps).splitlines(), deps.text(full=True).splitlines()
    for told in (lines, listing):
        assert "prunable share of the parameters: 88.2% (1,152 of 1,306)" in told
    assert "    1: 60.0% (216 of 360)" in listing
    assert ["1", "360", "216", "60.0%"] in [line.split() for line in lines]


class Blocks(nn.Module):
    """Three blocks that are alike, and one output."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4)) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


def test_what_is_said_of_blocks_that_are_alike_is_said_once() -> None:
    found = analyze(Blocks().eval(), torch.randn(2, 4)).why("blocks.*")
    (can,) = [line for line in str(found).splitlines() if "can be pruned" in line]
    assert can == (
        "blocks.{0-2}.0.weight[0], blocks.{0-2}.0.bias[0], blocks.{0-2}.2.weight[1]: can be pruned,"
        " groups blocks.{0-2}.0"
    )
    full = [line for line in found.text(full=True).splitlines() if "can be pruned" in line]
    assert full[1] == (
        "blocks.1.0.weight[0], blocks.1.0.bias[0], blocks.1.2.weight[1]: can be pruned,"
        " group blocks.1.0"
    )
    assert len(full) == 3


def test_folding_an_explanation_loses_no_axis() -> None:
    for name in ("channel_shuffle_grouped", "attention_modules", "qkv_fused"):
        found = analyzed(name).why("*")
        full = found.text(full=True)
        for axis in found.axes:
            assert str(axis) in full
        assert len(str(found)) <= len(full)
