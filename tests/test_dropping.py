"""Residual blocks dropped whole: nothing of them is left, and the rest is the original's."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import fxprune
from fxprune import PlanError
from fxprune.dropping import Dropped, without_blocks
from models_zoo import randomize

models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """A residual block on rows of 8."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 16)
        self.down = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(x).relu())


class Net(nn.Module):
    """Three residual blocks between two layers."""

    def __init__(self, block: Callable[[], nn.Module] = Block) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 8)
        self.blocks = nn.ModuleList([block() for _ in range(3)])
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for k in range(len(self.blocks)):
            x = self.blocks[k](x)
        return self.head(x)


def net(kind: type[nn.Module] = Net, *args: Any) -> Any:
    return randomize(kind(*args)).eval()


def with_identity(model: nn.Module, names: list[str]) -> nn.Module:
    """A copy of a model in which hooks let some modules return their first argument."""
    twin = copy.deepcopy(model)
    for name in names:
        twin.get_submodule(name).register_forward_hook(
            lambda _, args, out: (args[0], *out[1:]) if isinstance(out, tuple) else args[0]
        )
    return twin


NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "resnet18": (lambda: models.resnet18(num_classes=10), ["layer1.1"]),
    "resnet50": (lambda: models.resnet50(num_classes=10), ["layer1.1", "layer3.4"]),
    "mobilenet_v2": (lambda: models.mobilenet_v2(width_mult=0.25), ["features.5", "features.9"]),
    "vit": (
        lambda: models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=5),
        ["encoder.layers.encoder_layer_1"],
    ),
    "convnext": (
        lambda: models.ConvNeXt(
            [models.convnext.CNBlockConfig(8, 16, 2), models.convnext.CNBlockConfig(16, None, 2)]
        ),
        ["features.1.1", "features.3.0"],
    ),
    "swin, with shifted windows": (
        lambda: models.SwinTransformer([4, 4], 8, [2, 2], [2, 2], [4, 4], num_classes=5),
        ["features.1.1", "features.3.0"],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_trace_of_a_dropped_block_is_left_and_the_rest_is_the_original(name: str) -> None:
    build, blocks = NETWORKS[name]
    model = randomize(build()).eval()
    plan = fxprune.plan(model, IMAGES, drop=blocks)
    small = fxprune.shrink(model, plan, IMAGES, verify="quick")
    inside = tuple(f"{block}." for block in blocks)
    for block in blocks:
        assert not [n for n, _ in small.named_modules() if f"{n}.".startswith(f"{block}.")]
    assert not [n for n, _ in small.named_parameters() if n.startswith(inside)]
    assert not [n for n, _ in small.named_buffers() if n.startswith(inside)]
    assert not [n for n in small.graph.nodes if f"{n.target}.".startswith(inside)]
    stacks = [str(path) for n in small.graph.nodes for path, _ in _stack(n)]
    assert not [path for path in stacks if f"{path}.".startswith(inside)]
    dense = fx.symbolic_trace(model)
    code = [n.name for n in dense.graph.nodes if f"{n.target}.".startswith(inside)]
    assert code, "the blocks had nodes of their own"
    expected = with_identity(model, blocks).double()(IMAGES.double())
    torch.testing.assert_close(small.double()(IMAGES.double()), expected, rtol=1e-12, atol=1e-12)


def _stack(node: fx.Node) -> list[Any]:
    return list((node.meta.get("nn_module_stack") or {}).values())


@pytest.mark.parametrize("emit", ["graph", "module"])
@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_go_together_with_half_of_the_channels(name: str, emit: Any) -> None:
    build, blocks = NETWORKS[name]
    model = randomize(build()).eval()
    plan = fxprune.plan(model, IMAGES, ratio=0.5, drop=blocks)
    small = fxprune.shrink(model, plan, IMAGES, emit=emit, verify="quick")
    report: Any = small.meta["fxprune"]
    assert report.dropped == plan.dropped == tuple(blocks)
    assert report.verification.dropped == len(blocks)
    assert report.after.parameters < report.before.parameters / 2
    again = pickle.loads(pickle.dumps(small))
    assert torch.equal(again(IMAGES), small(IMAGES))
    proof = fxprune.verify(model, again, plan, IMAGES, quick=True)
    assert proof.dropped == len(blocks)


def resnet_without(block: str = "layer1.1") -> tuple[nn.Module, fx.GraphModule]:
    model = randomize(models.resnet18(num_classes=10)).eval()
    plan = fxprune.plan(model, IMAGES, drop=[block])
    return model, fxprune.shrink(model, plan, IMAGES, verify="quick")


def test_it_holds_for_another_batch_and_resolution() -> None:
    model, small = resnet_without()
    x = torch.randn(3, 3, 48, 64)
    expected = with_identity(model, ["layer1.1"])(x)
    torch.testing.assert_close(small(x), expected)


def test_the_result_trains_and_can_be_exported() -> None:
    _, small = resnet_without()
    exported = torch.export.export(small, (IMAGES,)).module()
    torch.testing.assert_close(exported(IMAGES), small(IMAGES))
    small.train()(IMAGES).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in small.parameters())


