"""What is switched off around the work of fxprune: a caller's modes, and Python's collector."""

from __future__ import annotations

import gc
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


@contextmanager
def collector_paused() -> Iterator[None]:
    """For work that makes many small objects and hardly any garbage.

    Python's collector would look through all objects of the process again and again meanwhile,
    which takes up to a third of the time of an analysis.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
