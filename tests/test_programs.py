"""`torch.export`: a program goes in, and a program comes out whose dynamic sizes still are."""

from __future__ import annotations

import copy
import operator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

import fxprune
from fxprune.model_files import load_program, save_program
from fxprune.programs import as_program, check_program, export_module
from models_zoo import ZOO, randomize

# torch 2.13 warns of its own specs.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
X = torch.randn(2, 3, 8, 6)


class Net(nn.Module):
    """Takes and returns structures, and has a buffer that is not in its state dict."""

    gain: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.head = nn.Conv2d(8, 6, 1), nn.Linear(6, 4)
        self.register_buffer("gain", torch.rand(8, 1, 1) + 0.5, persistent=False)

    def forward(self, x: Tensor, more: dict[str, list[Tensor]], *, offset: Tensor) -> Any:
        y = self.norm(self.first(x) + self.first(more["images"][0])).relu() * self.gain
        y = self.second(y.view(y.shape[0], 8, -1, y.shape[-1]))
        return {"map": y, "rest": (self.head(y.mean((2, 3))) + offset,)}


MODEL = randomize(Net()).eval()
ARGUMENTS: dict[str, Any] = {"x": X, "more": {"images": [X + 1]}, "offset": torch.ones(1)}


def exported() -> ExportedProgram:
    sizes = {0: Dim("batch", max=32), 2: Dim("height"), 3: Dim("width")}
    return torch.export.export(
        MODEL,
        (ARGUMENTS["x"], ARGUMENTS["more"]),
        {"offset": ARGUMENTS["offset"]},
        dynamic_shapes={"x": sizes, "more": {"images": [sizes]}, "offset": None},
        strict=False,
    )


PROGRAM = exported()
PLAN = fxprune.plan(PROGRAM, ratio=0.5)


def call(program: ExportedProgram, *shape: int) -> Any:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return program.module()(x, {"images": [x * 2]}, offset=torch.ones(1))


