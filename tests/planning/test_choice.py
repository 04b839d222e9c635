"""Which channels `fxprune.plan` chooses, and what it refuses."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune import InputError, PlanError
from fxprune.planning import Plan
from models_zoo import ZOO, randomize
from tests.planning.models import analyzed_chain, chain, zoo

QKV, DIMS = "1.inner.qkv", "1.inner.qkv[head_dims]"


def widths(plan: Plan) -> dict[str, int]:
    return {name: group.width for name, group in plan.groups.items()}


# -- ratios ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "ratio", "width"),
    [
        (8, 0.0, 8),
        (8, 0.5, 4),
        (10, 0.25, 8),  # floor(2.5) go
        (3, 0.5, 2),
        (3, 0.3, 3),
        (10, 0.3, 7),  # 10 * 0.3 is 3 but for rounding
        (100, 0.29, 71),  # 100 * 0.29 is 28.999999999999996
        (8, 1 / 3, 6),
        (4, 0.99, 1),
        (2, 0.5, 1),
        (1000, 0.9999, 1),
    ],
)
def test_floor_of_size_times_ratio_channels_go_and_one_stays(
    size: int, ratio: float, width: int
) -> None:
    assert widths(fxprune.plan(analyzed_chain(3, size, 2), ratio=ratio)) == {"0": width}


def test_an_integer_ratio_is_a_ratio() -> None:
    assert widths(fxprune.plan(analyzed_chain(3, 8, 2), ratio=0)) == {"0": 8}


def test_without_a_ratio_nothing_goes() -> None:
    plan = fxprune.plan(zoo("residual"))
    assert plan.slices == {}
    assert all(group.removed == () for group in plan.groups.values())


def test_the_ratio_holds_for_every_group() -> None:
    plan = fxprune.plan(zoo("inception"), ratio=0.5)
    assert all(g.width == g.size - g.size // 2 for g in plan.groups.values())


def test_pinned_groups_are_not_in_the_plan() -> None:
    deps = zoo("residual")
    plan = fxprune.plan(deps, ratio=0.5)
    assert set(plan.groups) == {group.name for group in deps.groups if group.pinned is None}


def test_whole_groups_and_head_dims_stay_by_default() -> None:
    plan = fxprune.plan(zoo("grouped_conv"), ratio=0.5)
    kinds = {group.kind: bool(group.removed) for group in plan.groups.values()}
    assert kinds == {"groups": False, "channels": True}


@pytest.mark.parametrize("heads", [True, False])
@pytest.mark.parametrize("head_dims", [True, False])
@pytest.mark.parametrize("groups", [True, False])
def test_switches_say_which_kinds_a_ratio_takes_from(
    heads: bool, head_dims: bool, groups: bool
) -> None:
    chosen = {"channels": True, "heads": heads, "head_dims": head_dims, "groups": groups}
    for name in ("grouped_conv", "qkv_fused"):
        plan = fxprune.plan(zoo(name), ratio=0.5, heads=heads, head_dims=head_dims, groups=groups)
        kinds = {group.kind: bool(group.removed) for group in plan.groups.values()}
        assert kinds == {kind: chosen[kind] for kind in kinds}


def test_a_kind_that_is_switched_off_can_be_named() -> None:
    deps = zoo("qkv_fused")
    (name,) = (group.name for group in deps.groups if group.kind == "head_dims")
    assert fxprune.plan(deps, ratios={name: 0.5}).groups[name].width == 3


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ({"strategies": {DIMS: {"round_to": 2}}}, "pass head_dims=True, or give"),
        ({"strategies": {DIMS: {"criterion": "l1"}}, "ratio": 0.5}, "head_dims=True"),
        ({"strategies": {QKV: {"round_to": 2}}, "heads": False}, "heads=True or head_dims=True"),
        ({"strategies": {"*qkv": {"ratio": 0.5}}, "heads": False}, "heads=True or head_dims=True"),
        ({"strategies": {QKV: {"threshold": 1}}, "heads": False}, "heads=True or head_dims=True"),
        ({"ratios": {QKV: 0.5}, "heads": False}, "heads=True or head_dims=True"),
    ],
)
def test_what_is_said_of_nothing_but_kinds_that_are_off_is_refused_with_their_switches(
    said: Any, advice: str
) -> None:
    with pytest.raises(PlanError, match="would hold for nothing") as caught:
        fxprune.plan(zoo("qkv_fused"), **said)
    assert advice in caught.value.hint
    assert "head_dims" in caught.value.why


@pytest.mark.parametrize(
    "said",
    [
        {"strategies": {QKV: {"round_to": 2}}, "head_dims": True},
        {"strategies": {QKV: {"round_to": 2}}},  # heads are on, head dims are off
        {"strategies": {"*": {"criterion": "l1"}}, "heads": False, "head_dims": True},
        {"strategies": {DIMS: {"ratio": 0.5}}},
        {"ratios": {QKV: 0}, "heads": False},
    ],
)
def test_what_is_said_of_something_that_is_on_or_says_that_nothing_goes_is_fine(said: Any) -> None:
    fxprune.plan(zoo("qkv_fused"), **said)


@pytest.mark.parametrize("name", ["heads", "head_dims", "groups"])
@pytest.mark.parametrize("value", [0, 1, "yes", None])
def test_a_switch_that_is_not_true_or_false_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name} is"):
        fxprune.plan(chain(3, 8, 2), torch.zeros(1, 3), 0.5, **{name: value})


def test_at_least_one_channel_of_each_half_of_a_chunk_stays() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fused = nn.Linear(4, 8)
            self.left, self.right = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            left, right = self.fused(x).chunk(2, dim=1)
            return self.left(left) + self.right(right)

    model = Halves()
    with torch.no_grad():
        model.fused.weight[:4] = 1e-3  # all of the left half has the lowest scores
    plan = fxprune.plan(model, torch.randn(1, 4), ratio=0.9)
    removed = plan.slices["fused.weight"][0]
    assert 0 < sum(position < 4 for position in removed) < 4
    assert 0 < sum(position >= 4 for position in removed) < 4


# -- round_to -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "ratio", "multiple", "width"),
    [
        (12, 0.5, 4, 8),  # 6, rounded up
        (16, 0.5, 8, 8),
        (16, 0.6, 8, 8),
        (16, 0.4, 8, 16),
        (64, 0.9, 16, 16),
        (10, 0.5, 7, 7),
        (10, 0.1, 8, 10),  # 16 are not there
        (6, 0.5, 100, 6),
    ],
)
def test_kept_widths_are_rounded_up_to_a_multiple(
    size: int, ratio: float, multiple: int, width: int
) -> None:
    plan = fxprune.plan(analyzed_chain(3, size, 2), ratio=ratio, round_to=multiple)
    assert widths(plan) == {"0": width}


@pytest.mark.parametrize("value", [0, -8, 1.5, "8", True, None])
def test_a_multiple_that_is_no_positive_integer_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="round_to is") as caught:
        fxprune.plan(chain(3, 8, 2), torch.zeros(1, 3), round_to=value)
    assert "at least 1" in caught.value.why


# -- ratios by name -------------------------------------------------------------------------


def test_a_module_name_sets_the_ratio_of_what_the_module_produces() -> None:
    plan = fxprune.plan(analyzed_chain(3, 8, 8, 8, 2), ratios={"1": 0.5})
    assert widths(plan) == {"0": 8, "1": 4, "2": 8}


def test_ratios_by_name_win_over_the_general_one() -> None:
    plan = fxprune.plan(analyzed_chain(3, 8, 8, 8, 2), ratio=0.5, ratios={"1": 0.25, "2": 0})
    assert widths(plan) == {"0": 4, "1": 6, "2": 8}


def test_a_containers_name_means_all_below_it() -> None:
    plan = fxprune.plan(zoo("residual"), ratios={"3": 0.5})
    assert widths(plan) == {
        "0.0": 8,
        "1.body.0.0": 8,
        "2.downsample.0": 8,  # the last block writes to this stream
        "2.body.0.0": 16,
        "3.body.0.0": 8,
    }


def test_a_pattern_means_every_module_that_matches() -> None:
    plan = fxprune.plan(zoo("residual"), ratios={"*.body.0.0": 0.5})
    assert widths(plan) == {
        "0.0": 8,
        "1.body.0.0": 4,
        "2.downsample.0": 16,
        "2.body.0.0": 8,
        "3.body.0.0": 8,
    }


def test_a_question_mark_stands_for_one_character() -> None:
    plan = fxprune.plan(zoo("classic_cnn"), ratios={"conv?": 0.5})
    assert widths(plan) == {"conv1": 2, "conv2": 4, "fc1": 64}


def test_a_name_is_not_the_beginning_of_another_one() -> None:
    deps = analyzed_chain(*[4] * 13)  # layers 0 to 11
    plan = fxprune.plan(deps, ratios={"1": 0.5})
    assert [name for name, width in widths(plan).items() if width < 4] == ["1"]


def test_a_group_name_with_a_kind_means_that_group_alone() -> None:
    plan = fxprune.plan(zoo("bottleneck_grouped"), ratio=0.5, ratios={"1.reduce.0[groups]": 0.5})
    assert plan.groups["1.reduce.0[groups]"].width == 2
    assert plan.groups["2.reduce.0[groups]"].width == 4


def test_a_group_name_with_a_number_means_that_group_alone() -> None:
    deps = zoo("flip_roll_slices")
    first, second = [group.name for group in deps.groups if "#" in group.name][:2]
    plan = fxprune.plan(deps, ratios={first: 0.5})
    assert plan.groups[first].removed
    assert not plan.groups[second].removed


def test_a_later_ratio_wins_over_an_earlier_one() -> None:
    deps = analyzed_chain(3, 8, 8, 2)
    assert widths(fxprune.plan(deps, ratios={"*": 0.5, "0": 0.25})) == {"0": 6, "1": 4}
    assert widths(fxprune.plan(deps, ratios={"0": 0.25, "*": 0.5})) == {"0": 4, "1": 4}


@pytest.mark.parametrize("writer", ["0.0", "1.body.1", "1"])
def test_a_shared_group_follows_whichever_of_its_writers_is_named(writer: str) -> None:
    assert fxprune.plan(zoo("residual"), ratios={writer: 0.5}).groups["0.0"].width == 4


# -- ignore ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ignored", "kept"),
    [
        (["conv1"], {"conv1"}),
        (["conv*"], {"conv1", "conv2"}),
        (["conv1", "fc1"], {"conv1", "fc1"}),
        (["*"], {"conv1", "conv2", "fc1"}),
    ],
)
def test_ignored_modules_keep_all_their_output_channels(ignored: list[str], kept: set[str]) -> None:
    plan = fxprune.plan(zoo("classic_cnn"), ratio=0.5, ignore=ignored)
    assert {name for name, group in plan.groups.items() if not group.removed} == kept


class Encoded(nn.Module):
    """Modules with modules inside, each of which is one node of the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(self.first(x))
        return self.last(self.attention(x, x, x, need_weights=False)[0])


