"""Layers: what each has and does, before and after; and that they add up to the model's cost."""

import gc
import pickle
import weakref

import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune import DependencyGraph, Plan, PlanError, ShrinkReport
from fxprune.api import Emit
from fxprune.cost import undropped_cost
from fxprune.layers import Change, Layer, layers_of
from models_zoo import ZOO

IMAGE = torch.zeros(1, 3, 64, 64)


def totals(layers: tuple[Layer, ...]) -> tuple[int, int, int, int]:
    """Parameters before and after, MACs before and after."""
    return (
        sum(layer.parameters.before for layer in layers),
        sum(layer.parameters.after for layer in layers),
        sum(layer.macs.before for layer in layers),
        sum(layer.macs.after for layer in layers),
    )


def costs(report: ShrinkReport) -> tuple[int, int, int, int]:
    before, after = report.before, report.after
    return before.parameters, after.parameters, before.macs, after.macs


def report_of(
    model: nn.Module | DependencyGraph, plan: Plan, x: object, emit: Emit = "graph"
) -> ShrinkReport:
    small = fxprune.shrink(model, plan, x, emit=emit, verify=False)
    report = vars(small)["meta"]["fxprune"]
    assert isinstance(report, ShrinkReport)
    return report


def resnet18() -> nn.Module:
    torchvision = pytest.importorskip("torchvision")
    model: nn.Module = torchvision.models.resnet18(num_classes=7)
    return model.eval()


def by_name(layers: tuple[Layer, ...]) -> dict[str, Layer]:
    found = {layer.name: layer for layer in layers}
    assert len(found) == len(layers)
    return found


@pytest.mark.parametrize("name", ZOO)
def test_layers_add_up_to_the_cost_of_the_model_and_of_the_result(name: str) -> None:
    inputs = ZOO[name].example_inputs()
    deps = fxprune.analyze(ZOO[name].build().eval(), inputs)
    plan = fxprune.plan(deps, ratio=0.5)
    whole, report = undropped_cost(deps), report_of(deps, plan, inputs)
    same = (whole.parameters, whole.parameters, whole.macs, whole.macs)
    assert totals(layers_of(deps)) == same
    assert totals(layers_of(deps, plan)) == costs(report)
    assert report.layers == layers_of(deps, plan)


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_layers_of_a_network_add_up_for_both_kinds_of_results(emit: Emit) -> None:
    model = resnet18()
    report = report_of(model, fxprune.plan(model, IMAGE, ratio=0.5), IMAGE, emit)
    assert totals(report.layers) == costs(report)


def test_layers_of_a_vision_transformer_add_up() -> None:
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64).eval()
    x = IMAGE[..., :32, :32]
    deps = fxprune.analyze(model, x)
    plan = fxprune.plan(deps, ratio=0.5)
    assert totals(layers_of(deps, plan)) == costs(report_of(deps, plan, x))
    layers = by_name(layers_of(deps, plan))
    assert layers["class_token"].kind == "Parameter"
    attention = layers["encoder.layers.encoder_layer_0.self_attention"]
    assert (attention.width_in, attention.width_out) == (Change(32, 16), Change(32, 16))
    assert f"{attention.name}.in_proj_weight[heads]" in attention.groups


def test_a_layer_tells_its_widths_and_its_groups() -> None:
    deps = fxprune.analyze(resnet18(), IMAGE)
    layer = by_name(layers_of(deps, fxprune.plan(deps, ratio=0.5)))["layer2.0.conv1"]
    assert layer.kind == "Conv2d"
    assert (layer.width_in, layer.width_out) == (Change(64, 32), Change(128, 64))
    assert layer.parameters == Change(64 * 128 * 9, 32 * 64 * 9)
    assert layer.macs == Change(64 * 128 * 9 * 64, 32 * 64 * 9 * 64)
    assert layer.groups == ("layer2.0.conv1", "conv1")
    assert layer.pinned is None
    assert layer.changed


def test_the_last_layer_tells_why_its_outputs_stay() -> None:
    deps = fxprune.analyze(resnet18(), IMAGE)
    last = layers_of(deps)[-1]
    assert last.name == "fc"
    assert last.pinned is not None
    assert last.pinned.what == "output of the model"
    assert not last.changed


def test_without_a_plan_nothing_changes() -> None:
    layers = layers_of(fxprune.analyze(resnet18(), IMAGE))
    assert [layer.name for layer in layers if layer.changed] == []


def test_layers_come_in_the_order_of_the_graph() -> None:
    names = [layer.name for layer in layers_of(fxprune.analyze(resnet18(), IMAGE))]
    assert names[:4] == ["conv1", "bn1", "layer1.0.conv1", "layer1.0.bn1"]
    assert names[-1] == "fc"


def test_a_shared_module_counts_its_parameters_once_and_its_work_for_every_call() -> None:
    entry = ZOO["shared_module"]
    deps = fxprune.analyze(entry.build().eval(), entry.example_inputs())
    layer = by_name(layers_of(deps))["refine"]
    weight = deps.graph_module.get_parameter("refine.weight")
    assert layer.parameters.before == 1308 == weight.numel() + len(weight)
    calls = [node for node in deps.graph_module.graph.nodes if node.target == "refine"]
    assert len(calls) == 2
    assert layer.macs.before == sum(deps.trace.dense_macs[node.name] for node in calls)


