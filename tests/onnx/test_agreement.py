"""Outputs agree if they are equal to rounding, infinite numbers and all."""

import numpy as np
import pytest
import torch

import fxprune

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx2torch")
pytest.importorskip("onnxscript")

from fxprune.onnx.agreement import agreement, worst


def test_the_relative_difference_is_that_of_the_worst_output() -> None:
    large, small = np.full((2, 3), 100.0), np.full(4, 0.01)
    found = agreement([([large, small], [large, small * 2])])
    assert found.relative == pytest.approx(1)
    assert found.largest == pytest.approx(0.01)
    assert found.same_argmax == 1


def test_infinite_numbers_are_equal_to_themselves_only() -> None:
    odd = np.array([np.inf, np.nan, 1.0])
    assert agreement([([odd], [odd])]).largest == 0
    with pytest.raises(fxprune.InputError, match="infinite or NaN"):
        agreement([([odd], [np.zeros(3)])])


def test_outputs_of_other_shapes_types_or_numbers_are_wrong() -> None:
    x = torch.randn(4, 3)
    assert worst(["y"], [x], [x.clone()]) == (0.0, "")
    assert "is torch.float32 (3, 4) instead of" in worst(["y"], [x], [x.T])[1]
    assert "is torch.float64" in worst(["y"], [x], [x.double()])[1]
    assert "0 outputs instead of 1" in worst(["y"], [x], [])[1]
    assert "output 'y' differs by" in worst(["y"], [x], [x * 1.001])[1]
    assert "output 'y' differs by" in worst(["y"], [x], [x * torch.nan])[1]


def test_an_approximation_of_a_small_number_is_none_of_a_wrong_one() -> None:
    small = torch.full((3,), 5e-4)
    assert not worst(["y"], [small], [small + 1e-7])[1]
    assert worst(["y"], [small], [small + 1e-6])[1]
    tiny = torch.full((3,), 1e-6)
    assert worst(["y"], [tiny], [tiny + 1e-7])[1]
