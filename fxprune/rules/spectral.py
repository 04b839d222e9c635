"""Fourier transforms, and complex numbers as pairs of real ones."""

from __future__ import annotations

import torch

from fxprune.rules.call import Call
from fxprune.rules.registry import rule

aten = torch.ops.aten


@rule(aten._fft_r2c, aten._fft_c2r, aten._fft_c2c)
def fft(call: Call) -> None:
    """Every frequency sees every position: the transformed axes stay, the others pass."""
    x = list(call.axes("self"))
    dims = [dim % len(x) for dim in call.arg("dim")]
    call.pin([x[dim] for dim in dims], "a Fourier transform runs along this axis")
    for dim in dims:
        x[dim] = call.pinned(call.out.shape[dim])
    call.result(x)


@rule(aten.view_as_real, aten.view_as_real_copy)
def view_as_real(call: Call) -> None:
    """A new last axis: the real and the imaginary part."""
    call.result([*call.axes("self"), call.pinned(2)])


@rule(aten.view_as_complex, aten.view_as_complex_copy)
def view_as_complex(call: Call) -> None:
    """The last axis is the real and the imaginary part; it goes."""
    x = call.axes("self")
    call.pin(x[-1:], "the real and the imaginary part of a number")
    call.result(x[:-1])
