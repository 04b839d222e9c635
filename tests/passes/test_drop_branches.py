"""Branches without channels: constants take their place, and nothing of them is left."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fxprune
from fxprune import DependencyGraph, Plan, PlanError, RewriteError, VerificationError
from fxprune.passes import DropBranches, SliceState
from models_zoo import randomize
from tests.passes.models import EXAMPLE, OTHER_SHAPES, assert_computes_the_original
from tests.torchvision_models import models

Body = Callable[[Any, Tensor], Tensor]
GONE = {"a": range(8)}


class Branched(nn.Module):
    """A stem of 16 channels, what `body` makes of them, and a head.

    `a` makes the 8 channels that go, `b` is what reads them.
    """

    def __init__(self, body: Body, **modules: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.a, self.b = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(16), nn.Conv2d(16, 5, 1)
        self.memory: Tensor
        self.register_buffer("memory", torch.ones(1, 16, 1, 1))
        self.body = body
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(self, F.relu(self.stem(x))))
        return out

    def remember(self, x: Tensor) -> Tensor:
        self.memory.copy_(x[:1, :, :1, :1])
        return x


def branched(body: Body, *, bias: bool = True, **modules: nn.Module) -> nn.Module:
    """A `Branched` in float64 with random weights; without `bias` the branch adds nothing."""
    model = randomize(Branched(body, **modules)).double().eval()
    if not bias:
        nn.init.zeros_(model.get_parameter("b.bias"))
    return model


def residual(m: Any, x: Tensor) -> Tensor:
    """A branch with a norm, which is added."""
    return x + m.norm(m.b(torch.sigmoid(m.a(x))))


def shrunk(
    model: nn.Module,
    channels: Mapping[str, Sequence[int]] | None = None,
    x: Tensor = EXAMPLE,
    **options: Any,
) -> tuple[Plan, fx.GraphModule]:
    plan = fxprune.plan(model, x, channels=channels or GONE)
    return plan, fxprune.shrink(model, plan, x, **options)


def refusal(body: Body, **modules: nn.Module) -> RewriteError:
    with pytest.raises(RewriteError, match="no channels left") as caught:
        shrunk(branched(body, **modules), verify=False)
    assert "keep at least one channel" in caught.value.hint
    return caught.value


def constants(small: nn.Module) -> dict[str, tuple[int, ...]]:
    """The buffers that take the place of branches, with their shapes."""
    return {n: tuple(b.shape) for n, b in small.named_buffers() if "constant" in n}


def nodes(small: fx.GraphModule) -> list[str]:
    return [node.name for node in small.graph.nodes]


def splits(small: fx.GraphModule) -> list[Any]:
    """The sizes that splits are called with."""
    found = [n for n in small.graph.nodes if "chunk" in str(n.target) or "split" in str(n.target)]
    return [node.args[1] for node in found]


def group(deps: DependencyGraph, kind: str, size: int) -> str:
    return next(g.name for g in deps.groups if g.kind == kind and g.size == size and g.prunable)


# -- a block of a residual network ----------------------------------------------------------------

IMAGE = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return randomize(models.resnet18(num_classes=7)).double().eval()


@pytest.fixture(scope="module")
def block_gone(resnet: nn.Module) -> tuple[Plan, fx.GraphModule]:
    return shrunk(resnet, {"layer1.0.conv1": range(64)}, IMAGE)


def test_nothing_is_left_of_a_block_but_its_constant(block_gone: Any) -> None:
    _, small = block_gone
    assert constants(small) == {"layer1_0_bn2_constant": (1, 64, 1, 1)}
    of_block = {name for name in dict(small.named_modules()) if name.startswith("layer1.0")}
    assert of_block == {"layer1.0", "layer1.0.relu"}
    assert not [name for name in small.state_dict() if name.startswith("layer1.0.")]
    left = [name for name in nodes(small) if name.startswith("layer1_0")]
    assert left == ["layer1_0_bn2_constant", "layer1_0_relu_1"]
    assert not small.get_buffer("layer1_0_bn2_constant").requires_grad


def test_a_network_without_a_block_computes_the_masked_original(
    resnet: nn.Module, block_gone: Any
) -> None:
    plan, small = block_gone
    generator = torch.Generator().manual_seed(1)
    others = [
        torch.randn(n, 3, h, w, generator=generator, dtype=torch.float64)
        for n, h, w in ((1, 32, 32), (3, 32, 32), (2, 48, 40))
    ]
    # the constant of eval mode has the statistics of what is not removed of the branch
    assert_computes_the_original(resnet, plan, small, [IMAGE, *others])


def test_the_report_tells_what_has_gone(block_gone: Any) -> None:
    report = block_gone[1].meta["fxprune"]
    assert report.groups["layer1.0.conv1"].width == 0
    block = 2 * 64 * 64 * 9 + 2 * 2 * 64
    assert report.before.parameters - report.after.parameters == block
    assert report.before.macs - report.after.macs == 2 * 2 * 64 * 64 * 9 * 8 * 8
    note = "layer1.0.conv1 has no channels left: what its branch still adds is a constant of eval"
    assert any(line.startswith(note) for line in report.notes())


def test_verification_counts_the_parameters_that_are_left(block_gone: Any) -> None:
    _, small = block_gone
    proof = small.meta["fxprune"].verification
    assert proof.gradients == len(list(small.parameters()))
    assert proof.every_node
    assert proof.skipped == {}


def test_a_network_without_a_block_can_be_trained_copied_pickled_and_exported(
    block_gone: Any,
) -> None:
    _, given = block_gone
    with torch.no_grad():
        expected = given(IMAGE)
    for small in (copy.deepcopy(given), pickle.loads(pickle.dumps(given))):
        torch.testing.assert_close(small(IMAGE), expected)
        small.train()
        small(IMAGE).sum().backward()
        assert all(p.grad is not None for p in small.parameters())
    exported = torch.export.export(given, (IMAGE,)).module()
    torch.testing.assert_close(exported(IMAGE), expected)


def test_a_pickled_network_without_a_block_is_verified_by_its_outputs(
    resnet: nn.Module, block_gone: Any
) -> None:
    plan, small = block_gone
    proof = fxprune.verify(resnet, pickle.loads(pickle.dumps(small)), plan, IMAGE)
    assert proof.compared == "outputs"


def test_the_original_is_not_changed(resnet: nn.Module, block_gone: Any) -> None:
    before = fxprune.analyze(resnet, IMAGE)
    state = {name: tensor.clone() for name, tensor in resnet.state_dict().items()}
    code, names = before.graph_module.code, set(before.graph_module.state_dict())
    fxprune.shrink(before, block_gone[0], IMAGE, verify=False)
    assert before.graph_module.code == code
    assert set(before.graph_module.state_dict()) == names
    assert all(torch.equal(state[name], t) for name, t in resnet.state_dict().items())


def test_a_plan_without_a_group_survives_json(resnet: nn.Module, block_gone: Any) -> None:
    plan, small = block_gone
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert re.search(r"layer1\.0\.conv1 +channels +64 -> +0 +0\.0%", str(again))
    assert nodes(fxprune.shrink(resnet, again, IMAGE, verify=False)) == nodes(small)


def test_a_wrong_constant_is_found(resnet: nn.Module, block_gone: Any) -> None:
    plan, given = block_gone
    for quick in (False, True):
        small = copy.deepcopy(given)
        small.get_buffer("layer1_0_bn2_constant")[0, 3] += 1e-3
        with pytest.raises(VerificationError, match="node iadd differs"):
            fxprune.verify(resnet, small, plan, IMAGE, quick=quick)


def test_a_forgotten_constant_is_found(resnet: nn.Module, block_gone: Any) -> None:
    plan, given = block_gone
    small = copy.deepcopy(given)
    small.get_buffer("layer1_0_bn2_constant").zero_()
    with pytest.raises(VerificationError, match="node iadd differs"):
        fxprune.verify(resnet, small, plan, IMAGE)


@pytest.mark.parametrize("options", [{"norm": "exact"}, {"emit": "auto"}, {"verify": "quick"}])
def test_other_ways_to_shrink_lose_the_block_too(resnet: nn.Module, options: Any) -> None:
    _, small = shrunk(resnet, {"layer1.0.conv1": range(64)}, IMAGE, **options)
    assert constants(small) == {"layer1_0_bn2_constant": (1, 64, 1, 1)}


def test_a_model_of_float32_is_verified_with_a_rounded_constant(resnet: nn.Module) -> None:
    model = copy.deepcopy(resnet).float()
    _, small = shrunk(model, {"layer1.0.conv1": range(64)}, IMAGE.float())
    proof = small.meta["fxprune"].verification
    assert small.get_buffer("layer1_0_bn2_constant").dtype is torch.float32
    assert proof.dtype == "float64"
    assert proof.relative < 1e-6


def test_a_model_in_training_mode_stays_in_it(resnet: nn.Module) -> None:
    _, small = shrunk(copy.deepcopy(resnet).train(), {"layer1.0.conv1": range(64)}, IMAGE)
    assert small.training


def test_several_blocks_go_at_once(resnet: nn.Module) -> None:
    channels = {"layer1.0.conv1": range(64), "layer2.1.conv1": range(128), "conv1": range(0, 64, 2)}
    plan, small = shrunk(resnet, channels, IMAGE)
    assert constants(small) == {
        "layer1_0_bn2_constant": (1, 32, 1, 1),
        "layer2_1_bn2_constant": (1, 128, 1, 1),
    }
    assert_computes_the_original(resnet, plan, small, [IMAGE])


def test_a_graph_of_operators_loses_a_block(resnet: nn.Module) -> None:
    batch = torch.export.Dim("batch")
    program = torch.export.export(resnet, (IMAGE,), dynamic_shapes=({0: batch},))
    plan, small = shrunk(program.module(), {"layer1.0.conv1": range(64)}, IMAGE)
    assert list(constants(small).values()) == [(1, 64, 1, 1)]
    assert not [name for name in small.state_dict() if name.startswith("layer1.0.")]
    assert_computes_the_original(resnet, plan, small, [IMAGE, IMAGE[:1]])


# -- other branches --------------------------------------------------------------------------------


def test_a_squeeze_and_excitation_becomes_a_constant_gate() -> None:
    def gated(m: Any, x: Tensor) -> Tensor:
        gate: Tensor = torch.sigmoid(m.b(F.relu(m.a(F.adaptive_avg_pool2d(x, 1)))))
        return x * gate

    modules = {"a": nn.Conv2d(16, 8, 1), "b": nn.Conv2d(8, 16, 1)}
    model = branched(gated, **modules)
    plan, small = shrunk(model)
    assert nodes(small) == ["x", "stem", "relu", "sigmoid_constant", "mul", "head", "output"]
    gate = torch.sigmoid(model.get_parameter("b.bias"))
    torch.testing.assert_close(small.get_buffer("sigmoid_constant")[0, :, 0, 0], gate)
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def test_a_constant_is_what_the_reader_of_nothing_returns_and_not_what_zeros_would_give() -> None:
    model = branched(residual)
    plan, small = shrunk(model)  # sigmoid(0) is 1/2, and is not read
    state = model.state_dict()
    scale = state["norm.weight"] / (state["norm.running_var"] + 1e-5).sqrt()
    expected = (state["b.bias"] - state["norm.running_mean"]) * scale + state["norm.bias"]
    torch.testing.assert_close(small.get_buffer("norm_constant")[0, :, 0, 0], expected)
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


@pytest.mark.parametrize("norm", ["kept", "exact"])
def test_constants_are_those_of_the_channels_that_stay(norm: str) -> None:
    def normalized(m: Any, x: Tensor) -> Tensor:
        out = m.mix(F.relu(m.b(F.group_norm(m.a(x), 2)))).movedim(1, -1)
        return x + F.layer_norm(out, (16,)).movedim(-1, 1)

    model = branched(normalized, mix=nn.Conv2d(16, 16, 1))
    channels = {**GONE, "b": range(0, 16, 3), "stem": range(0, 16, 2)}
    _, small = shrunk(model, channels, norm=norm)
    assert list(constants(small).values()) == [(1, 8, 1, 1)]


def test_an_addition_of_nothing_goes_as_well() -> None:
    model = branched(lambda m, x: x + m.b(m.a(x)), bias=False)
    plan, small = shrunk(model)
    assert nodes(small) == ["x", "stem", "relu", "head", "output"]
    assert constants(small) == {}
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def test_a_gate_of_one_goes_as_well() -> None:
    _, small = shrunk(branched(lambda m, x: x * (m.b(m.a(x)) + 1), bias=False))
    assert nodes(small) == ["x", "stem", "relu", "head", "output"]


def test_only_the_second_operand_of_a_difference_does_nothing() -> None:
    model = branched(lambda m, x: m.b(m.a(x)) - x, bias=False)
    plan, small = shrunk(model)
    assert "sub" in nodes(small)
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def test_a_sum_that_is_written_to_is_copied_where_its_operand_is_read_later() -> None:
    def overwritten(m: Any, x: Tensor) -> Tensor:
        x = x - 0.5
        y = x + m.b(m.a(x))
        y.relu_()
        return y * x

    model = branched(overwritten, bias=False)
    plan, small = shrunk(model)
    assert next(n for n in small.graph.nodes if n.name == "add").target is torch.clone
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def test_a_sum_that_is_written_to_is_copied_where_autograd_needs_its_operand() -> None:
    model = branched(lambda m, x: (x + m.b(m.a(x))).relu_(), bias=False)
    plan, small = shrunk(model)
    assert nodes(small) == ["x", "stem", "relu", "add", "relu_", "head", "output"]
    small(EXAMPLE).sum().backward()
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def test_an_input_is_not_overwritten_in_the_place_of_a_sum() -> None:
    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1), nn.Conv2d(3, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head((x + self.b(self.a(x))).relu_())
            return out

    model = randomize(Raw()).double().eval()
    nn.init.zeros_(model.get_parameter("b.bias"))
    _, small = shrunk(model)
    x = EXAMPLE.clone()
    small(x)
    assert torch.equal(x, EXAMPLE)


def test_a_constant_that_is_added_to_in_place_is_added_to_out_of_place() -> None:
    def added(m: Any, x: Tensor) -> Tensor:
        y: Tensor = m.b(m.a(x))
        y += x
        return y.relu_()

    model = branched(added)
    plan, small = shrunk(model)
    for _ in range(2):  # the buffer is the same in the second call
        assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def test_a_method_that_adds_in_place_is_replaced_too() -> None:
    model = branched(lambda m, x: m.b(m.a(x)).mul_(x))
    plan, small = shrunk(model)
    assert "b_constant" in constants(small)
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def test_a_constant_part_of_a_concatenation_is_expanded() -> None:
    head = nn.Conv2d(32, 5, 1)
    model = branched(lambda m, x: torch.cat([F.relu(m.norm(m.b(m.a(x)))), x], 1), head=head)
    plan, small = shrunk(model)
    assert constants(small) == {"relu_1_constant": (1, 16, 1, 1)}
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_a_constant_part_of_a_stack_is_expanded(dim: int) -> None:
    model = branched(lambda m, x: torch.stack([m.b(m.a(x)), x, x.relu()], dim).sum(dim))
    plan, small = shrunk(model)
    assert constants(small) == {"b_constant": (1, 16, 1, 1)}
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def test_a_constant_part_of_a_stack_takes_the_channels_that_stay() -> None:
    model = branched(lambda m, x: torch.stack(dim=1, tensors=(x, m.norm(m.b(m.a(x))))).prod(1))
    plan, small = shrunk(model, {"a": range(8), "stem": [1, 4]})
    assert constants(small) == {"norm_constant": (1, 14, 1, 1)}
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def test_a_part_of_a_concatenation_that_has_gone_is_left_out() -> None:
    head = nn.Conv2d(24, 5, 1)
    model = branched(lambda m, x: torch.cat([x, F.relu(m.a(x))], 1), head=head)
    plan, small = shrunk(model)
    assert nodes(small) == ["x", "stem", "relu", "cat", "head", "output"]
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def test_half_of_a_split_can_go() -> None:
    def halves(m: Any, x: Tensor) -> Tensor:
        first, second = m.a(x).chunk(2, 1)
        out: Tensor = x + m.one(first) + m.two(second)
        return out

    model = branched(halves, one=nn.Conv2d(4, 16, 1), two=nn.Conv2d(4, 16, 1))
    plan, small = shrunk(model, {"a": range(4)})
    assert constants(small) == {"one_constant": (1, 16, 1, 1)}
    assert not {"chunk", "getitem", "getitem_1"} & set(nodes(small))
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


@pytest.mark.parametrize("emptied", [0, 1, 2])
def test_a_third_of_a_split_leaves_a_split_of_two(emptied: int) -> None:
    def thirds(m: Any, x: Tensor) -> Tensor:
        parts = m.a(x).split([3, 2, 3], dim=1)
        out: Tensor = x + m.one(parts[0]) + m.two(parts[1]) * m.three(parts[2])
        return out

    layers = {name: nn.Conv2d(k, 16, 1) for name, k in (("one", 3), ("two", 2), ("three", 3))}
    model = branched(thirds, **layers)
    start, end = ((0, 3), (3, 5), (5, 8))[emptied]
    plan, small = shrunk(model, {"a": range(start, end)})
    assert splits(small) == [[3, 2, 3][:emptied] + [3, 2, 3][emptied + 1 :]]
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch 2.13 copies its own specs
def test_half_of_a_split_goes_from_operators_too() -> None:
    def halves(m: Any, x: Tensor) -> Tensor:
        first, second = m.a(x).chunk(2, 1)
        out: Tensor = x + m.one(first) + m.two(second)
        return out

    model = branched(halves, one=nn.Conv2d(4, 16, 1), two=nn.Conv2d(4, 16, 1))
    graph = torch.export.export(model, (EXAMPLE,)).module()
    _, name = (g.name for g in fxprune.analyze(graph, EXAMPLE).groups if g.size == 4)
    plan, small = shrunk(graph, {name: range(4)})
    assert splits(small) == []
    assert_computes_the_original(graph, plan, small, [EXAMPLE])


def test_what_is_written_into_the_half_that_is_left_shows_in_the_whole() -> None:
    def halves(m: Any, x: Tensor) -> Tensor:
        whole = m.a(x)
        first, second = whole.chunk(2, 1)
        second.mul_(2)
        out: Tensor = x + m.one(first) + m.b(whole)
        return out

    model = branched(halves, one=nn.Conv2d(4, 16, 1))
    plan, small = shrunk(model, {"a": range(4)})
    assert splits(small) == []
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def test_a_split_that_is_used_as_a_whole_keeps_its_empty_half() -> None:
    def halves(m: Any, x: Tensor) -> Tensor:
        parts = m.a(x).chunk(2, 1)
        return x + m.b(torch.cat(parts, 1)) + m.one(parts[0])

    model = branched(halves, one=nn.Conv2d(4, 16, 1))
    plan, small = shrunk(model, {"a": range(4)})
    assert splits(small) == [[0, 4]]
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def test_a_layer_of_a_dense_network_goes() -> None:
    net = models.DenseNet(4, (2, 2), 8, num_classes=5)
    model = randomize(net).double().eval()
    layer = "features.denseblock1.denselayer1"
    plan, small = shrunk(model, {f"{layer}.conv2": range(4)}, IMAGE)
    assert not [name for name in small.state_dict() if name.startswith(layer)]
    assert_computes_the_original(model, plan, small, [IMAGE])


def test_an_inverted_residual_goes() -> None:
    model = randomize(models.mobilenet_v2(num_classes=5)).double().eval()
    _, small = shrunk(model, {"features.3.conv.0.0": range(144)}, IMAGE, verify="quick")
    assert constants(small) == {"features_3_conv_3_constant": (1, 24, 1, 1)}
    assert not [name for name in small.state_dict() if name.startswith("features.3.")]


def test_a_grouped_convolution_goes() -> None:
    grouped = nn.Conv2d(16, 8, 3, padding=1, groups=4)
    model = branched(lambda m, x: x + m.b(F.relu(m.a(x))), a=grouped)
    plan = fxprune.plan(model, EXAMPLE, channels={"a": range(8)})
    small = fxprune.shrink(model, plan, EXAMPLE)
    assert constants(small) == {"b_constant": (1, 16, 1, 1)}
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def test_a_product_with_raw_weights_goes() -> None:
    def raw(m: Any, x: Tensor) -> Tensor:
        hidden = F.relu(F.conv2d(x, m.a.weight))
        return x + F.conv2d(hidden, m.b.weight, m.b.bias, padding=2)

    model = branched(raw)
    deps = fxprune.analyze(model, EXAMPLE)
    plan, small = shrunk(model, {group(deps, "channels", 8): range(8)})
    assert sorted(constants(small)) == ["conv2d_1_constant"]
    assert "a.weight" not in small.state_dict()
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


# -- sequences -------------------------------------------------------------------------------------

TOKENS = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
LONGER = torch.randn(3, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


class Tokens(nn.Module):
    """A projection, a module of 8 channels, and a head."""

    def __init__(self, inner: nn.Module, body: Body) -> None:
        super().__init__()
        self.stem, self.inner, self.head = nn.Linear(5, 8), inner, nn.Linear(8, 3)
        self.out = nn.Linear(6, 8)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(self, self.stem(x)))
        return out


def sequence(inner: nn.Module, body: Body) -> nn.Module:
    return randomize(Tokens(inner, body)).double().eval()


def test_an_attention_without_heads_is_the_bias_of_its_projection() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    model = sequence(attention, lambda m, x: x + m.inner(x, x, x, need_weights=False)[0])
    deps = fxprune.analyze(model, TOKENS)
    plan, small = shrunk(model, {group(deps, "heads", 2): range(2)}, TOKENS)
    (constant,) = (small.get_buffer(name) for name in constants(small))
    torch.testing.assert_close(constant, model.get_parameter("inner.out_proj.bias").view(1, 1, 8))
    assert not [name for name in small.state_dict() if name.startswith("inner.")]
    assert_computes_the_original(model, plan, small, [TOKENS, LONGER])


class Attentions(nn.Module):
    """Attentions on a residual stream. Those without heads add nothing: their biases are zero."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(5, 8), nn.Linear(8, 4)
        self.parts = nn.ModuleList(nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for part in self.parts:
            x = x + part(x, x, x, need_weights=False)[0]
        out: Tensor = self.head(x)
        return out


@pytest.mark.parametrize("gone", [(0,), (0, 1), (0, 2), (0, 1, 2)])
def test_attentions_after_those_that_have_gone_are_narrowed(gone: tuple[int, ...]) -> None:
    model = Attentions().double().eval()
    heads = [f"parts.{k}.in_proj_weight[heads]" for k in range(3)]
    removal = {name: range(2) if k in gone else [0] for k, name in enumerate(heads)}
    plan, small = shrunk(model, removal, TOKENS)
    assert not constants(small)
    assert not any("fxprune_stands_for" in node.meta for node in small.graph.nodes)
    assert_computes_the_original(model, plan, small, [TOKENS, LONGER])


@pytest.mark.parametrize(("kind", "size"), [("channels", 16), ("heads", 2)])
def test_an_encoder_layer_loses_what_is_inside_of_it(kind: str, size: int) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = sequence(layer, lambda m, x: m.inner(x))
    deps = fxprune.analyze(model, TOKENS)
    plan, small = shrunk(model, {group(deps, kind, size): range(size)}, TOKENS)
    assert list(constants(small).values()) == [(1, 1, 8)]
    lost = "inner.linear" if kind == "channels" else "inner.self_attn"
    assert not [name for name in small.state_dict() if name.startswith(lost)]
    assert_computes_the_original(model, plan, small, [TOKENS, LONGER])


def test_an_mlp_goes_from_a_vision_transformer() -> None:
    net = models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=7)
    model = randomize(net).double().eval()
    mlp = "encoder.layers.encoder_layer_0.mlp"
    plan, small = shrunk(model, {f"{mlp}.0": range(64)}, IMAGE)
    (constant,) = (small.get_buffer(name) for name in constants(small))
    torch.testing.assert_close(constant, model.get_parameter(f"{mlp}.3.bias").view(1, 1, 32))
    assert not [name for name in small.state_dict() if name.startswith(mlp)]
    assert_computes_the_original(model, plan, small, [IMAGE, IMAGE[:1]])


