"""Models that cannot be shrunk as they are: wrapped, compiled, quantized, not ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch._subclasses import FakeTensor
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from fxprune.errors import CaptureError, InputError
from fxprune.module_trees import buffers_in, parameters_in, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUANTIZED = ("torch.ao.nn.quantized.", "torch.ao.nn.intrinsic.quantized.")
_WRAPPERS = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel")


def check_model(model: nn.Module) -> None:
    """Refuse what cannot be captured, and what would be captured wrongly.

    Raises:
        InputError: this is no module, or one that is not ready.
        CaptureError: it hides the model, or has no Python code to trace.
    """
    _check_type(model)
    if isinstance(model, fx.GraphModule):
        _check_tensors(model)
        return
    _check_wrapper(model)
    if any("meta" in table for table in (model._modules, model._parameters, model._buffers)):
        raise CaptureError(
            "the model has a module or a tensor named meta",
            why="in a torch.fx.GraphModule, model.meta is a dict",
            hint="rename it",
        )
    for name, module in walk(model):
        if type(module).__module__.startswith(_QUANTIZED):
            raise CaptureError(
                f"{f'module {name}' if name else 'the model'} is quantized"
                f" ({type(module).__name__})",
                why="its weights are packed, and no channel of them can be removed",
                hint="shrink the model first and quantize the result",
            )
    _check_tensors(model)
    if type(model).forward is nn.Module.forward and "forward" not in vars(model):
        raise InputError(
            f"{type(model).__name__} has no forward",
            hint="pass the module that uses it, or give it a forward",
        )


def _check_type(model: Any) -> None:
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise InputError(
            f"the model is the class {model.__name__}, not a module",
            hint=f"make one: {model.__name__}(...)",
        )
    if not isinstance(model, nn.Module):
        raise InputError(
            f"the model is a {type(model).__name__}, not a torch.nn.Module",
            hint="pass the module itself",
        )
    if not hasattr(model, "_modules"):
        raise InputError(
            f"{type(model).__name__} was not set up",
            why="its __init__ does not call super().__init__()",
            hint="call it there first",
        )


def _check_wrapper(model: nn.Module) -> None:
    if isinstance(model, torch.jit.ScriptModule):
        raise CaptureError(
            "a TorchScript module has no Python forward to trace",
            hint="pass the original nn.Module, before torch.jit.script or trace",
        )
    kinds = {kind.__name__ for kind in type(model).__mro__ if kind.__module__.startswith("torch.")}
    if kinds.intersection(_WRAPPERS):
        raise CaptureError(f"{type(model).__name__} wraps the model", hint="pass model.module")
    if hasattr(model, "_orig_mod"):
        raise CaptureError("torch.compile wraps the model", hint="pass model._orig_mod")


def _check_tensors(model: nn.Module) -> None:
    for kind, name, tensor in _named(model):
        if is_lazy(tensor):
            raise InputError(f"{name} is not initialized", hint="run the model once")
        if unfit := unfitness(tensor):
            raise InputError(
                f"{kind} {name} is {unfit}",
                why="channels are removed from plain dense tensors",
                hint="shrink the model before it is turned into such tensors",
            )


def _named(model: nn.Module) -> Iterator[tuple[str, str, torch.Tensor]]:
    yield from (("parameter", name, tensor) for name, tensor in parameters_in(model).items())
    yield from (("buffer", name, tensor) for name, tensor in buffers_in(model).items())


def unfitness(tensor: torch.Tensor) -> str:
    """Why a tensor is none to work with, as the end of "it is ..."; empty if it is.

    >>> unfitness(torch.zeros(2).to_sparse())
    'a sparse tensor (torch.sparse_coo)'
    """
    if isinstance(tensor, FakeTensor):
        return "a FakeTensor, which has no data"
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return "a tensor inside a torch.func transform (vmap, grad)"
    if tensor.is_nested:
        return "a nested tensor"
    if is_traceable_wrapper_subclass(tensor):
        return f"a {type(tensor).__name__}, not a plain tensor"
    if tensor.layout is not torch.strided:
        return f"a sparse tensor ({tensor.layout})"
    return "a quantized tensor" if tensor.is_quantized else ""
