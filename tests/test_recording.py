"""Capture by running: models that no tracer takes."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune.capture import recorded
from fxprune.groups import build_groups
from fxprune.inputs import given_arguments
from fxprune.recording import record
from models_zoo import ZOO, randomize

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class BranchesOnValue(nn.Module):
    """Goes one of two ways, by the mean of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.other = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 4)."""
        x = self.bn(self.conv(x)).relu()
        if x.mean().item() > 1e6:
            x = x + self.other(x)
        return self.head(x.mean((2, 3)))


class PicksRows(nn.Module):
    """Returns as many rows as have a positive score."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Linear(6, 8)
        self.score = nn.Linear(8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 6) -> (K, 4)."""
        x = self.features(x).relu()
        return {"rows": self.head(x[self.score(x).squeeze(1) > 0])}


@dataclass
class Answer:
    """What the next model returns."""

    value: Tensor
    count: int


class CountsInPython(nn.Module):
    """Takes a list and keywords, and returns a dataclass with a number."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 4)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, parts: list[Tensor], **options: float) -> Answer:
        """[(N, 6), ...] -> (N, 4)."""
        self.calls += 1
        total = sum(float(part.sum() > 0) for part in parts)
        x = self.first(torch.stack(parts).sum(0)).relu() * options["scale"]
        return Answer(self.second(x), int(total))


def test_a_model_that_branches_on_a_value_is_recorded() -> None:
    deps = fxprune.analyze(randomize(BranchesOnValue()).eval(), IMAGES)
    assert deps.captured_by == "record"
    assert [(g.name, g.size) for g in deps.groups if g.pinned is None] == [("conv", 8)]


def test_what_it_decided_by_is_told_with_its_line() -> None:
    deps = fxprune.analyze(randomize(BranchesOnValue()).eval(), IMAGES)
    (decision,) = deps.decisions
    assert "test_recording.py" in str(decision)
    assert decision in deps.diagnostics


def test_parameters_of_the_way_not_taken_are_told() -> None:
    deps = fxprune.analyze(randomize(BranchesOnValue()).eval(), IMAGES)
    assert any(d.what.startswith("other is not used") for d in deps.diagnostics)


def test_the_recorded_graph_computes_what_the_model_computes() -> None:
    model = randomize(BranchesOnValue()).eval()
    graph = record(model, given_arguments(model, IMAGES)).graph_module
    with torch.no_grad():
        assert torch.equal(graph(IMAGES), model(IMAGES))


def test_the_recorded_graph_refuses_other_shapes() -> None:
    model = randomize(BranchesOnValue()).eval()
    graph = record(model, given_arguments(model, IMAGES)).graph_module
    with pytest.raises(AssertionError, match=r"recorded for shape \(2, 3, 8, 8\)"):
        graph(IMAGES[:1])


def test_recording_leaves_the_model_as_it_was() -> None:
    model = randomize(CountsInPython()).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    record(model, {"parts": [torch.randn(2, 6)], "scale": 2.0})
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any("_fxprune" in name for p in model.parameters() for name in vars(p))


def test_chance_goes_on_as_if_nothing_had_been_recorded() -> None:
    model = randomize(BranchesOnValue()).eval()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    deps = fxprune.analyze(model, IMAGES)
    fxprune.shrink(deps, fxprune.plan(deps, ratio=0.5), IMAGES, emit="module")
    assert torch.equal(torch.rand(3), expected)


def test_nodes_know_module_and_line() -> None:
    model = randomize(BranchesOnValue()).eval()
    graph = record(model, given_arguments(model, IMAGES)).graph_module.graph
    node = next(n for n in graph.nodes if n.target is torch.ops.aten.convolution.default)
    assert list(node.meta["nn_module_stack"]) == ["", "conv"]
    assert "test_recording.py" in node.stack_trace


def test_a_graph_of_one_path_is_refused() -> None:
    model = randomize(BranchesOnValue()).eval()
    plan = fxprune.plan(model, IMAGES, ratio=0.5)
    with pytest.raises(fxprune.RewriteError, match="these example inputs only") as caught:
        fxprune.shrink(model, plan, IMAGES)
    assert 'emit="module"' in caught.value.hint