def test_a_tied_weight_counts_where_it_comes_first() -> None:
    entry = ZOO["tied_weights"]
    layers = by_name(layers_of(fxprune.analyze(entry.build().eval(), entry.example_inputs())))
    assert layers["embed"].parameters.before == 360
    assert layers["head"].parameters.before == 0
    assert layers["head"].macs.before > 0


def test_an_operator_with_raw_parameters_has_a_row_and_so_have_these() -> None:
    entry = ZOO["raw_parameter_functional"]
    layers = by_name(layers_of(fxprune.analyze(entry.build().eval(), entry.example_inputs())))
    assert layers["kernel"].kind == "Parameter"
    assert layers["kernel"].macs == Change(0, 0)
    assert layers["conv2d"].kind == "conv2d"
    assert layers["conv2d"].width_in == Change(8, 8)
    assert layers["conv2d"].parameters == Change(0, 0)


def test_a_grouped_convolution_tells_all_its_input_channels() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 1, groups=4), nn.Conv2d(12, 2, 1))
    deps = fxprune.analyze(model, IMAGE)
    assert by_name(layers_of(deps))["1"].width_in == Change(8, 8)
    plan = fxprune.plan(deps, ratio=0.5, groups=True)
    assert totals(layers_of(deps, plan)) == costs(report_of(deps, plan, IMAGE))


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_dropped_blocks_have_rows_in_their_places(emit: Emit) -> None:
    model = resnet18()
    plan = fxprune.plan(model, IMAGE, ratio=0.5, drop=["layer1.1", "layer3.1"])
    report = report_of(model, plan, IMAGE, emit)
    assert totals(report.layers) == costs(report)
    names = [layer.name for layer in report.layers]
    assert names[names.index("layer1.1") - 1].startswith("layer1.0")
    assert names[names.index("layer3.1") + 1] == "layer4.0.conv1"
    block = by_name(report.layers)["layer1.1"]
    assert (block.kind, block.dropped) == ("BasicBlock", True)
    assert block.parameters.after == block.macs.after == 0
    assert block.macs.before == 2 * 64 * 64 * 9 * 16 * 16


class Branched(nn.Module):
    """A residual branch that can lose all its channels, and a parameter that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
        self.a, self.b, self.norm = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8)
        self.idle = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out: Tensor = self.head(x + self.norm(self.b(self.a(x).relu())))
        return out


def test_a_branch_without_channels_leaves_nothing_of_its_layers() -> None:
    deps = fxprune.analyze(Branched().eval(), IMAGE)
    plan = fxprune.plan(deps, channels={"a": range(4)})
    layers = by_name(layers_of(deps, plan))
    for name in ("a", "b", "norm"):
        assert layers[name].parameters.after == layers[name].macs.after == 0
    assert layers["stem"].macs.after == layers["stem"].macs.before
    assert totals(layers_of(deps, plan)) == costs(report_of(deps, plan, IMAGE))


def test_a_module_that_nothing_calls_counts_where_the_result_keeps_it() -> None:
    model = Branched().eval()
    report = report_of(model, fxprune.plan(model, IMAGE, ratio=0.5), IMAGE, "module")
    assert totals(report.layers) == costs(report)
    assert report.layers[-1].name == "idle"
    assert report.layers[-1].parameters == Change(30, 30)


def test_a_folded_constant_counts_at_the_bias_that_takes_it() -> None:
    layers = [nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1, bias=False)]
    model = nn.Sequential(*layers).eval()
    assert isinstance(model[1], nn.BatchNorm2d)
    nn.init.zeros_(model[1].weight)
    nn.init.ones_(model[1].bias)
    plan = fxprune.plan(model, IMAGE, channels={"0": [1, 2]})
    small = fxprune.shrink(model, plan, IMAGE, constants="fold", verify=False)
    report = small.meta["fxprune"]
    assert totals(report.layers) == costs(report)
    assert by_name(report.layers)["2"].parameters == Change(16, 12 + 2)


def test_a_recorded_model_has_the_layers_of_its_modules() -> None:
    class Deciding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.a(x)
            out: Tensor = self.b(y if y.sum().item() > -1e9 else -y)
            return out

    x = torch.ones(2, 4)
    deps = fxprune.analyze(Deciding(), x)
    assert deps.captured_by == "record"
    layers = by_name(layers_of(deps))
    assert layers["a"].kind == "Linear"
    assert (layers["a"].width_in, layers["a"].width_out) == (Change(4, 4), Change(6, 6))
    assert layers["b"].macs == Change(24, 24)
    report = report_of(deps, fxprune.plan(deps, ratio=0.5), x, "module")
    assert totals(report.layers) == costs(report)


def test_layers_keep_no_weights_alive_and_can_be_pickled() -> None:
    model = resnet18()
    report = report_of(model, fxprune.plan(model, IMAGE, ratio=0.5), IMAGE)
    layers = report.layers
    weight = weakref.ref(model.get_parameter("fc.weight"))
    del model, report
    gc.collect()
    assert weight() is None
    assert pickle.loads(pickle.dumps(layers)) == layers


def test_a_plan_of_another_model_is_refused() -> None:
    plan = fxprune.plan(resnet18(), IMAGE, ratio=0.5)
    with pytest.raises(PlanError, match="another model"):
        layers_of(fxprune.analyze(Branched().eval(), IMAGE), plan)


def test_a_change_tells_the_share_that_is_left() -> None:
    assert Change(8, 2).left == 0.25
    assert Change(0, 0).left is None
    assert Change(8, 2).changed
    assert not Change(8, 8).changed