INSIDE = {
    "attention": {"attention", "attention.in_proj_weight[heads]"},
    "layer": {"first", "layer.linear1.weight", "layer.self_attn.in_proj_weight[heads]"},
    "layer.linear1": {"layer.linear1.weight"},
}


@pytest.mark.parametrize("name", INSIDE)
def test_a_module_with_modules_inside_is_ignored_and_named_as_a_whole(name: str) -> None:
    deps = fxprune.analyze(Encoded().eval(), torch.randn(2, 4, 5))
    everything = {n for n, g in fxprune.plan(deps, ratio=0.5).groups.items() if g.removed}
    ignoring = fxprune.plan(deps, ratio=0.5, ignore=[name]).groups
    naming = fxprune.plan(deps, ratios={name: 0.5}).groups
    assert everything == set().union(*INSIDE.values())
    assert {n for n, g in ignoring.items() if g.removed} == everything - INSIDE[name]
    assert {n for n, g in naming.items() if g.removed} == INSIDE[name]


def test_channels_of_a_module_with_modules_inside_are_those_it_returns() -> None:
    deps = fxprune.analyze(Encoded().eval(), torch.randn(2, 4, 5))
    plan = fxprune.plan(deps, channels={"attention": [1, 6]})
    assert plan.groups["attention"].removed == (1, 6)
    assert plan.slices["attention.out_proj.weight"] == {0: (1, 6)}


