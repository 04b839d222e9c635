"""A shrunk graph goes through torchao's PT2E flow; docs/onnx.md shows the same."""

import pytest
import torch

import fxprune

pytest.importorskip("onnx")  # `networks` writes files with it
pytest.importorskip("torchao")

from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    X86InductorQuantizer,
    get_default_x86_inductor_quantization_config,
)

from tests.onnx.networks import convnet


def test_a_shrunk_graph_is_quantized_by_pt2e_and_agrees() -> None:
    images = torch.randn(32, 3, 8, 8)
    small = fxprune.shrink(convnet().eval(), {"0": 0.5, "3": 0.5}, images[:2], verify="quick")
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(small, (images[:2],), dynamic_shapes=batch)
    config = get_default_x86_inductor_quantization_config()
    prepared = prepare_pt2e(program.module(), X86InductorQuantizer().set_global(config))
    prepared(images)
    int8 = convert_pt2e(prepared)
    kinds = {str(node.target) for node in int8.graph.nodes}
    assert "quantized_decomposed.dequantize_per_channel.default" in kinds
    with torch.no_grad():
        expected, got = small(images), int8(images)
    assert 0 < float((got - expected).norm() / expected.norm()) < 0.05