def test_a_recurrent_layer_goes() -> None:
    model = sequence(nn.LSTM(8, 6, batch_first=True), lambda m, x: x + m.out(m.inner(x)[0]))
    plan, small = shrunk(model, {"inner": range(6)}, TOKENS)
    assert constants(small) == {"out_constant": (1, 1, 8)}
    assert not [name for name in small.state_dict() if name.startswith(("inner.", "out."))]
    assert_computes_the_original(model, plan, small, [TOKENS, LONGER])


# -- sizes, and what others share ------------------------------------------------------------------


def test_the_width_of_what_has_gone_stays_the_number_that_it_was() -> None:
    def counted(m: Any, x: Tensor) -> Tensor:
        a = m.a(x)
        return x * a.shape[1] + m.b(a) / a.shape[1]

    model = branched(counted)
    plan, small = shrunk(model)
    assert next(n for n in small.graph.nodes if n.name == "mul").args[1] == 8
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def test_the_batch_of_what_has_gone_is_read_elsewhere() -> None:
    def viewed(m: Any, x: Tensor) -> Tensor:
        batch, _, height, width = m.a(x).shape
        out: Tensor = (x + m.b(m.a(x))).view(batch, 16, height, width)
        return out

    model = branched(viewed)
    plan, small = shrunk(model)
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def test_what_others_use_stays() -> None:
    model = branched(lambda m, x: m.norm(x) + m.norm(m.b(m.a(x))))
    plan, small = shrunk(model)
    assert "norm.running_mean" in small.state_dict()
    proof = small.meta["fxprune"].verification
    assert proof.gradients == 6  # those of the norm without what would follow from the constant
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def test_constants_with_a_name_that_is_taken_get_another() -> None:
    class Named(Branched):
        def __init__(self) -> None:
            super().__init__(lambda m, x: x + m.b(m.a(x)) + m.b_constant)
            self.b_constant = nn.Parameter(torch.ones(16, 1, 1))

    model = randomize(Named()).double().eval()
    plan, small = shrunk(model)
    assert set(constants(small)) == {"b_constant_"}
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


