"""Verifying a shrunk checkpoint: both models are loaded, and compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fxprune.api import shrink
from fxprune.errors import InputError, first_of
from fxprune.module_trees import as_parameter, clone_tree, named_tensors
from fxprune.pretrained import is_model, quiet
from fxprune.shards import INDEX, SINGLE, Checkpoint
from fxprune.streaming.matching import stored_tensors
from fxprune.verification import verify

if TYPE_CHECKING:
    from fxprune.comparison import Verification
    from fxprune.planning import Plan


def check_verifiable(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Refuse a model that cannot be loaded, before any work.

    Raises:
        InputError: a buffer that is in no checkpoint has no data.
    """
    if _is_pretrained(model, checkpoint):
        return  # from_pretrained makes such buffers
    stored = {id(tensor) for tensor in stored_tensors(model).values()}
    others = [n for n, t in named_tensors(model).items() if t.is_meta and id(t) not in stored]
    if others:
        raise InputError(
            f"the model cannot be loaded to be verified: {first_of(others)} has no data",
            why="it is in no checkpoint, and the model is on the meta device",
            hint="pass a model that was built on the CPU, or verify=False",
        )


def proof_of(
    model: nn.Module,
    checkpoint: Checkpoint,
    target: Path,
    plan: Plan,
    example_inputs: Any,
    *,
    quick: bool,
) -> Verification:
    """Load both models, and compare what they compute.

    Raises:
        VerificationError: see `fxprune.verify`.
    """
    if _is_pretrained(model, checkpoint):
        kind: Any = type(model)
        original, small = (
            _from_pretrained(kind, folder, model.dtype) for folder in (checkpoint.folder, target)
        )
    else:
        original = _filled(model, checkpoint)
        made = shrink(original, plan, example_inputs, emit="module", verify=False)
        small = _filled(made, Checkpoint.open(_same_file(checkpoint, target)))
    return verify(original, small, plan, example_inputs, quick=quick)


def _is_pretrained(model: nn.Module, checkpoint: Checkpoint) -> bool:
    """Whether `from_pretrained` loads it."""
    names = {SINGLE, SINGLE + INDEX}
    return is_model(model) and not names.isdisjoint([*checkpoint.shards, checkpoint.index])


def _from_pretrained(kind: Any, folder: Path, dtype: Any) -> nn.Module:
    options = {"dtype": dtype, "local_files_only": True, "use_safetensors": True}
    with quiet():
        model: nn.Module = kind.from_pretrained(folder, **options)
    return model.eval()


def _same_file(checkpoint: Checkpoint, target: Path) -> Path:
    """The file or index of a target that a source was opened by."""
    return target / (checkpoint.index or next(iter(checkpoint.shards)))


def _filled(model: nn.Module, weights: Checkpoint) -> nn.Module:
    """A copy of a model that has the weights of a checkpoint, in its own types."""
    own = stored_tensors(model)
    first = {id(own[name]): name for name in reversed(list(weights)) if name in own}

    def converted(tensor: Tensor) -> Tensor:
        if id(tensor) not in first:
            return tensor
        value = weights[first[id(tensor)]].to(tensor.dtype)
        with torch.no_grad():
            return as_parameter(value.clone(), tensor)

    return clone_tree(model, converted)