class LastState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both_ways = nn.GRU(4, 5, batch_first=True, bidirectional=True)
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.both_ways(x)[1][-1])


def test_the_name_of_a_module_with_several_output_axes_is_that_of_its_group() -> None:
    plan = fxprune.plan(LastState().eval(), torch.randn(2, 6, 4), channels={"both_ways": [3]})
    assert plan.groups["both_ways"].removed == (3,)


def test_an_ignored_container_keeps_all_below_it() -> None:
    plan = fxprune.plan(zoo("residual"), ratio=0.5, ignore=["3"])
    kept = {name for name, group in plan.groups.items() if not group.removed}
    assert kept == {"2.downsample.0", "3.body.0.0"}


def test_ignoring_wins_over_a_ratio_for_the_same_module() -> None:
    plan = fxprune.plan(zoo("classic_cnn"), ratios={"conv1": 0.5}, ignore=["conv1"])
    assert plan.groups["conv1"].removed == ()


# -- explicit channels ----------------------------------------------------------------------


def test_explicit_channels_go_and_no_others() -> None:
    plan = fxprune.plan(analyzed_chain(3, 8, 8, 2), channels={"1": [6, 2]})
    assert plan.slices == {"1.weight": {0: (2, 6)}, "1.bias": {0: (2, 6)}, "2.weight": {1: (2, 6)}}