def test_where_neither_a_graph_nor_a_module_works_both_refusals_are_told_graph_first() -> None:
    class Literal(BranchesOnValue):
        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x) if x.mean().item() > 1e6 else self.conv(x).mean((2, 3))
            return self.head(x.view(-1, 8))

    model = randomize(Literal()).eval()
    plan = fxprune.plan(model, IMAGES, ratio=0.5)
    with pytest.raises(fxprune.RewriteError) as caught:
        fxprune.shrink(model, plan, IMAGES, emit="auto")
    error = caught.value
    assert error.what.startswith("graph: the graph holds for these example inputs only; module: ")
    assert "forward cannot take the new widths" in error.what
    assert error.why.startswith("graph: forward goes on by the values in a tensor; module: ")
    assert "module: " in str(error.where)
    assert "emit=" not in error.hint
    assert "@fxprune.fixer" in error.hint


@pytest.mark.parametrize("emit", ["module", "auto"])
def test_the_module_itself_shrinks(emit: str) -> None:
    model = randomize(BranchesOnValue()).eval()
    plan = fxprune.plan(model, IMAGES, ratio=0.5)
    small = fxprune.shrink(model, plan, IMAGES, emit=emit)
    assert type(small) is BranchesOnValue
    assert small.conv.weight.shape == (4, 3, 3, 3)
    assert small.meta["fxprune"].emit == "module"
    assert "captured by record, emitted as a module" in str(small.meta["fxprune"])
    assert small.meta["fxprune"].verification.compared == "every module"


def test_as_many_rows_come_out_as_the_masked_original_picks() -> None:
    model = randomize(PicksRows()).eval()
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
    deps = fxprune.analyze(model, x)
    plan = fxprune.plan(deps, ratio=0.5)
    small = fxprune.shrink(deps, plan, x, emit="auto")
    gone = list(plan.groups["features"].removed)
    with torch.no_grad():
        expected = model.features(x).relu()
        expected[:, gone] = 0
        expected = model.head(expected[model.score(expected).squeeze(1) > 0])
        got = small(x)["rows"]
    assert 0 < len(got) < 16
    torch.testing.assert_close(got, expected)


def test_keywords_that_forward_does_not_name_and_dataclasses_pass() -> None:
    model = randomize(CountsInPython()).eval()
    inputs = {"parts": [torch.randn(2, 6), torch.randn(2, 6)], "scale": 2.0}
    deps = fxprune.analyze(model, inputs)
    small = fxprune.shrink(deps, fxprune.plan(deps, ratio=0.5), inputs, emit="auto")
    assert isinstance(small(**inputs), Answer)
    assert small.first.out_features == 4


def test_a_recording_needs_data() -> None:
    with pytest.raises(fxprune.CaptureError, match="traced symbolically") as caught:
        fxprune.analyze(BranchesOnValue(), IMAGES.to("meta"))
    assert "meta device" in f"{caught.value.why} {caught.value.hint}" or "data" in caught.value.hint


def test_a_model_that_does_not_run_is_refused_with_all_reasons() -> None:
    with pytest.raises(fxprune.CaptureError, match="traced symbolically") as caught:
        fxprune.analyze(BranchesOnValue(), torch.randn(2, 5, 8, 8))
    assert "torch.export fails too" in caught.value.why
    assert "recording" in caught.value.why


def test_an_index_that_follows_from_data_moves_no_labels() -> None:
    class Sorts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 8)
            self.second = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            if x.sum().item() == 0:
                return x
            return self.second(x[:, x.mean(0).argsort()])

    deps = fxprune.analyze(randomize(Sorts()).eval(), torch.randn(3, 6))
    assert deps.captured_by == "record"
    assert all(g.pinned for g in deps.groups if "first" in g.name)


class SlicesByNumpy(nn.Module):
    """As converters from other formats write it: positions are tensors that are read in numpy."""

    def forward(self, x: Tensor, stop: Tensor) -> Tensor:
        """(N, C, ...) -> (N, stop, ...)."""
        return x[:, : int(stop.numpy()[0])]


class LeafTracer(torch.fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SlicesByNumpy) or super().is_leaf_module(m, module_qualified_name)


