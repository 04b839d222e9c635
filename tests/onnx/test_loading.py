"""A network from an ONNX file is what ONNX Runtime computes, or is refused by node and operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxprune

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx2torch")
pytest.importorskip("onnxscript")

import onnx

import fxprune.onnx
from fxprune.onnx.operators import OPERATORS
from fxprune.onnx.origin import KEY
from tests.onnx.networks import write

MATRIX = torch.randn(8, 8)
VECTOR = torch.randn(8)
BODIES: dict[str, tuple[str, dict[str, Any], int]] = {
    "a shape that is read, gathered and joined": (
        """g (float[N, 8] x) => (float[N, 2, 4] y) {
            size = Shape (x)  batch = Gather (size, zero)  row = Unsqueeze (batch, axis)
            target = Concat <axis = 0> (row, rest)  y = Reshape (x, target) }""",
        {"zero": 0, "axis": [0], "rest": [2, 4]},
        13,
    ),
    "sizes that are computed": (
        """g (float[N, 8] x) => (float[M, 4] y) {
            size = Shape (x)  batch = Slice (size, zero, one, zero)  twice = Mul (batch, two)
            half = Cast <to = 7> (four)  target = Concat <axis = 0> (twice, half)
            y = Reshape (x, target) }""",
        {"zero": [0], "one": [1], "two": [2], "four": [4]},
        13,
    ),
    "zeros and minus one in a shape": (
        "g (float[N, 8] x) => (float[N, 2, 4] y) { y = Reshape (x, target) }",
        {"target": [0, -1, 4]},
        20,
    ),
    "axes as inputs": (
        """g (float[N, 8] x) => (float[N, 8] y) {
            a = Unsqueeze (x, one)  b = ReduceMean <keepdims = 0> (a, one)  c = ReduceMax (b, last)
            d = ReduceSum (b, last)  e = Sub (b, c)  f = Mul (e, d)  h = Unsqueeze (f, last)
            y = Squeeze (h, last) }""",
        {"one": [1], "last": [-1]},
        18,
    ),
    "slices": (
        """g (float[N, 8] x) => (float[N, 4] y) {
            a = Slice (x, one, end, one, two)  b = Slice (x, none, minus, one)
            c = Slice (b, none, four, one)  y = Add (a, c) }""",
        {"one": [1], "end": [2**62], "two": [2], "none": [0], "minus": [-2], "four": [4]},
        13,
    ),
    "a constant that is expanded over the batch": (
        """g (float[N, 8] x) => (float[N, 8] y) {
            size = Shape <end = 1> (x)  target = Concat <axis = 0> (size, one)
            wide = Expand (row, target)  y = Add (x, wide) }""",
        {"one": [1], "row": VECTOR[None]},
        20,
    ),
    "a linear layer, a norm and an activation": (
        """g (float[N, 8] x) => (float[N, 8] y) {
            a = MatMul (x, matrix)  b = Add (a, vector)
            c = LayerNormalization <epsilon = 0.001> (b, vector, vector)  d = Gelu (c)
            y = Div (d, half) }""",
        {"matrix": MATRIX, "vector": VECTOR, "half": torch.tensor([0.5])},
        20,
    ),
    "one square matrix, as it is and transposed": (
        """g (float[N, 8] x) => (float[N, 8] y) {
            a = Gemm <transB = 1> (x, matrix, vector)  b = Gemm (a, matrix, vector)
            c = MatMul (b, matrix)  y = Add (c, vector) }""",
        {"matrix": MATRIX, "vector": VECTOR},
        13,
    ),
    "a normalization by length": (
        """g (float[N, 8] x) => (float[N, 8] y) {
            flipped = Transpose <perm = [1, 0]> (matrix)  a = MatMul (x, flipped)
            b = ReduceL2 (a, axis)  c = Clip (b, least)  y = Div (a, c) }""",
        {"matrix": MATRIX, "axis": [1], "least": torch.tensor(1e-6)},
        18,
    ),
    "a row that is expanded as older exporters do": (
        """g (float[N, 8] x) => (float[N, 8] y) {
            size = Shape (x)  batch = Gather (size, zero)  row = Unsqueeze (batch, axis)
            target = Concat <axis = 0> (row, minus)  unknown = Equal (target, open)
            sizes = Where (unknown, ones, target)  wide = Expand (vector, sizes)
            y = Add (wide, x) }""",
        {"zero": 0, "axis": [0], "minus": [-1], "open": [-1, -1], "ones": [1, 1]}
        | {"vector": VECTOR[None]},
        17,
    ),
    "a scale that is computed of a size": (
        """g (float[N, 8] x) => (float[N, 8] y) {
            size = Shape (x)  width = Gather (size, one)  number = Cast <to = 1> (width)
            root = Sqrt (number)  y = Div (x, root) }""",
        {"one": 1},
        17,
    ),
    "two parts of a split, and padding around one": (
        """g (float[N, 8] x) => (float[N, 8] y) {
            a, c = Split <axis = 1, num_outputs = 2> (x)  d = Pad (a, ends, fill)
            e = Mul (c, c)  h = Concat <axis = 1> (a, e)  y = Add (d, h) }""",
        {"ends": [0, 1, 0, 3], "fill": torch.tensor(0.5)},
        20,
    ),
    "images that grow in three ways, and a slope for each channel": (
        """g (float[N, 8] x) => (float[N, 2, 8, 8] y) {
            a = Reshape (x, image)  b = PRelu (a, slope)
            c = Resize <coordinate_transformation_mode = "asymmetric", mode = "nearest",
            nearest_mode = "floor"> (b, , scales)  d = Resize <mode = "linear"> (b, , scales)
            e = Resize <mode = "linear", coordinate_transformation_mode = "align_corners">
            (b, , scales)  h = Pad <mode = "reflect"> (b, ends)  i = Resize <mode = "cubic">
            (h, , doubled)  k = Add (c, d)  l = Add (e, i)  y = Add (k, l) }""",
        {"image": [-1, 2, 2, 2], "slope": torch.tensor([0.1, 0.3])[:, None, None]}
        | {
            "scales": torch.tensor([1.0, 1.0, 4.0, 4.0]),
            "doubled": torch.tensor([1.0, 1.0, 2.0, 2.0]),
        }
        | {"ends": [0, 0, 1, 1, 0, 0, 1, 1]},
        19,
    ),
    "an operator whose new version says the same": (
        "g (float[N, 8] x) => (float[N, 8] y) { a = HardSwish (x)  y = Elu <alpha = 0.5> (a) }",
        {},
        22,
    ),
    "outputs that several nodes make, and an input that is one": (
        """g (float[N, 8] x) => (float[N, 4] y, float[N, 4] z, float[N, 8] x2) {
            y, z = Split <axis = 1> (x, parts)  x2 = Identity (x) }""",
        {"parts": [4, 4]},
        13,
    ),
    "numbers of a range and a filled tensor": (
        """g (float[N, 8] x) => (float[N, 8] y) {
            size = Shape (x)  width = Gather (size, one)  row = Range (zero, width, one)
            plain = Cast <to = 1> (row)  a = Add (x, plain)  ones = ConstantOfShape <value =
            float[1] {1.0}> (size)  y = Add (a, ones) }""",
        {"zero": 0, "one": 1},
        13,
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_network_with_this_is_what_onnx_runtime_computes(name: str, tmp_path: Path) -> None:
    body, weights, opset = BODIES[name]
    path = write(tmp_path / "net.onnx", body, weights, opset)
    model = fxprune.onnx.load(path)
    x = torch.randn(5, 8)
    got = model(x)
    for expected, each in zip(
        fxprune.onnx.Session(path)(x), got if isinstance(got, tuple) else [got], strict=True
    ):
        torch.testing.assert_close(each, torch.from_numpy(expected), atol=1e-5, rtol=1e-4)
    assert not any("OnnxReshape" in type(each).__name__ for each in model.modules())


LAYERS = """g (float[N, 8] x) => (float[N, 3] y) {
    a = MatMul (x, one)  b = Add (a, shared)  c = Relu (b)  d = MatMul (c, two)
    e = Add (d, shared)  h = Relu (e)  k = MatMul (h, two)  m = Add (x, k)
    y = Gemm <transB = 1> (m, head__weight) }"""
WEIGHTS = {"one": MATRIX, "two": MATRIX * 2, "shared": VECTOR, "head__weight": MATRIX[:3] + 1}


def test_equal_vectors_are_kept_apart_and_one_matrix_stays_one(tmp_path: Path) -> None:
    model = fxprune.onnx.load(write(tmp_path / "net.onnx", LAYERS, WEIGHTS))
    names = dict(model.named_parameters(remove_duplicate=False))
    matrices = [value for value in names.values() if value.dim() == 2]
    assert len(matrices) == 4
    assert len({id(value) for value in matrices}) == 3
    assert sum(value.dim() == 1 for value in names.values()) == 2
    assert "head.weight" in names


def test_names_and_metadata_come_out_as_they_went_in(tmp_path: Path) -> None:
    body = LAYERS.replace(" x)", " the__input)").replace("(x,", "(the__input,")
    path = write(tmp_path / "net.onnx", body, WEIGHTS)
    model = fxprune.onnx.load(path)
    small = fxprune.shrink(model, fxprune.plan(model, torch.randn(2, 8), ratio=0.5), verify="quick")
    done = fxprune.onnx.export(small, tmp_path / "small.onnx")
    assert (done.inputs, done.outputs) == (("the.input",), ("y",))
    written = onnx.load(done.path)
    assert {each.key: each.value for each in written.metadata_props} == {"author": "somebody"}
    assert (written.doc_string, written.graph.name) == ("a doc", "g")
    assert written.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert model.meta[KEY].dynamic == {"the.input": {0: "N"}}


def test_a_batch_that_the_file_fixes_can_be_open_on_the_way_out(tmp_path: Path) -> None:
    body = """g (float[2, 8] x) => (float[2, 4] y) {
        a = Reshape (x, to)  y = ReduceMax <keepdims = 0> (a, last) }"""
    path = write(tmp_path / "net.onnx", body, {"to": [2, 4, 2], "last": [2]})
    model = fxprune.onnx.load(path)
    assert model(torch.randn(5, 8)).shape == (5, 4)


def test_a_batch_that_the_file_fixes_elsewhere_is_told_on_the_way_out(tmp_path: Path) -> None:
    body = "g (float[2, 8] x) => (float[4, 2, 2] y) { a = Reshape (x, to)  y = Relu (a) }"
    model = fxprune.onnx.load(write(tmp_path / "net.onnx", body, {"to": [4, 2, 2]}))
    with pytest.raises(fxprune.InputError, match="cannot all be left open"):
        fxprune.onnx.export(model, tmp_path / "out.onnx")
    assert fxprune.onnx.export(model, tmp_path / "out.onnx", dynamic={}).size > 0


def test_an_operator_that_is_not_supported_is_named_with_its_node(tmp_path: Path) -> None:
    body = "g (float[N, 8] x) => (float[N, 8] y) { a = Relu (x)  [odd] y = Hardmax (a) }"
    with pytest.raises(fxprune.InputError, match="operator Hardmax is not supported") as told:
        fxprune.onnx.load(write(tmp_path / "net.onnx", body, {}))
    assert "'odd'" in str(told.value.where)
    assert "onnx2torch does not have it for opset 20" in told.value.why


def test_a_shape_that_is_computed_of_data_is_told(tmp_path: Path) -> None:
    body = """g (float[N, 8] x) => (float[N, 8] y) {
        n = Cast <to = 7> (x)  m = Gather (n, zero)  y = Reshape (x, m) }"""
    path = write(tmp_path / "net.onnx", body, {"zero": 0})
    with pytest.raises(fxprune.InputError, match="operator Reshape is not supported") as told:
        fxprune.onnx.load(path)
    assert told.value.why == "its input 'm' is computed while it runs, not of sizes"


def test_a_graph_that_computes_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(builder: Any, node: Any) -> bool:
        value = builder.tensor(node.input_values[0])
        builder.nodes[node.output_values[0]] = builder.call(F.gelu, value, approximate="tanh")
        return True

    monkeypatch.setitem(OPERATORS, "Gelu", wrong)
    path = write(tmp_path / "n.onnx", "g (float[N, 8] x) => (float[N, 8] y) { y = Gelu (x) }", {})
    with pytest.raises(fxprune.VerificationError, match="output 'y' differs by"):
        fxprune.onnx.load(path)


def test_a_graph_that_is_right_for_one_batch_only_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fixed(builder: Any, node: Any) -> bool:
        builder.numbers[node.output_values[0]] = (2, 8)
        return True

    monkeypatch.setitem(OPERATORS, "Shape", fixed)
    body = """g (float[N, 8] x) => (float[N, 1] y) {
        size = Shape (x)  ones = ConstantOfShape <value = float[1] {1.0}> (size)
        y = ReduceSum <keepdims = 1> (ones, axis) }"""
    path = write(tmp_path / "net.onnx", body, {"axis": [1]}, 17)
    with pytest.raises(fxprune.VerificationError, match="output 'y' is") as told:
        fxprune.onnx.load(path)
    assert told.value.where == "on another batch"


@pytest.mark.parametrize("content", [b"", b"no protocol buffer", None])
def test_a_broken_file_is_an_input_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    if content is None:
        body = "g (float[N, 8] x) => (float[N, 8] y) { y = MatMul (x, m) }"
        write(path, body, {"m": MATRIX})
        content = path.read_bytes()[:-100]
    path.write_bytes(content)
    with pytest.raises(fxprune.InputError, match="cannot be read as an ONNX file"):
        fxprune.onnx.load(path)


def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    for path in (tmp_path / "no.onnx", tmp_path):
        with pytest.raises(fxprune.InputError, match="cannot be read as an ONNX file"):
            fxprune.onnx.load(path)


def test_open_sizes_beside_the_batch_need_example_inputs(tmp_path: Path) -> None:
    body = "g (float[N, L, 8] x) => (float[N, L, 8] y) { y = MatMul (x, m) }"
    path = write(tmp_path / "net.onnx", body, {"m": MATRIX})
    with pytest.raises(fxprune.InputError, match=r"\['N', 'L', 8\]"):
        fxprune.onnx.load(path)
    model = fxprune.onnx.load(path, torch.randn(2, 3, 8))
    assert model.meta[KEY].dynamic == {"x": {0: "N", 1: "L"}}
    with pytest.raises(fxprune.InputError, match="do not fit"):
        fxprune.onnx.load(path, (torch.randn(2, 3, 8), torch.randn(2)))
    with pytest.raises(fxprune.InputError, match="does not run on inputs of shapes"):
        fxprune.onnx.load(path, torch.randn(2, 3, 9))


def test_a_loaded_network_is_in_eval_mode_and_its_weights_can_be_trained(tmp_path: Path) -> None:
    model = fxprune.onnx.load(write(tmp_path / "net.onnx", LAYERS, WEIGHTS))
    assert not model.training
    model(torch.randn(2, 8)).sum().backward()
    assert all(value.grad is not None for value in model.parameters())
    assert isinstance(model.get_submodule("head"), nn.Linear)
