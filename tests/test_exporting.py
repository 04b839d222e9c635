"""Models that cannot be traced symbolically are captured by torch.export."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune.capture import capture
from fxprune.export_guards import _parsed, _simplified
from models_zoo import randomize


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 4, 3, padding=1)


class BranchesOnShape(Base):
    """What a tracer without shapes cannot do."""

    def forward(self, x: Tensor, scale: float = 1.0, mask: Tensor | None = None) -> Tensor:
        y = self.first(x)
        if y.shape[-1] > 4:
            y = y[..., :4, :4]
        if mask is not None:
            y = y * mask
        return self.last(y) * scale


class Nested(Base):
    """Takes and returns containers."""

    def forward(self, batch: dict[str, Any], *, offset: Tensor) -> OrderedDict[str, Any]:
        y = self.first(batch["images"][0]) + offset
        if y.shape[-1] > 4:
            y = y[..., :4, :4]
        return OrderedDict(scores=self.last(y), parts=[y.mean(), (y.amax(),)])


class WithoutGradients(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        with torch.no_grad():
            factor = y.mean((1, 2, 3), keepdim=True)
        return self.last(y * factor) if x.shape[-1] > 4 else self.last(y)


IMAGES = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_branch_on_a_shape_is_captured_by_export_and_shrinks_for_any_batch() -> None:
    model = randomize(BranchesOnShape()).eval()
    deps = fxprune.analyze(model, IMAGES)
    assert deps.captured_by == "export"
    plan = fxprune.plan(model, IMAGES, 0.5)
    small = fxprune.shrink(model, plan)
    assert small.get_parameter("first.weight").shape[0] == 4
    assert small(IMAGES).shape == model(IMAGES).shape
    more = torch.randn(5, 3, 8, 8)
    assert fxprune.verify(model, small, plan, more).relative < 1e-12


def test_the_graph_shares_parameters_with_the_model_and_leaves_it_alone() -> None:
    model = BranchesOnShape().train()
    graph_module = capture(model, IMAGES)
    assert graph_module.get_parameter("first.weight") is model.first.weight
    assert model.training


def test_arguments_that_were_not_given_are_refused_later() -> None:
    model = randomize(BranchesOnShape()).eval()
    small = fxprune.shrink(model, fxprune.plan(model, IMAGES, 0.5), IMAGES)
    with pytest.raises(AssertionError, match="captured for scale = 1"):
        small(IMAGES, 2.0)
    with pytest.raises(AssertionError, match="captured for mask = None"):
        small(IMAGES, mask=torch.ones(1))


def test_containers_go_in_and_come_out_as_the_model_has_them() -> None:
    model = randomize(Nested()).eval()
    inputs = {"batch": {"images": [IMAGES]}, "offset": torch.ones(1, 1, 8, 8)}
    deps = fxprune.analyze(model, inputs)
    assert deps.captured_by == "export"
    small = fxprune.shrink(model, fxprune.plan(deps, ratio=0.5), inputs)
    out, expected = small(**inputs), model(**inputs)
    assert type(out) is OrderedDict
    assert out.keys() == expected.keys()
    assert isinstance(out["parts"][1], tuple)


def test_parts_without_gradients_are_part_of_the_graph() -> None:
    model = randomize(WithoutGradients()).eval()
    small = fxprune.shrink(model, fxprune.plan(model, IMAGES, 0.5), IMAGES)
    assert not [node for node in small.graph.nodes if "wrap_with" in str(node.target)]


def test_the_fixed_mode_is_told() -> None:
    deps = fxprune.analyze(BranchesOnShape().eval(), IMAGES)
    assert any("eval mode, whatever mode it is put into" in d.what for d in deps.diagnostics)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch 2.13 copies its own specs
def test_an_exported_program_is_a_model() -> None:
    model = randomize(BranchesOnShape()).eval()
    program = torch.export.export(model, (IMAGES,), strict=False)
    plan = fxprune.plan(program, IMAGES, ratio=0.5)
    small = fxprune.shrink(program, plan, IMAGES)
    assert sum(p.numel() for p in small.module().parameters()) < sum(
        p.numel() for p in model.parameters()
    )
    assert fxprune.verify(program, small, plan, IMAGES).relative < 1e-9


def test_a_ratio_in_the_place_of_inputs_is_refused() -> None:
    deps = fxprune.analyze(BranchesOnShape().eval(), IMAGES)
    with pytest.raises(fxprune.InputError, match=r"example_inputs is 0\.5"):
        fxprune.plan(deps, 0.5)


class BranchesOnBatch(Base):
    """Other code for large and for odd batches."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        if x.shape[0] > 4:
            y = y * 2
        if x.shape[0] % 2 == 0 and x.shape[-1] > 4:
            y = y.roll(1, 1)
        return self.last(y)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch 2.13 warns of itself