def test_a_model_in_training_mode_stays_in_it() -> None:
    model = randomize(models.resnet18(num_classes=10)).train()
    plan = fxprune.plan(model, IMAGES, drop=["layer1.1"])
    for emit in ("graph", "module"):
        small = fxprune.shrink(model, plan, IMAGES, emit=emit, verify="quick")
        assert all(module.training for module in small.modules())


def test_the_users_model_stays_as_it_was() -> None:
    model = net()
    before, state = vars(model.blocks[1]).copy(), copy.deepcopy(model.state_dict())
    expected = with_identity(model, ["blocks.1"])(ROWS)
    for emit in ("graph", "module"):
        fxprune.shrink(model, fxprune.plan(model, ROWS, drop=["blocks.1"]), ROWS, emit=emit)
    assert isinstance(model.blocks[1], Block)
    assert vars(model.blocks[1]) == before
    assert not model.blocks[1]._forward_hooks
    assert not model.blocks[1]._forward_pre_hooks
    assert all(torch.equal(model.state_dict()[n], tensor) for n, tensor in state.items())
    assert torch.equal(with_identity(model, ["blocks.1"])(ROWS), expected)


def test_a_result_shares_no_tensor_with_the_model() -> None:
    model = net()
    for emit in ("graph", "module"):
        plan = fxprune.plan(model, ROWS, drop=["blocks.1"])
        small = fxprune.shrink(model, plan, ROWS, emit=emit)
        mine = {p.data_ptr() for p in model.parameters()}
        assert mine.isdisjoint(p.data_ptr() for p in small.parameters())


def test_the_report_counts_the_whole_model_before() -> None:
    model = net()
    full: Any = fxprune.shrink(model, fxprune.plan(model, ROWS), ROWS).meta["fxprune"]
    for emit in ("graph", "module"):
        plan = fxprune.plan(model, ROWS, drop=["blocks.1"])
        report: Any = fxprune.shrink(model, plan, ROWS, emit=emit).meta["fxprune"]
        assert report.before == full.before
        inside = sum(p.numel() for p in model.blocks[1].parameters())
        assert report.after.parameters == full.after.parameters - inside
        assert report.after.macs == full.after.macs - 3 * 2 * 8 * 16
        assert report.changed
        assert "dropped whole: blocks.1" in str(report)


def test_a_module_keeps_its_class_and_says_what_was_dropped() -> None:
    model = net()
    plan = fxprune.plan(model, ROWS, drop=["blocks.1"])
    small: Any = fxprune.shrink(model, plan, ROWS, emit="module")
    assert type(small) is Net
    assert repr(small.blocks[1]) == "Dropped(Block)"
    assert not list(small.blocks[1].parameters())
    assert small.state_dict().keys() == {n for n in model.state_dict() if "blocks.1." not in n}


# -- forms of blocks -----------------------------------------------------------------------------