class Converted(nn.Module):
    """A network with such a part."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.slice, self.last = nn.Conv2d(3, 8, 1), SlicesByNumpy(), nn.Conv2d(6, 2, 1)
        self.register_buffer("stop", torch.tensor([6]))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 2, H, W)."""
        return self.last(self.slice(self.conv(x), self.stop))


def test_a_graph_that_needs_data_is_recorded_too() -> None:
    model = randomize(Converted()).eval()
    graph_module = torch.fx.GraphModule(model, LeafTracer().trace(model))
    deps = fxprune.analyze(graph_module, IMAGES)
    assert deps.captured_by == "record"
    assert not deps.decisions
    small = fxprune.shrink(deps, fxprune.plan(deps, ratio=0.5), IMAGES)
    assert small.get_parameter("last.weight").shape == (2, 3, 1, 1)


def test_a_plan_is_verified_on_the_inputs_that_are_given() -> None:
    model = randomize(BranchesOnValue()).eval()
    plan = fxprune.plan(model, IMAGES, ratio=0.5)
    small = fxprune.shrink(model, plan, IMAGES, emit="module")
    assert fxprune.verify(model, small, plan, IMAGES[:1]).compared == "every module"
    with pytest.raises(fxprune.CaptureError, match="traced symbolically") as caught:
        fxprune.verify(model, small, plan)
    assert caught.value.hint == "pass example inputs with data"


class Layers(nn.Module):
    """Two layers, for the models below."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 4)


ROWS = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


@dataclass
class Pair:
    """Two tensors and a number."""

    left: Tensor
    right: Tensor
    scale: float = 2.0


class Box:
    """An object that torch knows nothing about."""

    def __init__(self, value: Tensor) -> None:
        self.value = value


class ReadsPair(Layers):
    """Takes a dataclass, and a number out of numpy's hands."""

    def forward(self, pair: Pair, power: float) -> Tensor:
        """A Pair of (N, 6) -> (N, 4)."""
        scale = float(np.float64(pair.scale)) * float(np.float64(power))
        return self.second(self.first(pair.left + pair.right).relu()) * scale


class TakesList(Layers):
    """Sums whatever it is given."""

    def forward(self, *rows: Tensor) -> Tensor:
        """(N, 6), ... -> (N, 4)."""
        return self.second(torch.stack([self.first(x) for x in rows]).sum(0).relu())


class ReadsInNumpy(Layers):
    """Goes through numpy, with inputs and with channels."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 6) -> (N, 4)."""
        y = self.first(x).relu()
        bound = torch.from_numpy(np.tanh(y.numpy(force=True)).sum(1, keepdims=True))
        return self.second(y) + bound.to(y.dtype) + max(x.tolist()[0])


class ComparesTensors(Layers):
    """Asks whether two tensors are equal."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 6) -> (N, 4)."""
        x = x * 2 if torch.equal(x, x.abs()) else x
        return self.second(self.first(x).relu())


class KeepsAverage(Layers):
    """Puts a new tensor in the place of a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 6) -> (N, 4)."""
        x = self.first(x).relu()
        self.average = self.average * 0.5 + x.mean(0)
        return self.second(x + self.average)


class CountsCalls(Layers):
    """Does something else from the second call on."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 6) -> (N, 4)."""
        self.calls += 1
        x = x * 2 if self.calls.item() > 1 else x
        return self.second(self.first(x).relu())


class ReturnsBox(Layers):
    """Returns channels in an object of its own."""

    def forward(self, x: Tensor) -> tuple[Tensor, Box]:
        """(N, 6) -> (N, 4) and (N, 8)."""
        x = self.first(x).relu()
        return self.second(x), Box(x)