@pytest.mark.parametrize("given", ["model", "program"])
def test_sizes_at_which_other_code_would_run_are_refused(given: str) -> None:
    model: Any = randomize(BranchesOnBatch()).eval()
    images = IMAGES.repeat(2, 1, 1, 1)
    if given == "program":
        shapes = ({0: torch.export.Dim.AUTO},)
        model = torch.export.export(model, (images,), dynamic_shapes=shapes)
    plan = fxprune.plan(model, images, channels={"first": [0, 3]})
    deps = fxprune.analyze(model, images)
    small = pickle.loads(pickle.dumps(fxprune.shrink(deps, plan)))
    assert small(torch.randn(4, 3, 8, 8)).shape[0] == 4
    for shape, message in (
        ((6, 3, 8, 8), r"\(x\.shape\[0\] <= 4\)"),
        ((3, 3, 8, 8), r"\(x\.shape\[0\] % 2\) == 0"),
        ((2, 3, 6, 8), r"\(x\.shape\[2\] == 8\)"),
    ):
        with pytest.raises(AssertionError, match=f"the model was recorded for .*{message}"):
            small(torch.randn(shape))


class TwoInputs(Base):
    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        y = torch.cat([self.first(x), self.first(z)])
        return self.last(y.chunk(2)[0] if x.shape[-1] > 4 else y)


def test_of_all_that_export_notes_about_sizes_the_equality_of_batches_is_left() -> None:
    deps = fxprune.analyze(randomize(TwoInputs()).eval(), (IMAGES, IMAGES))
    nodes = deps.graph_module.graph.find_nodes(op="call_function", target=torch._assert)
    texts = {str(node.args[1]).partition(" with ")[2] for node in nodes}
    assert {text for text in texts if "[0]" in text} <= {"(x.shape[0] == z.shape[0])"}
    assert "(z.shape[3] == 8)" in texts


@pytest.mark.parametrize(
    "code", ["IsNonOverlapping(L['x'].size()[0]) == 1", "L['x'].stride()[0] == 4"]
)
def test_what_cannot_be_asserted_is_no_capture(code: str) -> None:
    graph = torch.fx.Graph()
    with pytest.raises(fxprune.CaptureError, match="which cannot be asserted"):
        _parsed(code, {"L['x']": graph.placeholder("x")})


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("L['x'].size()[0] <= 4", "(x.shape[0] <= 4)"),
        (
            "-3*L['x'].size()[0] < Max(1, L['x'].size()[1])",
            "(((0 - 3) * x.shape[0]) < sym_max(1, x.shape[1]))",
        ),
        (
            "Mod(L['x'].size()[0], 2) == 0 and L['x'].size()[1] != 3",
            "(((x.shape[0] % 2) == 0) & (x.shape[1] != 3))",
        ),
    ],
)
def test_guards_are_read(code: str, text: str) -> None:
    graph = torch.fx.Graph()
    assert str(_parsed(code, {"L['x']": graph.placeholder("x")})) == text


class UpTo(Base):
    """Decides by what the range of a dynamic dim settles, and by two sizes at once."""

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        y = self.first(x)
        if x.shape[2] > 16:
            y = y.roll(1, 1)
        return self.last(y if x.shape[2] <= z.shape[2] else y * 2)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch 2.13 warns of itself