def test_explicit_channels_go_besides_those_of_the_ratio() -> None:
    plan = fxprune.plan(analyzed_chain(3, 8, 8, 2), ratios={"0": 0.5}, channels={"1": [3]})
    assert widths(plan) == {"0": 4, "1": 7}


def test_a_channel_that_is_named_twice_goes_once() -> None:
    plan = fxprune.plan(analyzed_chain(3, 8, 2), channels={"0": [3, 3]})
    assert plan.groups["0"].removed == (3,)


def test_a_numpy_number_is_a_ratio() -> None:
    assert widths(fxprune.plan(analyzed_chain(3, 8, 2), ratio=np.float32(0.5))) == {"0": 4}


def test_explicit_channels_can_be_those_of_a_group() -> None:
    deps = zoo("bottleneck_grouped")
    plan = fxprune.plan(deps, channels={"1.reduce.0[groups]": [2]})
    assert plan.groups["1.reduce.0[groups]"].removed == (2,)
    assert plan.slices["1.conv.0.weight"] == {0: (8, 9, 10, 11)}


def test_numpy_integers_are_channels() -> None:
    chosen = torch.tensor([1, 4]).numpy()
    plan = fxprune.plan(analyzed_chain(3, 8, 2), channels={"0": chosen})
    assert plan.groups["0"].removed == (1, 4)


def test_explicit_channels_reach_all_that_a_residual_stream_couples() -> None:
    plan = fxprune.plan(zoo("residual"), channels={"1.body.1": [2, 5]})
    assert plan.slices["0.0.weight"] == plan.slices["1.body.1.weight"] == {0: (2, 5)}
    assert plan.slices["1.body.0.0.weight"] == {1: (2, 5)}
    assert plan.slices["0.1.running_mean"] == plan.slices["1.body.2.running_var"] == {0: (2, 5)}
    assert plan.slices["2.downsample.0.weight"] == plan.slices["2.body.0.0.weight"] == {1: (2, 5)}


def test_an_explicit_channel_before_a_flatten_takes_all_its_columns() -> None:
    plan = fxprune.plan(zoo("classic_cnn"), channels={"conv2": [3]})
    assert plan.slices["conv2.weight"] == {0: (3,)}
    assert plan.slices["fc1.weight"] == {1: tuple(range(3 * 49, 4 * 49))}


def test_an_explicit_channel_of_a_grouped_convolution_takes_one_of_every_group() -> None:
    plan = fxprune.plan(zoo("bottleneck_grouped"), channels={"1.conv.0": [5]})
    assert plan.slices["1.conv.0.weight"] == {0: (1, 5, 9, 13)}
    assert plan.slices["1.expand.0.weight"] == {1: (1, 5, 9, 13)}


def test_an_explicit_channel_before_a_depthwise_convolution_goes_alone() -> None:
    plan = fxprune.plan(zoo("inverted_residual"), channels={"1.expand.0": [7]})
    assert plan.slices["1.expand.0.weight"] == plan.slices["1.depthwise.0.weight"] == {0: (7,)}
    assert plan.slices["1.project.0.weight"] == {1: (7,)}


# -- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [1, 1.0, -0.1, 1.5, 50, float("nan"), float("inf"), "0.5", True])
def test_a_ratio_outside_its_range_is_refused(ratio: Any) -> None:
    model, x = chain(3, 8, 2), torch.zeros(1, 3)
    with pytest.raises(InputError, match=r"^ratio is") as caught:
        fxprune.plan(model, x, ratio)
    assert "[0, 1)" in caught.value.why
    with pytest.raises(InputError, match=r"^ratios\['0'\] is"):
        fxprune.plan(model, x, ratios={"0": ratio})


def _by_ratio(name: str) -> Plan:
    return fxprune.plan(zoo("residual"), ratios={name: 0.5})


def _by_ignore(name: str) -> Plan:
    return fxprune.plan(zoo("residual"), ratio=0.5, ignore=[name])