class Keyword(nn.Module):
    """Blocks as those of transformers: called with more arguments, they return tuples.

    Around them an attribute of the second is read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = KeywordBlock(), KeywordBlock()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.a(x, mask=mask, scale=2.0)[0]
        return self.b(x=x, mask=mask)[0] if self.b.kind == "full" else x


class KeywordBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kind = "full"
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor, mask: Tensor, scale: float = 1.0) -> tuple[Tensor, None]:
        return x + self.fc(x) * mask * scale, None


@pytest.mark.parametrize("block", ["a", "b"])
@pytest.mark.parametrize("emit", ["graph", "module"])
def test_a_block_may_return_a_tuple_and_have_other_arguments(block: str, emit: Any) -> None:
    model, mask = net(Keyword), torch.ones(3, 1)
    plan = fxprune.plan(model, (ROWS, mask), drop=[block])
    small: Any = fxprune.shrink(model, plan, (ROWS, mask), emit=emit)
    other = model.b if block == "a" else model.a
    expected = other(ROWS, mask, 2.0 if block == "b" else 1.0)[0]
    torch.testing.assert_close(small(ROWS, mask), expected)


class Repeated(nn.Module):
    """One block, called twice, under two names and in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Block()
        self.second = self.first
        self.third = Block()
        self.order = [self.first, self.third, self.second]

    def forward(self, x: Tensor) -> Tensor:
        for block in self.order:
            x = block(x)
        return x


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_a_block_goes_wherever_it_is_called(emit: Any) -> None:
    model = net(Repeated)
    plan = fxprune.plan(model, ROWS, drop=["second"])
    assert plan.dropped == ("first",)
    small: Any = fxprune.shrink(model, plan, ROWS, emit=emit)
    torch.testing.assert_close(small(ROWS), model.third(ROWS))


class Tied(nn.Module):
    """A layer's weight is that of a block, too."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
        self.stem = nn.Linear(8, 16)
        self.stem.weight = self.block.up.weight
        self.down = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.down(self.stem(x)))


def test_a_tied_parameter_stays_where_else_it_is() -> None:
    model = net(Tied)
    small = fxprune.shrink(model, fxprune.plan(model, ROWS, drop=["block"]), ROWS)
    assert {n for n, _ in small.named_parameters()} == {
        *("stem.weight", "stem.bias", "down.weight", "down.bias"),
    }
    torch.testing.assert_close(small(ROWS), model.down(model.stem(ROWS)))


class InPlace(nn.Module):
    """A block that changes its input on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x.relu_() + self.fc(x)


def test_what_a_block_writes_into_its_input_goes_with_it() -> None:
    model = net(Net, InPlace)
    small = fxprune.shrink(model, fxprune.plan(model, ROWS, drop=["blocks.1"]), ROWS)
    expected = model.head(model.blocks[2](model.blocks[0](model.stem(ROWS))))
    torch.testing.assert_close(small(ROWS), expected)


class Sums(nn.Module):
    """Branches by values, so that forward has to be recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = Block(), Block()

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x) if x.sum() > -1e9 else x


def test_a_recorded_model_is_dropped_from_on_data() -> None:
    model = net(Sums)
    plan = fxprune.plan(model, ROWS, drop=["b"])
    small: Any = fxprune.shrink(model, plan, ROWS, emit="module")
    assert small.meta["fxprune"].captured_by == "record"
    torch.testing.assert_close(small(ROWS), model.a(ROWS))
    with pytest.raises(fxprune.AnalysisError, match="without data") as caught:
        fxprune.shrink(model, plan, emit="module")
    assert "example inputs with data" in str(caught.value)


# -- refusals ------------------------------------------------------------------------------------


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x).sigmoid()


class Rolled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x.roll(1, -1) + self.fc(x)


class Inner(nn.Module):
    """What a residual block adds, as a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


Named = namedtuple("Named", ["out"])