def test_ranges_of_dynamic_sizes_are_asserted() -> None:
    height = {2: torch.export.Dim("height", max=16)}, {2: torch.export.Dim.AUTO}
    inputs = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 9, 8)
    program: Any = torch.export.export(randomize(UpTo()).eval(), inputs, dynamic_shapes=height)
    small = fxprune.shrink(fxprune.analyze(program, inputs), {"first": 0.5})
    assert small(torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8)).shape == (2, 4, 5, 8)
    with pytest.raises(AssertionError, match=r"x\.shape\[2\] <= 16"):
        small(torch.randn(2, 3, 20, 8), torch.randn(2, 3, 20, 8))
    with pytest.raises(AssertionError, match=r"x\.shape\[2\] <= z\.shape\[2\]"):
        small(torch.randn(2, 3, 10, 8), torch.randn(2, 3, 9, 8))


class Compared(nn.Module):
    """Compares its inputs with a table, of another number of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        y = self.first(x) if x.shape[1] > 4 else x
        return self.last(y) @ self.last(self.first(table)).mT


def test_verify_tells_that_the_graph_holds_for_other_sizes() -> None:
    model = randomize(BranchesOnShape()).eval()
    plan = fxprune.plan(model, IMAGES, 0.5)
    with pytest.raises(
        fxprune.FxPruneError, match=r"(?s)shape\[2\] == 8.*graph holds for inputs of"
    ):
        fxprune.verify(model, fxprune.shrink(model, plan), plan, torch.randn(1, 3, 6, 8))


def test_inputs_of_different_batches_stay_dynamic() -> None:
    model, inputs = randomize(Compared()).eval(), (torch.randn(3, 8), torch.randn(5, 8))
    plan = fxprune.plan(model, inputs, 0.5)
    small = fxprune.shrink(model, plan, inputs)
    other = torch.randn(2, 8), torch.randn(6, 8)
    assert fxprune.verify(model, small, plan, other).relative < 1e-12


class Threshold(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.last(y.roll(1, 1) if x.shape[0] > 4 else y)


@pytest.mark.parametrize(("batch", "other"), [(3, 6), (4, 6), (5, 3)])
def test_the_example_decides_between_batches_of_two_kinds(batch: int, other: int) -> None:
    model, images = randomize(Threshold()).eval(), IMAGES.repeat(batch, 1, 1, 1)
    plan = fxprune.plan(model, images, 0.5)
    small = fxprune.shrink(model, plan, images)
    with pytest.raises(AssertionError, match=r"shape\[0\]"):
        small(IMAGES.repeat(other, 1, 1, 1))


@pytest.mark.parametrize(
    ("code", "left"),
    [
        ("L['x'].size()[0] != 100", ["(x.shape[0] != 100)"]),
        ("L['x'].size()[0] % 97 != 5", ["((x.shape[0] % 97) != 5)"]),
        ("L['x'].size()[0] / 2 > 1.5", ["((x.shape[0] / 2) > 1.5)"]),
        ("L['x'].size()[0] > 0", []),
        ("1 <= 2", []),
        ("9 % (L['z'].size()[0] - 1) == 0", ["((9 % (z.shape[0] - 1)) == 0)"]),
        ("L['x'].size()[0] <= L['z'].size()[0]", ["(x.shape[0] <= z.shape[0])"]),
        ("L['x'].size()[0] * 3 == 3 * L['z'].size()[0]", ["(x.shape[0] == z.shape[0])"]),
        ("L['x'].size()[0] + L['z'].size()[0] > 1", []),
    ],
)
def test_guards_that_hold_at_any_size_are_left_out(code: str, left: list[str]) -> None:
    graph = torch.fx.Graph()
    sources = {"L['x']": graph.placeholder("x"), "L['z']": graph.placeholder("z")}
    assert list(map(str, _simplified(_parsed(code, sources)))) == left