class ClipsWeights(Layers):
    """Writes into its weights, and has a buffer with an awkward name."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("_constant0", torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 6) -> (N, 4)."""
        self.first.weight.data.clamp_(-0.1, 0.1)
        x = self.first(x) * self._constant0 + torch.tensor([1.0] * 8)
        return self.second(x * 2 if x.sum() > 1e6 else x)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (ReadsInNumpy, "by the values in a tensor"),
        (ComparesTensors, "by the values in a tensor"),
        (CountsCalls, "by the values in a tensor"),
        (ReturnsBox, "returns a Box"),
    ],
)
def test_whatever_ties_a_graph_to_one_call_is_seen(kind: type[nn.Module], reason: str) -> None:
    model = randomize(kind()).eval()
    plan = fxprune.plan(model, ROWS, ratio=0.5)
    with pytest.raises(fxprune.RewriteError, match="these example inputs only") as caught:
        fxprune.shrink(model, plan, ROWS)
    assert reason in caught.value.why
    small = fxprune.shrink(model, plan, ROWS, emit="auto")
    assert small.meta["fxprune"].emit == "module"


def test_a_buffer_that_is_replaced_ties_a_recording_to_one_call() -> None:
    recording = recorded(randomize(KeepsAverage()).eval(), ROWS).recording
    assert recording is not None
    assert any("another tensor in the place of average" in d.what for d in recording.decisions)


def test_a_buffer_that_is_replaced_is_kept_by_an_exported_graph() -> None:
    model = randomize(KeepsAverage()).eval()
    plan = fxprune.plan(model, ROWS, ratio=0.5)
    small = fxprune.shrink(model, plan)
    twin = fxprune.shrink(model, plan, emit="module")
    assert small.meta["fxprune"].captured_by == "export"
    for _ in range(3):
        torch.testing.assert_close(small(ROWS), twin(ROWS))
    assert not model.average.any()


@pytest.mark.parametrize("kind", [ReadsInNumpy, ReturnsBox])
def test_channels_that_leave_the_graph_stay(kind: type[nn.Module]) -> None:
    deps = fxprune.analyze(randomize(kind()).eval(), ROWS)
    assert all(group.pinned is not None for group in deps.groups)


def test_a_recorded_graph_reads_dataclasses_and_refuses_other_numbers() -> None:
    model = randomize(ReadsPair()).eval()
    graph = record(model, {"pair": Pair(ROWS, ROWS + 1), "power": 3.0}).graph_module
    other = Pair(ROWS * 2, ROWS)
    torch.testing.assert_close(graph(other, 3.0), model(other, 3.0))
    for pair, power in ((Pair(ROWS, ROWS, 1.0), 3.0), (other, 2.0)):
        with pytest.raises(AssertionError, match="the graph was captured for"):
            graph(pair, power)


def test_a_recorded_graph_refuses_another_number_of_tensors() -> None:
    model = randomize(TakesList()).eval()
    graph = record(model, given_arguments(model, (ROWS, ROWS * 2))).graph_module
    torch.testing.assert_close(graph(ROWS, ROWS), model(ROWS, ROWS))
    with pytest.raises(AssertionError, match="2 values"):
        graph(ROWS, ROWS, ROWS)


def test_what_forward_writes_into_parameters_is_undone() -> None:
    model = randomize(ClipsWeights()).eval()
    before = model.first.weight.clone()
    recording = record(model, {"x": ROWS})
    assert torch.equal(model.first.weight, before)
    assert recording.graph_module._constant0.eq(1).all()
    assert recording.graph_module.state_dict().keys() == model.state_dict().keys()


def test_recording_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    model = randomize(BranchesOnValue()).eval()
    torch.manual_seed(5)
    fxprune.shrink(model, {"conv": 0.5}, IMAGES, emit="module", verify=False)
    assert torch.equal(torch.rand(1), expected)


def test_fused_kernels_of_recurrent_layers_are_recorded_as_what_they_compute() -> None:
    entry = ZOO["recurrent_lstm"]
    model, inputs = randomize(entry.build()).eval(), entry.example_inputs()
    recording = record(model, given_arguments(model, inputs))
    groups = build_groups(recording.graph_module.graph, recording.trace)
    expected = fxprune.analyze(model, inputs).groups
    assert [(g.name, g.size) for g in groups if g.prunable] == [
        (g.name, g.size) for g in expected if g.prunable
    ]


def test_modules_of_a_recording_are_named_to_say_which_channels_go() -> None:
    deps = fxprune.analyze(randomize(ComparesTensors()).eval(), ROWS)
    plan = fxprune.plan(deps, channels={"first": [1, 2]})
    assert plan.slices["first.weight"] == {0: (1, 2)}
