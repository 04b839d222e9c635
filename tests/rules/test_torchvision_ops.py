"""The rules of torchvision's operators, which are registered by name."""

from __future__ import annotations

import pytest
import torch
from torch._ops import OpOverload

from fxprune.rules import lookup, registry
from fxprune.testing import Operand, Sample, check_rule
from fxprune.testing import adapters as adapt
from tests.rules.samples.operands import x

pytest.importorskip("torchvision")
ops = torch.ops.torchvision
BOXES = Operand((2, 5), given=torch.tensor([[0, 0, 0, 4, 4], [1, 1, 2, 5, 3]], dtype=torch.float64))


def pooled(op: OpOverload, channels: int, free: int, *tail: object) -> Sample:
    return Sample(op, (x(3, channels, 6, 6), BOXES, 0.5, 2, 2, *tail), free)


def deformable(weight: tuple[int, ...], groups: int, offset_groups: int, free: int) -> Sample:
    """A deformable 2x2 convolution of (2, 4, 5, 5)."""
    return Sample(
        ops.deform_conv2d.default,
        (
            *(x(2, 4, 5, 5), x(*weight), x(2, 8 * offset_groups, 4, 4)),
            *(x(2, 4 * offset_groups, 4, 4), x(weight[0])),
            *(1, 1, 0, 0, 1, 1, groups, offset_groups, True),
        ),
        free,
        adapt=adapt.deformable_groups,
    )


SAMPLES = [
    pooled(ops.roi_align.default, 4, 2 + 4, 2, False),
    pooled(ops.roi_pool.default, 4, 2 + 4),
    pooled(ops.ps_roi_align.default, 8, 2, 2),
    pooled(ops.ps_roi_pool.default, 8, 2),
    deformable((6, 4, 2, 2), 1, 1, 2 + 4 + 6),
    deformable((6, 4, 2, 2), 1, 2, 2 + 2 + 6),
    deformable((6, 2, 2, 2), 2, 1, 2 + (2 + 2 + 3)),
]


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_rule_is_right_and_pins_no_more_than_it_must(sample: Sample) -> None:
    check_rule(sample.op, sample)


def test_suppression_of_boxes_has_a_rule() -> None:
    """Its outcome has no shape without data, so that it has no sample."""
    assert lookup(ops.nms.default) is not None


def test_every_rule_by_name_is_of_an_operator_that_torchvision_or_torch_has() -> None:
    for name in registry._NAMED:
        namespace, operator = name.split("::")
        if namespace == "transformers":
            continue  # another test of these
        optional = name == "aten::_upsample_lanczos2d_aa"
        assert optional or hasattr(getattr(torch.ops, namespace), operator)
