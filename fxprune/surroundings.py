"""Modes that are on around a call of fxprune, and must not decide what it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def undisturbed() -> Iterator[None]:
    """Without the caller's inference mode, `no_grad` and autocast; also a decorator.

    Tensors that are made under inference mode can never be trained, operators arrive there in
    another form than elsewhere, and under autocast they compute something else.
    """
    with torch.inference_mode(mode=False), torch.enable_grad(), torch._C._DisableAutocast():
        yield