def maximum(x: Tensor, y: Tensor) -> Tensor:
    """Not what its name says: it looks across places."""
    return x + y.sum((2, 3), keepdim=True)


fx.wrap("maximum")


def test_a_function_of_the_user_is_not_taken_for_the_operator_of_its_name() -> None:
    error = refusal(lambda m, x: maximum(x, m.b(m.a(x))))
    assert "no longer depends on the inputs" in error.why or "another size" in error.why


def test_one_constant_that_is_read_twice_is_kept_once() -> None:
    def twice(m: Any, x: Tensor) -> Tensor:
        y = m.b(m.a(x))
        return F.relu(x + y) * y

    model = branched(twice)
    plan, small = shrunk(model)
    assert constants(small) == {"b_constant": (1, 16, 1, 1)}
    assert_computes_the_original(model, plan, small, OTHER_SHAPES)


# -- what cannot be built --------------------------------------------------------------------------


def test_a_constant_that_varies_at_the_border_is_refused() -> None:
    mix = nn.Conv2d(16, 16, 3, padding=1)
    error = refusal(lambda m, x: x + m.mix(F.relu(m.b(m.a(x)))), mix=mix)
    assert error.what == "node add cannot go on without a branch that has no channels left"
    assert "the constant mix differs from place to place along dim 2" in error.why
    assert "in <lambda>" in str(error.where)