def _by_channels(name: str) -> Plan:
    return fxprune.plan(zoo("residual"), channels={name: [0]})


@pytest.mark.parametrize("ask", [_by_ratio, _by_ignore, _by_channels])
def test_an_unknown_module_is_answered_with_the_nearest_names(ask: Callable[[str], Plan]) -> None:
    with pytest.raises(PlanError, match=r"'1\.bdy\.1'") as caught:
        ask("1.bdy.1")
    assert "1.body.1" in caught.value.hint


@pytest.mark.parametrize("channel", [8, 100, -1])
def test_a_channel_out_of_range_is_refused_with_the_width(channel: int) -> None:
    with pytest.raises(PlanError, match=f"channel {channel} of 0 is out of range") as caught:
        fxprune.plan(analyzed_chain(3, 8, 2), channels={"0": [channel]})
    assert "8 output channels" in caught.value.why


@pytest.mark.parametrize("channel", [1.0, "1", True, None])
def test_a_channel_that_is_no_integer_is_refused(channel: Any) -> None:
    with pytest.raises(InputError, match=r"channels\['0'\] is"):
        fxprune.plan(analyzed_chain(3, 8, 2), channels={"0": [channel]})


@pytest.mark.parametrize("channels", [3, "12", None])
def test_channels_that_are_no_list_are_refused(channels: Any) -> None:
    with pytest.raises(InputError, match=r"channels\['0'\] is") as caught:
        fxprune.plan(analyzed_chain(3, 8, 2), channels={"0": channels})
    assert "list of channel numbers" in caught.value.hint


@pytest.mark.parametrize("names", ["conv1", {1: 0.5}, [0.5]])
def test_ratios_and_channels_without_names_are_refused(names: Any) -> None:
    deps = analyzed_chain(3, 8, 2)
    with pytest.raises(InputError, match=r"^ratios is"):
        fxprune.plan(deps, ratios=names)
    with pytest.raises(InputError, match=r"^channels is"):
        fxprune.plan(deps, channels=names)


@pytest.mark.parametrize("names", ["conv1", 3, [1]])
def test_ignored_modules_without_names_are_refused(names: Any) -> None:
    with pytest.raises(InputError, match=r"^ignore is"):
        fxprune.plan(analyzed_chain(3, 8, 2), ratio=0.5, ignore=names)


def test_a_channel_of_an_ignored_module_is_refused() -> None:
    with pytest.raises(PlanError, match="group 0 is ignored"):
        fxprune.plan(analyzed_chain(3, 8, 2), channels={"0": [1]}, ignore=["0"])


def test_removing_every_channel_is_refused_where_the_output_needs_one() -> None:
    with pytest.raises(PlanError, match=r"nothing would be left of 0\.weight, dim 0") as caught:
        fxprune.plan(analyzed_chain(3, 8, 2), channels={"0": range(8)})
    assert caught.value.why == "node _1, which the model returns, would not depend on its inputs"
    assert "at least one" in caught.value.hint


def test_a_pinned_channel_is_refused_with_the_reason() -> None:
    with pytest.raises(PlanError, match="channel 1 of 1 cannot be removed") as caught:
        fxprune.plan(analyzed_chain(3, 8, 2), channels={"1": [1]})
    assert "output of the model" in caught.value.why


def test_a_ratio_for_a_module_that_can_lose_nothing_is_refused_with_the_reason() -> None:
    with pytest.raises(PlanError, match="nothing of 1 can be removed") as caught:
        fxprune.plan(analyzed_chain(3, 8, 2), ratios={"1": 0.5})
    assert "output of the model" in caught.value.why


def test_a_pattern_may_match_modules_that_can_lose_nothing() -> None:
    assert widths(fxprune.plan(analyzed_chain(3, 8, 2), ratios={"*": 0.5})) == {"0": 4}