def assert_equal(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    torch.testing.assert_close(one["map"], other["map"])
    torch.testing.assert_close(one["rest"][0], other["rest"][0])


def test_the_result_equals_the_shrunk_model_at_any_dynamic_size(tmp_path: Path) -> None:
    small = fxprune.shrink(PROGRAM, PLAN)
    assert isinstance(small, ExportedProgram)
    save_program(small, tmp_path / "small.pt2")
    read = load_program(tmp_path / "small.pt2")
    model = fxprune.shrink(MODEL, fxprune.plan(MODEL, ARGUMENTS, 0.5), ARGUMENTS)
    for batch, height, width in ((2, 8, 6), (5, 7, 11), (1, 4, 4)):
        x = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
        expected = model(x, {"images": [x * 2]}, offset=torch.ones(1))
        for program in (small, read):
            assert_equal(call(program, batch, 3, height, width), expected)
    parameters = sum(p.numel() for p in small.parameters())
    assert parameters == sum(p.numel() for p in model.parameters())


def test_names_and_structures_are_the_originals() -> None:
    small = fxprune.shrink(PROGRAM, PLAN)
    assert small.graph_signature.user_inputs == PROGRAM.graph_signature.user_inputs
    assert small.call_spec == PROGRAM.call_spec
    assert small.state_dict.keys() == PROGRAM.state_dict.keys()
    assert small.graph_signature.parameters == PROGRAM.graph_signature.parameters
    assert "gain" in small.graph_signature.non_persistent_buffers


def test_limits_of_dynamic_sizes_are_the_originals() -> None:
    small = fxprune.shrink(PROGRAM, PLAN)
    x = next(n for n in small.graph.nodes if n.name == "x")
    assert [isinstance(size, int) for size in x.meta["val"].shape] == [False, True, False, False]
    for program in (PROGRAM, small):
        with pytest.raises(AssertionError, match="Guard failed"):
            call(program, 33, 3, 8, 6)


def test_every_node_tells_its_new_shape() -> None:
    small = fxprune.shrink(PROGRAM, PLAN, verify=False)
    convolution = next(n for n in small.graph.nodes if "conv2d" in n.name)
    assert convolution.meta["val"].shape[1] == 4


def test_the_original_is_not_changed() -> None:
    program = exported()
    before, text = copy.deepcopy(program.state_dict), str(program)
    fxprune.shrink(program, PLAN)
    assert str(program) == text
    for name, tensor in program.state_dict.items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_a_plan_of_the_model_is_one_of_its_program() -> None:
    plan = fxprune.plan(MODEL, ARGUMENTS, 0.5)
    small = fxprune.shrink(PROGRAM, plan)
    model = fxprune.shrink(MODEL, plan, ARGUMENTS)
    arguments = (ARGUMENTS["x"], ARGUMENTS["more"])
    offset = ARGUMENTS["offset"]
    assert_equal(small.module()(*arguments, offset=offset), model(**ARGUMENTS))
    assert fxprune.verify(PROGRAM, small, plan).relative < 1e-9


def test_inputs_may_be_given_in_the_models_structure() -> None:
    program = torch.export.export(MODEL, (), ARGUMENTS, strict=False)
    small = fxprune.shrink(program, {"first": 0.5}, ARGUMENTS)
    assert small.module()(**ARGUMENTS)["map"].shape == (2, 6, 8, 6)
    deps = fxprune.analyze(program, ARGUMENTS)
    assert [spec.shape for spec in deps.inputs] == [(2, 3, 8, 6), (2, 3, 8, 6), (1,)]


def test_ratios_do_without_inputs_as_the_program_has_some() -> None:
    small = fxprune.shrink(PROGRAM, {"first": 0.25})
    assert small.state_dict["first.weight"].shape[0] == 6
    report = small.graph_module.meta["fxprune"]
    assert report.captured_by == "given"
    assert report.verification.relative < 1e-9


def test_a_program_without_example_inputs_takes_those_of_the_plan() -> None:
    program = exported()
    program._example_inputs = None
    small = fxprune.shrink(program, fxprune.plan(program, (X, X, torch.ones(1)), 0.5))
    assert_equal(call(small, 4, 3, 5, 5), call(fxprune.shrink(PROGRAM, PLAN), 4, 3, 5, 5))
    with pytest.raises(fxprune.InputError, match="example inputs are missing"):
        fxprune.analyze(program)


def test_operators_of_decomposed_programs_are_known() -> None:
    program = PROGRAM.run_decompositions()
    small = fxprune.shrink(program, PLAN)
    assert_equal(call(small, 3, 3, 6, 6), call(fxprune.shrink(PROGRAM, PLAN), 3, 3, 6, 6))


@pytest.mark.parametrize("name", ["qkv_fused", "channel_shuffle"])
def test_models_of_the_zoo_keep_their_batch_dynamic(name: str) -> None:
    model, inputs = randomize(ZOO[name].build()).eval(), ZOO[name].example_inputs()
    program = torch.export.export(model, inputs, dynamic_shapes=[{0: Dim.AUTO} for _ in inputs])
    plan = fxprune.plan(model, inputs, 0.5)
    small = fxprune.shrink(program, plan, verify="quick").module()
    expected = fxprune.shrink(model, plan, verify=False)
    more = tuple(torch.cat([x, x, x]) for x in inputs)
    torch.testing.assert_close(small(*more), expected(*more))


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.up, self.down = nn.Embedding(20, 8), nn.Linear(8, 12), nn.Linear(12, 8)
        self.attend, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 20)

    def forward(self, words: Tensor) -> Tensor:
        x = self.embed(words)
        x = x + self.attend(x, x, x, need_weights=False)[0]
        return self.head(x + self.down(self.up(x).relu()))