def test_a_constant_that_depends_on_the_size_is_refused() -> None:
    def sized(m: Any, x: Tensor) -> Tensor:
        return x + m.b(m.a(x)).sum((2, 3), keepdim=True)

    assert "is another one for inputs of another size" in refusal(sized).why


def test_a_shape_that_comes_from_what_has_gone_is_refused() -> None:
    def broadcast(m: Any, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, 1) + m.b(m.a(x))

    assert refusal(broadcast).why == "the shape of its value comes from what has gone"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (lambda m, x: x.matmul(m.b(m.a(x))), "'matmul' takes b, which no longer"),
        (lambda m, x: m.copied(x, m.b(m.a(x))), "'copy' takes conv2d_2, which no longer"),
        (lambda m, x: m.remember(x) + m.b(m.a(x)) * m.memory, "it changes memory"),
        (lambda m, x: m.later(x, m.b(m.a(x))), "reads a constant that was overwritten"),
    ],
)
def test_what_needs_what_has_gone_is_refused(body: Body, why: str) -> None:
    class Copied(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            z = x.clone()
            z[:, :] = y
            return z

    class Later(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            y.add_(x)
            return x * y

    model = branched(body, copied=Copied(), later=Later())
    with pytest.raises(RewriteError) as caught:
        shrunk(model, verify=False)
    assert why in str(caught.value)
    assert caught.value.where
    assert caught.value.hint


@pytest.mark.parametrize("norm", ["kept", "exact"])
def test_a_mean_of_nothing_is_refused_by_the_plan(norm: str) -> None:
    model = branched(lambda m, x: x + m.b(m.a(x)) * m.a(x).mean(1, keepdim=True))
    with pytest.raises(PlanError, match=r"nothing would be left of a\.weight, dim 0") as caught:
        shrunk(model, norm=norm)
    assert caught.value.why == "node mean looks across it, and would have nothing to look at"


def test_an_output_that_would_be_constant_is_refused_by_the_plan() -> None:
    with pytest.raises(PlanError, match="nothing would be left") as caught:
        shrunk(branched(lambda m, x: m.b(m.a(x))))
    assert caught.value.why == "node head, which the model returns, would not depend on its inputs"


def test_ratios_never_take_the_last_channel_even_beside_channels() -> None:
    deps = fxprune.analyze(branched(residual), EXAMPLE)
    best = fxprune.plan(deps, ratio=0.9).groups["a"].removed
    (kept,) = set(range(8)) - set(best)
    named = [*best[:3], kept, *best[3:5]]
    plan = fxprune.plan(deps, ratio=0.5, channels={"a": named})
    assert plan.groups["a"].width == 1
    assert set(named) <= set(plan.groups["a"].removed)
    assert fxprune.plan(deps, ratio=0.5, channels={"a": range(8)}).groups["a"].width == 0


def test_a_module_of_the_user_cannot_lose_a_branch() -> None:
    with pytest.raises(RewriteError, match="a module cannot be emitted without") as caught:
        shrunk(branched(residual), emit="module")
    assert 'pass emit="graph"' in caught.value.hint


def test_a_model_without_data_is_refused() -> None:
    model = branched(residual).to("meta")
    with pytest.raises(RewriteError, match="still adds is not known") as caught:
        shrunk(model, x=EXAMPLE.to("meta"), verify=False)
    assert "load the weights first" in caught.value.hint


def test_a_constant_that_a_narrow_type_would_round_is_refused() -> None:
    with pytest.raises(RewriteError, match="no channels left") as caught:
        shrunk(branched(residual).bfloat16(), x=EXAMPLE.bfloat16())
    assert "would be rounded too much in torch.bfloat16" in caught.value.why
    _, small = shrunk(branched(lambda m, x: x + m.b(m.a(x))).bfloat16(), x=EXAMPLE.bfloat16())
    assert small.get_buffer("b_constant").dtype is torch.bfloat16  # a bias is what it is


@pytest.mark.parametrize("others", [{}, {"mid": [1, 4]}, {"mid": range(6)}])
def test_what_is_folded_into_a_bias_that_goes_is_in_the_constant_of_its_branch(
    others: dict[str, Sequence[int]],
) -> None:
    model = branched(
        lambda m, x: x + m.b(torch.sigmoid(m.mid(torch.sigmoid(m.a(x))))),
        mid=nn.Conv2d(8, 6, 1),
        b=nn.Conv2d(6, 16, 1),
    )
    before = copy.deepcopy(model.state_dict())
    _, small = shrunk(model, {**GONE, **others}, constants="fold")
    assert constants(small) == {"b_constant": (1, 16, 1, 1)}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    nn.init.zeros_(model.get_parameter("a.weight"))  # so that `mid` is constant, too
    for x in (EXAMPLE, *OTHER_SHAPES):
        torch.testing.assert_close(small(x), model(x), rtol=1e-12, atol=1e-12)


def test_what_would_be_folded_into_a_layer_without_a_bias_that_has_gone_is_refused() -> None:
    one = nn.Conv2d(8, 16, 1, bias=False)
    model = branched(lambda m, x: x + m.b(m.a(x)), b=one)
    with pytest.raises(RewriteError, match="cannot be folded into b") as caught:
        shrunk(model, constants="fold")
    assert "goes with the branch that has no channels left" in caught.value.why
    assert "module b" in str(caught.value.where)
    nn.init.zeros_(model.get_parameter("a.bias"))
    _, small = shrunk(model, constants="fold")
    assert constants(small) == {}


def sharing(*, bias: bool) -> nn.Module:
    """A layer `d` that reads one constant in a branch that goes, and the same in one that stays."""
    model = branched(
        lambda m, x: x + m.d(torch.sigmoid(m.b(m.a(x)))) + m.d(torch.sigmoid(m.c(x))),
        b=nn.Conv2d(8, 6, 1),
        c=nn.Conv2d(16, 6, 1),
        d=nn.Conv2d(6, 16, 1, bias=bias),
    )
    for name in ("a.weight", "a.bias"):
        nn.init.zeros_(model.get_parameter(name))
    for name in ("b", "c"):
        nn.init.zeros_(model.get_parameter(f"{name}.weight")[2])
        nn.init.ones_(model.get_parameter(f"{name}.bias")[2])
    return model


def test_what_is_folded_into_a_layer_that_a_branch_shares_is_in_its_constant_too() -> None:
    model = sharing(bias=True)
    plan, small = shrunk(model, {**GONE, "b": [2]}, constants="fold")
    assert plan.slices["d.weight"] == {1: (2,)}
    assert constants(small) == {"d_constant": (1, 16, 1, 1)}
    for x in (EXAMPLE, *OTHER_SHAPES):
        torch.testing.assert_close(small(x), model(x), rtol=1e-12, atol=1e-12)


def test_a_layer_that_a_branch_shares_gets_no_bias_that_the_branch_would_lack() -> None:
    with pytest.raises(RewriteError, match="cannot be folded into d, which has no bias") as caught:
        shrunk(sharing(bias=False), {**GONE, "b": [2]}, constants="fold")
    assert "goes with the branch that has no channels left" in caught.value.why


# -- the pass ------------------------------------------------------------------------------------


def test_the_pass_changes_nothing_where_all_axes_keep_positions() -> None:
    deps = fxprune.analyze(branched(residual), EXAMPLE)
    layout = fxprune.plan(deps, ratio=0.5).layout(deps)
    assert not DropBranches()(deps.graph_module, layout).modified


def test_the_pass_leaves_nothing_behind_in_the_metadata() -> None:
    head = nn.Conv2d(32, 5, 1)
    _, small = shrunk(branched(lambda m, x: torch.cat([m.b(m.a(x)), x], 1), head=head))
    assert not [key for n in small.graph.nodes for key in n.meta if "fxprune" in str(key)]


def test_the_pass_works_on_sliced_tensors() -> None:
    deps = fxprune.analyze(branched(residual), EXAMPLE)
    layout = fxprune.plan(deps, channels=GONE).layout(deps)
    sliced = SliceState()(deps.graph_module, layout).graph_module
    result = DropBranches()(sliced, layout)
    assert result.modified
    assert "a" in dict(sliced.named_modules())  # its input stays as it is
    assert "a" not in dict(result.graph_module.named_modules())