def test_a_refused_plan_leaves_the_model_as_it_was() -> None:
    model = chain(3, 8, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(PlanError):
        fxprune.plan(model, torch.zeros(1, 3), channels={"0": [99]})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# -- the plan as a whole --------------------------------------------------------------------


def test_slices_have_the_lengths_that_the_widths_promise() -> None:
    deps = zoo("inception")
    plan = fxprune.plan(deps, ratio=0.5)
    for name, group in plan.groups.items():
        for member in deps.group(name).members:
            gone = set(plan.slices[member.parameter][member.dim])
            mine = {p for c in group.removed for p in member.positions[c]}
            assert mine <= gone


def test_slices_are_sorted_positions_inside_the_shapes() -> None:
    plan = fxprune.plan(zoo("channel_shuffle"), ratio=0.5)
    assert plan.slices
    for name, dims in plan.slices.items():
        for dim, positions in dims.items():
            assert list(positions) == sorted(set(positions))
            assert positions[0] >= 0
            assert positions[-1] < plan.shapes[name][dim]


def test_a_plan_from_an_analysis_equals_that_from_the_model() -> None:
    entry = ZOO["residual"]
    model = randomize(entry.build()).eval()
    made = fxprune.plan(model, entry.example_inputs(), 0.5, ignore=["3"])
    deps = fxprune.analyze(model, entry.example_inputs())
    assert fxprune.plan(deps, ratio=0.5, ignore=["3"]) == made


def test_a_plan_tells_how_it_was_made() -> None:
    plan = fxprune.plan(
        analyzed_chain(3, 8, 8, 2),
        ratio=0.5,
        ratios={"0": 0.25},
        channels={"1": [0]},
        ignore=["2"],
        criterion="l1",
        round_to=2,
        seed=3,
    )
    assert plan.made == {
        "ratio": 0.5,
        "ratios": {"0": 0.25},
        "channels": {"1": [0]},
        "ignore": ["2"],
        "criterion": "l1",
        "reduction": "sum",
        "round_to": 2,
        "seed": 3,
        "heads": True,
        "head_dims": False,
        "groups": False,
    }


def test_the_text_of_a_plan_tells_the_widths() -> None:
    plan = fxprune.plan(analyzed_chain(3, 8, 6, 2), ratio=0.5)
    assert str(plan).splitlines() == [
        "Plan: 14 -> 7 channels in 2 groups",
        "made with ratio 0.5, criterion l2",
        "",
        " group     kind      width     left",
        "────────────────────────────────────",
        " 0         channels   8 -> 4  50.0%",
        " 1         channels   6 -> 3  50.0%",
        "────────────────────────────────────",
        " all    2            14 -> 7  50.0%",
    ]


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), Fraction(1, 2)])
def test_a_plan_of_any_kind_of_numbers_is_the_one_that_its_text_tells(number: Any) -> None:
    deps = analyzed_chain(3, 8, 8, 8, 2)
    two: Any = np.int64(2)
    for options in (
        {"threshold": number, "round_to": two, "min_channels": two},
        {"ratio": 0.25, "max_ratio": number, "seed": two, "channels": {"0": np.array([1])}},
        {"ratios": {"0": number}, "keep": {"1": np.array([1])}},
        {"strategies": {"0": {"threshold": number, "max_ratio": number, "round_to": two}}},
        {"target": {"params": number}},
    ):
        plan = fxprune.plan(deps, **options)
        assert Plan.from_json(plan.to_json()) == plan


def test_names_and_channels_that_can_be_read_once_only_count() -> None:
    deps = analyzed_chain(3, 8, 8, 2)
    assert not fxprune.plan(deps, ratio=0.5, ignore=iter(["0"])).groups["0"].removed  # type: ignore[arg-type]
    plan = fxprune.plan(deps, channels={"0": iter([1, 2])}, keep={"1": iter([3])})  # type: ignore[dict-item]
    assert plan.groups["0"].removed == (1, 2)
    assert plan.made["keep"] == {"1": [3]}


@pytest.mark.parametrize("name", ["threshold", "max_ratio"])
@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_numbers_too_large_for_a_float_are_refused(name: str, value: int) -> None:
    deps = analyzed_chain(3, 8, 2)
    options: dict[str, Any] = {name: value}
    with pytest.raises(InputError, match=f"{name} is"):
        fxprune.plan(deps, **options)
    with pytest.raises(InputError, match=rf"strategies\['0'\]: {name} is"):
        fxprune.plan(deps, strategies={"0": options})


@pytest.mark.parametrize("name", ["ignore", "drop"])
@pytest.mark.parametrize("value", ["0", 3, None, [3], torch.zeros(2), torch.tensor(1.0)])
def test_what_is_no_list_of_names_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} is"):
        fxprune.plan(analyzed_chain(3, 8, 2), **{name: value})


def test_a_set_of_names_makes_the_same_plan_in_every_process() -> None:
    names = ["0", "1", "2", "3", "4", "5", "6"]
    plan = fxprune.plan(analyzed_chain(3, 4, 4, 4, 4, 4, 4, 2), ignore=set(names))  # type: ignore[arg-type]
    assert plan.made["ignore"] == names
