"""What a model without data becomes: the sizes of all tensors, and its configuration."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from fxprune.api import as_plan, shrink
from fxprune.errors import InputError, RewriteError, first_of
from fxprune.given_weights import with_integers
from fxprune.model_checks import check_model
from fxprune.module_trees import clone_tree, to_meta
from fxprune.planning import Plan
from fxprune.pretrained import is_model
from fxprune.report import ShrinkReport
from fxprune.shards import Checkpoint, Planned
from fxprune.streaming.matching import is_real, itemsize, stored_tensors, unknown_names
from fxprune.streaming.work import Slices


@dataclass(frozen=True)
class Outcome:
    """What is to be written.

    Attributes:
        plan: what goes.
        slices: name of a stored tensor -> dim -> removed positions.
        files: the tensors of each file, in the order in which they are written.
        unknown: the names of tensors that the model does not have; they stay as they are.
        dropped: the names of tensors that go with dropped blocks.
        config: the text of config.json; None if the model is none of transformers.
        report: widths and cost.
    """

    plan: Plan
    slices: Slices
    files: Mapping[str, tuple[Planned, ...]]
    unknown: tuple[str, ...]
    dropped: tuple[str, ...]
    config: str | None
    report: ShrinkReport


def outcome_of(model: nn.Module, checkpoint: Checkpoint, plan: Any, example_inputs: Any) -> Outcome:
    """Find out what a checkpoint becomes; nothing is written, and no weight is copied.

    Raises:
        FxPruneError: see `fxprune.shrink_checkpoint`.
    """
    _check_kind(model)
    unknown = unknown_names(model, checkpoint)
    empty: Any = with_integers(_emptied(model), checkpoint)
    plan = as_plan(empty, plan, example_inputs, weights=checkpoint)
    small: Any = shrink(empty, plan, example_inputs, emit="module", verify=False)
    report: ShrinkReport = small.meta["fxprune"]
    slices = _slices(model, plan)
    _check_slices(slices, plan, unknown)
    if is_model(model) and report.unsavable:
        reason = report.unsavable[0]
        raise RewriteError(
            "the shrunk checkpoint could not be loaded by from_pretrained",
            where=reason.where,
            why=reason.what,
            hint=reason.hint,
        )
    dropped = [name for name in checkpoint if _is_dropped(name, plan)]
    shapes = {name: tuple(tensor.shape) for name, tensor in stored_tensors(small).items()}
    shapes |= {name: checkpoint.entries[name].shape for name in unknown}
    files, gone = {}, {*dropped}
    for file, shard in checkpoint.shards.items():
        names = [name for name in shard.entries if name not in gone]
        if names:
            files[file] = _planned(checkpoint, names, slices, shapes)
    config = _config(small, checkpoint)
    return Outcome(plan, slices, files, unknown, tuple(dropped), config, report)


def _check_kind(model: Any) -> None:
    check_model(model)
    if isinstance(model, fx.GraphModule):
        raise InputError(
            "a checkpoint is one of a model's own class, not of a GraphModule",
            hint="pass the module, built on the meta device",
        )
    config = getattr(model, "config", None)
    if is_model(model) and getattr(config, "quantization_config", None) is not None:
        raise InputError(
            "the checkpoint is quantized, by its configuration",
            why="scales belong to its weights, and these would not be sliced",
            hint="shrink the checkpoint first, and quantize the result",
        )


def _emptied(model: nn.Module) -> nn.Module:
    """The model without data, but for integers that are in no checkpoint."""
    stored = {id(tensor) for tensor in stored_tensors(model).values()}

    def converted(tensor: Tensor) -> Tensor:
        is_real = tensor.is_floating_point() or tensor.is_complex()
        return to_meta(tensor) if is_real or id(tensor) in stored else tensor

    return clone_tree(model, converted)


def _slices(model: nn.Module, plan: Plan) -> Slices:
    """What goes of each stored tensor; of one that is tied, a plan may have but one name."""
    stored = stored_tensors(model)
    by_tensor = {id(stored[name]): gone for name, gone in plan.slices.items() if name in stored}
    return {name: by_tensor[id(t)] for name, t in stored.items() if id(t) in by_tensor}


def _check_slices(slices: Slices, plan: Plan, unknown: tuple[str, ...]) -> None:
    """Refuse slices of what is not in a checkpoint, and of what more is said than the model has."""
    unstored = [name for name in plan.slices if name not in slices]
    if unstored:
        raise RewriteError(
            f"{first_of(unstored)} would have to be sliced, and is in no checkpoint",
            why="the model makes it anew when it is built, of its original size",
            hint="leave the channels alone that it goes with (ignore=, head_dims=False), or shrink"
            " the model in memory, and use fxprune.save",
        )
    parts = [n for n in unknown if any(n.startswith(f"{sliced}_") for sliced in slices)]
    if parts:
        raise InputError(
            f"the checkpoint has {first_of(parts)} beside a tensor that would be sliced",
            why="that looks like a part of a quantized tensor, which the model does not know",
            hint="shrink the checkpoint first, and quantize the result",
        )


def _is_dropped(name: str, plan: Plan) -> bool:
    return any(name.startswith(f"{block}.") for block in plan.dropped)


def _planned(
    checkpoint: Checkpoint,
    names: Iterable[str],
    slices: Slices,
    shapes: Mapping[str, tuple[int, ...]],
) -> tuple[Planned, ...]:
    """The tensors of a file, those of the widest elements first."""
    found = []
    for name in names:
        entry = checkpoint.entries[name]
        gone = slices.get(name, {})
        shape = tuple(n - len(gone.get(dim, ())) for dim, n in enumerate(entry.shape))
        if shapes.get(name) != shape:
            raise RewriteError(
                f"{name} would be stored with shape {list(shape)}",
                why=f"in the shrunk model it has {list(shapes.get(name, ()))}",
                hint="shrink the model in memory, and use fxprune.save",
            )
        found.append(Planned(name, entry.dtype, shape, itemsize(name, entry)))
    return tuple(sorted(found, key=lambda tensor: -tensor.itemsize))


def _config(small: Any, checkpoint: Checkpoint) -> str | None:
    """The text of the configuration of a model of transformers, as `save_pretrained` writes it."""
    if not is_model(small):
        return None
    config = copy.deepcopy(small.config)
    config.architectures = [type(small).__name__]
    if getattr(config, "dtype", None) is None:
        first = next((n for n, entry in checkpoint.entries.items() if is_real(entry)), None)
        config.dtype = None if first is None else checkpoint[first].dtype
    text: str = config.to_json_string()
    return text