def test_a_sequence_stays_dynamic() -> None:
    model, words = randomize(Words()).eval(), torch.randint(20, (3, 7))
    shapes = ({0: Dim("batch"), 1: Dim("sequence")},)
    program = torch.export.export(model, (words,), dynamic_shapes=shapes)
    plan = fxprune.plan(model, words, 0.5)
    small = fxprune.shrink(program, plan).module()
    expected = fxprune.shrink(model, plan, words)
    for shape in ((3, 7), (2, 12), (5, 4)):
        longer = torch.randint(20, shape)
        torch.testing.assert_close(small(longer), expected(longer))


def test_a_resnet_keeps_batch_height_and_width_dynamic() -> None:
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    model, x = models.resnet18(num_classes=10).eval(), torch.randn(2, 3, 64, 64)
    shapes = ({0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO},)
    program = torch.export.export(model, (x,), dynamic_shapes=shapes)
    plan = fxprune.plan(model, x, 0.5)
    small = fxprune.shrink(program, plan, verify="quick").module()
    expected = fxprune.shrink(model, plan, verify=False)
    with torch.no_grad():
        for shape in ((2, 3, 64, 64), (3, 3, 96, 80)):
            images = torch.randn(shape)
            torch.testing.assert_close(small(images), expected(images))


# -- refusals ----------------------------------------------------------------------------------


def test_a_module_cannot_be_emitted_of_a_program() -> None:
    with pytest.raises(fxprune.RewriteError, match="cannot be emitted as a module"):
        fxprune.shrink(PROGRAM, PLAN, emit="module")


def test_a_size_that_would_be_fixed_is_an_error() -> None:
    small = fxprune.shrink(fxprune.analyze(PROGRAM), PLAN)
    *_, last = small.graph.find_nodes(op="placeholder")
    with small.graph.inserting_after(last):
        width = small.graph.call_function(torch.ops.aten.sym_size.int, (_input(small), 3))
    with small.graph.inserting_after(width):
        is_six = small.graph.call_function(operator.eq, (width, 6))
    with small.graph.inserting_after(is_six):
        small.graph.call_function(torch._assert, (is_six, "six"))
    small.recompile()
    with pytest.raises(
        fxprune.RewriteError, match=r"dim 3 of x is fixed at 6; dim 3 of more_images_0"
    ):
        as_program(small, PROGRAM)


def _input(module: fx.GraphModule) -> fx.Node:
    return next(iter(module.graph.find_nodes(op="placeholder")))


def test_a_program_that_computes_something_else_is_found() -> None:
    small = fxprune.shrink(fxprune.analyze(PROGRAM), PLAN)
    program = as_program(small, PROGRAM)
    values = (X, X + 1, torch.ones(1))
    check_program(program, small, values)
    other = fxprune.shrink(fxprune.analyze(PROGRAM), PLAN)
    with torch.no_grad():
        other.get_parameter("head.bias").add_(0.01)
    with pytest.raises(fxprune.VerificationError, match="exported program does not compute"):
        check_program(program, other, values)


def test_a_wrong_program_is_refuted() -> None:
    small = fxprune.shrink(PROGRAM, PLAN)
    assert fxprune.verify(PROGRAM, small, PLAN).compared == "outputs"
    with torch.no_grad():
        small.state_dict["second.weight"].mul_(1.01)
    with pytest.raises(fxprune.VerificationError):
        fxprune.verify(PROGRAM, small, PLAN)


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.pt2").write_text("no program")
    with pytest.raises(fxprune.InputError, match=r"bad\.pt2 cannot be read"):
        load_program(tmp_path / "bad.pt2")


# -- modules -----------------------------------------------------------------------------------


def test_a_shrunk_module_is_exported_with_a_dynamic_batch() -> None:
    model = randomize(nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))).eval()
    x = torch.randn(1, 8)
    small = fxprune.shrink(model, fxprune.plan(model, x, 0.5))
    program = export_module(small, x)
    for batch in (1, 2, 5):
        rows = torch.randn(batch, 8)
        torch.testing.assert_close(program.module()(rows), small(rows))
