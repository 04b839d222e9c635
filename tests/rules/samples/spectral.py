"""Samples of Fourier transforms and complex numbers."""

from __future__ import annotations

import torch

from fxprune.testing import Operand, Sample
from tests.rules.samples.operands import unknown, x

aten = torch.ops.aten


def complex_(*shape: int) -> Operand:
    """Labelled complex numbers."""
    numbers = torch.randn(
        *shape, generator=torch.Generator().manual_seed(0), dtype=torch.complex128
    )
    return unknown(numbers)


SPECTRAL = [
    Sample(aten._fft_r2c.default, (x(2, 3, 4), [2], 0, True), 2 + 3),
    Sample(aten._fft_r2c.default, (x(2, 3, 4), [0, 2], 1, False), 3),
    Sample(aten._fft_c2r.default, (complex_(2, 3, 4), [1, 2], 0, 6), 2),
    Sample(aten._fft_c2c.default, (complex_(2, 3, 4), [0], 0, True), 3 + 4),
    Sample(aten._fft_c2c.default, (complex_(2, 4), [1], 0, False), 2),
    Sample(aten.view_as_real.default, (complex_(2, 3),), 2 + 3),
    Sample(aten.view_as_real_copy.default, (complex_(2, 3),), 2 + 3),
    Sample(aten.view_as_complex.default, (x(3, 4, 2),), 3 + 4),
    Sample(aten.view_as_complex_copy.default, (x(3, 4, 2),), 3 + 4),
    Sample(aten._conj.default, (complex_(2, 3),), 2 + 3),
    Sample(aten.complex.default, (x(2, 3), x(3)), 2 + 3),
    Sample(aten.polar.default, (x(2, 3), x(2, 3)), 2 + 3),
]