class Several(nn.Module):
    def __init__(self, make: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make(x + self.fc(x), x)


class Around(nn.Module):
    """One block between two layers, of whose result the first part counts."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(8, 8), block, nn.Linear(8, 4)
        self.spare = Block()

    def forward(self, x: Tensor) -> Tensor:
        out = self.block(self.stem(x))
        if isinstance(out, dict):
            out = out["out"]
        out = out[0] if isinstance(out, (tuple, list)) else out
        return self.head(out.flatten(1))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "a layer that makes new channels": (
        *(lambda: nn.Linear(8, 8), "block"),
        "its input is not added",
    ),
    "a norm": (*(lambda: nn.LayerNorm(8), "block"), "its input is not added"),
    "a gate": (*(Gate, "block"), "its input is not added"),
    "what a block adds": (*(Inner, "block.mlp"), "its input is not added"),
    "a block that moves channels": (*(Rolled, "block"), "do not stand where"),
    "another shape": (
        *(lambda: nn.Unflatten(1, (8, 1)), "block"),
        "it takes shape [3, 8] and returns [3, 8, 1]",
    ),
    "two tensors": (
        *(lambda: Several(lambda out, x: (out, x)), "block"),
        "it returns a tuple of a tensor, a tensor",
    ),
    "a number beside the tensor": (
        *(lambda: Several(lambda out, _: (out, 3)), "block"),
        "it returns a tuple of a tensor, 3",
    ),
    "a dict": (*(lambda: Several(lambda out, _: {"out": out}), "block"), "it returns a dict"),
    "a named tuple": (*(lambda: Several(lambda out, _: Named(out)), "block"), "returns a Named"),
    "a module that is never called": (*(Block, "spare"), "never called"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_residual_block_is_refused_with_the_reason(what: str) -> None:
    build, name, why = REFUSED[what]
    model = net(Around, build())
    with pytest.raises(PlanError, match="cannot be dropped") as caught:
        fxprune.plan(model, ROWS, drop=[name])
    assert why in caught.value.why
    assert name in str(caught.value.where)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("drop", "message", "hint"),
    [
        (["blocks.9"], "no module is named 'blocks.9'", "blocks.1"),
        ([""], "the whole model", "inside"),
        (["blocks.1", "blocks.1.up"], "blocks.1.up is inside of blocks.1", "drop blocks.1"),
        (["nothing.*"], "no residual block matches 'nothing.*'", "nearest"),
    ],
)
def test_a_name_that_means_no_block_is_refused(drop: list[str], message: str, hint: str) -> None:
    with pytest.raises(PlanError, match=message.replace("*", r"\*")) as caught:
        fxprune.plan(net(), ROWS, drop=drop)
    assert hint in caught.value.hint


@pytest.mark.parametrize("drop", ["blocks.1", None, 3, [1], {"blocks.1": 0.5}])
def test_drop_is_a_list_of_names(drop: Any) -> None:
    with pytest.raises(fxprune.InputError, match="drop is"):
        fxprune.plan(net(), ROWS, drop=drop)


def test_a_block_with_hooks_is_refused() -> None:
    model = net()
    model.blocks[1].register_forward_hook(lambda *_: None)
    with pytest.raises(PlanError, match="cannot be dropped") as caught:
        fxprune.plan(model, ROWS, drop=["blocks.1"])
    assert "hooks" in caught.value.why


def test_a_graph_has_no_blocks_to_drop() -> None:
    graph = fx.symbolic_trace(net())
    program = torch.export.export(net(), (ROWS,))
    for model in (graph, program, fxprune.analyze(graph, ROWS)):
        with pytest.raises(PlanError, match="can be dropped") as caught:
            fxprune.plan(model, ROWS, drop=["blocks.1"])
        assert caught.value.hint == "pass the original module"


class Peeking(Net):
    """Reads a parameter of a block from outside."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.blocks[1].up.bias.sum()


def test_a_block_that_the_rest_looks_into_is_refused() -> None:
    with pytest.raises(fxprune.CaptureError, match=r"without blocks\.1") as caught:
        fxprune.plan(net(Peeking), ROWS, drop=["blocks.1"])
    assert "has no attribute 'up'" in str(caught.value)


class Forked(nn.Module):
    """Calls a block by position, and then by name."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x=self.block(x))


def test_a_block_that_is_called_in_two_ways_is_refused() -> None:
    with pytest.raises(PlanError, match="cannot be dropped") as caught:
        fxprune.plan(net(Forked), ROWS, drop=["block"])
    assert "by position and by name" in caught.value.why


# -- plans ---------------------------------------------------------------------------------------


def test_a_pattern_means_the_blocks_that_match() -> None:
    model = net()
    everything = ("blocks.0", "blocks.1", "blocks.2")
    assert fxprune.plan(model, ROWS, drop=["blocks.*"]).dropped == everything
    assert fxprune.plan(model, ROWS, drop=["*.1", "blocks.0"]).dropped == ("blocks.0", "blocks.1")


def test_a_plan_comes_back_from_its_file(tmp_path: Any) -> None:
    model = net()
    plan = fxprune.plan(model, ROWS, ratio=0.5, drop=["blocks.1"])
    plan.save(tmp_path / "plan.json")
    again = fxprune.Plan.load(tmp_path / "plan.json")
    assert again == plan
    assert again.dropped == ("blocks.1",)
    assert "dropped whole: blocks.1" in str(again)
    small = fxprune.shrink(model, str(tmp_path / "plan.json"))
    fxprune.verify(model, small, tmp_path / "plan.json")


def test_a_plan_without_dropped_blocks_is_written_as_before() -> None:
    text = fxprune.plan(net(), ROWS, ratio=0.5).to_json()
    assert "drop" not in text
    assert fxprune.Plan.from_json(text).dropped == ()


@pytest.mark.parametrize("value", [3, "blocks.1", [1], {"blocks.1": 1}])
def test_a_malformed_list_of_blocks_is_refused(value: Any) -> None:
    document = json.loads(fxprune.plan(net(), ROWS, drop=["blocks.1"]).to_json())
    document["dropped"] = value
    with pytest.raises(PlanError, match="malformed"):
        fxprune.Plan.from_json(json.dumps(document))


def test_a_plan_with_other_blocks_than_its_digest_is_refused() -> None:
    model = net()
    plan = fxprune.plan(model, ROWS, drop=["blocks.1"])
    for dropped in ((), ("blocks.2",), ("blocks.0", "blocks.1")):
        with pytest.raises(PlanError, match="another model"):
            fxprune.shrink(model, replace(plan, dropped=dropped), ROWS)


class WideBlock(Block):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 20), nn.Linear(20, 8)


def test_a_plan_for_another_model_is_refused_though_only_its_dropped_block_differs() -> None:
    plan, other = fxprune.plan(net(), ROWS, drop=["blocks.1"]), net()
    other.blocks[1] = WideBlock()
    for model in (other, fxprune.analyze(other, ROWS)):
        with pytest.raises(PlanError, match="another model") as caught:
            fxprune.shrink(model, plan, ROWS)
        assert "blocks.1.up.weight: shape [20, 8] here, [16, 8] in the plan" in caught.value.why


def test_the_analysis_of_the_whole_model_serves_plan_shrink_and_verify() -> None:
    model = net()
    deps = fxprune.analyze(model, ROWS)
    plan = fxprune.plan(deps, ratio=0.5, drop=["blocks.1"])
    assert plan == fxprune.plan(model, ROWS, ratio=0.5, drop=["blocks.1"])
    small = fxprune.shrink(deps, plan)
    fxprune.verify(deps, small, plan)
    assert deps.dropped == ()
    assert deps.model is model


def test_an_analysis_without_blocks_serves_its_own_plan_only() -> None:
    model = net()
    plan = fxprune.plan(model, ROWS, drop=["blocks.1"])
    deps = plan.analyze(model, ROWS)
    assert deps.dropped == ("blocks.1",)
    assert plan.analyze(deps, None) is deps
    plan.layout(deps)
    with pytest.raises(PlanError, match=r"drops blocks blocks\.1, the analysis no blocks"):
        plan.layout(fxprune.analyze(model, ROWS))
    with pytest.raises(PlanError, match="dropped before"):
        without_blocks(deps, ROWS, ["blocks.0"])
    with pytest.raises(PlanError, match="the plan drops no blocks, the analysis blocks"):
        fxprune.shrink(deps, fxprune.plan(model, ROWS), ROWS)


def test_channels_of_a_dropped_block_cannot_be_named() -> None:
    with pytest.raises(PlanError, match=r"blocks\.1\.up"):
        fxprune.plan(net(), ROWS, drop=["blocks.1"], channels={"blocks.1.up": [1]})


def test_a_dropped_block_keeps_numbers_and_texts_only() -> None:
    block = Block()
    block.kind, block.width, block.table = "full", 8, {"a": torch.ones(2)}  # type: ignore[assignment]
    block.training = False
    stand_in = Dropped(block, 0, (tuple, 2, 0))
    assert (stand_in.kind, stand_in.width, stand_in.training) == ("full", 8, False)
    assert not hasattr(stand_in, "table")
    assert stand_in(ROWS) == (ROWS, None)
    assert stand_in(x=ROWS) == (ROWS, None)


def test_the_code_of_the_page_runs() -> None:
    page = (Path(__file__).parents[1] / "docs" / "blocks.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    scope: dict[str, Any] = {}
    exec(code, scope)
    assert scope["small"].meta["fxprune"].dropped == ("2",)
    assert scope["names"]
    assert 0 < scope["share"] <= 0.3
