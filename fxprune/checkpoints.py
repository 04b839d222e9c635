"""Checkpoints of shrunk models: one file of tensors, and a text that tells how to make the rest.

No pickle is involved: the model itself is not in the file. `load` makes it again, of another
instance of the original and by the plan in the file, and gives it the tensors in the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from fxprune.api import shrink_again
from fxprune.checkpoint_files import ORIGINAL, Document, Saved
from fxprune.emission import put_report
from fxprune.errors import FxPruneError, InputError, PlanError, first_of
from fxprune.exporting import program_module
from fxprune.inputs import materialize
from fxprune.meaning import Meaning
from fxprune.model_checks import check_model, unfitness
from fxprune.module_trees import as_parameter, clone_tree, named_tensors, to_meta
from fxprune.passes.base import fork
from fxprune.recipes import Outline, all_tensors
from fxprune.report import ShrinkReport
from fxprune.surroundings import undisturbed
from fxprune.values import memory

if TYPE_CHECKING:
    from torch import Tensor


def save(small: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a shrunk model, with its weights of now and its plan, to a file without pickle.

    The file is of the format of safetensors, and appears whole or not at all.

    Args:
        small: what `shrink` or `load` returned, or `Progressive.model`, also trained since; not
            what wraps it.
        path: a name that ends in ".safetensors", or a folder, in which the file is
            `model.safetensors`; it is made if needed.

    Raises:
        InputError: this is not what `shrink` returned, or its modules, its graph or its shapes were
            changed since; or safetensors is not installed.
        FxPruneError: the file cannot be written; an existing one is left as it was.
    """
    report = _report_of(small)
    recipe = report.recipe
    assert recipe is not None
    made, named = recipe.outline, named_tensors(small)
    state = {n: t for n, t in all_tensors(small).items() if n in named or n in made.shapes}
    outline = Outline.of(small, state)
    _refuse_changes(made, outline)
    stored = {name: tensor for name, tensor in state.items() if name not in outline.tied}
    parameters = dict(small.named_parameters(remove_duplicate=False))
    document = Document(
        torch=torch.__version__,
        emit="module" if report.emit == "module" else "graph",
        norm=report.meaning.norm,
        constants=report.meaning.constants,
        captured_by=report.captured_by,
        original_training=recipe.training,
        training=[name for name, module in small.named_modules() if module.training],
        frozen=[name for name, parameter in parameters.items() if not parameter.requires_grad],
        order=list(parameters),
        complex=[name for name, tensor in stored.items() if tensor.is_complex()],
        tied=outline.tied,
        modules=outline.modules,
        repaired=report.repaired,
    )
    Saved(recipe.plan, document, _values(stored), recipe.integers).write(path)


def _report_of(small: Any) -> ShrinkReport:
    if not isinstance(small, nn.Module):
        raise InputError(
            f"the shrunk model is a {type(small).__name__}, not a torch.nn.Module",
            hint="pass what fxprune.shrink returned; torch.export.save writes programs",
        )
    meta = vars(small).get("meta")
    report = meta.get("fxprune") if isinstance(meta, dict) else None
    if not isinstance(report, ShrinkReport) or report.recipe is None:
        raise InputError(
            f"this {type(small).__name__} is not what fxprune.shrink returned",
            why='it has no report in .meta["fxprune"], which tells the plan',
            hint="pass the shrunk model itself, not what wraps it (DDP, torch.compile), and not"
            " what was pickled and read; a model that never was shrunk needs no fxprune.save",
        )
    return report


def _refuse_changes(made: Outline, now: Outline) -> None:
    if differences := made.unlike(now, "what shrink made", "the model"):
        raise InputError(
            "the model was changed after fxprune.shrink had made it",
            why=first_of(differences),
            hint="its tensors may get other values and types, and no more: fxprune.load makes"
            " modules and graph again as shrink did. Change the original and shrink that, or write"
            " the whole model with torch.save",
        )


def _values(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as they are written: no two of them share memory."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in state.items():
        unfit = "on the meta device, without data" if tensor.is_meta else unfitness(tensor)
        if unfit or name.startswith(ORIGINAL):
            raise InputError(
                f"{name} is {unfit or 'a name that fxprune takes for another'}",
                hint="save the model with plain dense tensors",
            )
        value = tensor.detach().resolve_conj().resolve_neg()
        found[name] = value.clone() if memory(value) in seen else value
        seen.add(memory(value))
    return found


@undisturbed()
def load(
    model: nn.Module | ExportedProgram,
    path: str | os.PathLike[str],
    example_inputs: Any = None,
    *,
    strict: bool = True,
) -> nn.Module:
    """Make the shrunk model of a file again.

    The file runs no code, whoever it comes from: it holds tensors, sizes and names.

    Args:
        model: another instance of the original, built as it was when it was shrunk. Its weights do
            not matter, and it is not changed. It may be on the meta device (built under `with
            torch.device("meta"):`), where it takes no memory; then the result is on the CPU, else
            it is where `model` is.
        path: the file, or the folder with `model.safetensors`.
        example_inputs: needed only for a model whose forward decides by the values of tensors, if
            random inputs of the plan's shapes lead it another way.
        strict: whether the classes of modules, the settings of those of torch, and the graph must
            be what was saved. They may differ between versions of torch; False takes what this
            version makes, if all tensors fit.

    Returns:
        The model as it was saved: its tensors (of their types, also if it was cast), what is
        tied, the train / eval flags and `requires_grad`. `result.meta["fxprune"]` is its
        ShrinkReport, without a verification. What else was put on the model after it was shrunk,
        such as hooks, is not in the file.

    Raises:
        InputError: the file cannot be read or is not what `save` wrote; safetensors is missing.
        PlanError: the model is another one than was shrunk; tells what differs.
        RewriteError, CaptureError, AnalysisError: see `shrink`.
    """
    original = program_module(model) if isinstance(model, ExportedProgram) else model
    check_model(original)
    saved = Saved.read(path)
    small = _made_again(original, saved, example_inputs)
    state = all_tensors(small)
    differences = saved.outline.unlike(
        Outline.of(small, state), "the checkpoint", "what the model becomes", strict=strict
    )
    differences += _other_kinds(saved.tensors, state)
    if differences:
        raise PlanError(
            f"the checkpoint {os.fspath(path)} is of another model than {type(original).__name__}",
            why=first_of(differences),
            hint="pass an instance that is built as the original was. If other versions are the"
            f" cause (torch {saved.document.torch} wrote it, here is {torch.__version__}), and"
            " all tensors fit, pass strict=False",
        )
    _put_in_order(small, saved.document.order)
    for name, value in saved.tensors.items():
        own = state[name].detach()
        state[name].data = torch.empty_like(own, dtype=value.dtype).copy_(value)
    _put_settings(small, saved.document)
    report: ShrinkReport = vars(small)["meta"]["fxprune"]
    put_report(small, replace(report, repaired=tuple(saved.document.repaired)))
    return small


def _made_again(original: nn.Module, saved: Saved, example_inputs: Any) -> nn.Module:
    """The saved model with any values."""
    document = saved.document
    if example_inputs is None and document.captured_by == "record":
        example_inputs = materialize(saved.plan.inputs, seed=0)

    def made(model: nn.Module) -> nn.Module:
        meaning = Meaning(document.norm, document.constants)
        return shrink_again(
            model,
            saved.plan,
            example_inputs,
            emit=document.emit,
            meaning=meaning,
            known=saved.tensors,
        )

    try:
        if document.emit == "module":  # for which forward is run
            try:
                return _with_memory(made(_instance(original, saved, on_meta=True)), original)
            except FxPruneError:
                pass  # it needs data, though not which
        return made(_instance(original, saved, on_meta=False))
    except PlanError as error:
        own = named_tensors(original)
        types = [
            f"{name} is {own[name].dtype} here, {tensor.dtype} in the checkpoint"
            for name, tensor in saved.tensors.items()
            if name in own and own[name].dtype != tensor.dtype
        ]
        raise PlanError(
            f"the checkpoint does not fit {type(original).__name__}: {error.what}",
            where=error.where,
            why="; ".join(filter(None, [error.why, first_of(types)])),
            hint="pass an instance that is built as the original was",
        ) from error


def _instance(original: nn.Module, saved: Saved, *, on_meta: bool) -> nn.Module:
    """A copy of the original, in the modes and with the integers of that which was shrunk.

    Args:
        original: what was passed to `load`.
        saved: the file.
        on_meta: have no values but these integers; otherwise zeros stand for what is on meta.
    """
    state = all_tensors(original)
    named = {id(tensor) for tensor in state.values()}
    integers = {
        id(tensor): saved.integers[name]
        for name, tensor in state.items()
        if name in saved.integers and _are_alike(tensor, saved.integers[name])
    }

    def converted(tensor: Tensor) -> Tensor:
        if id(tensor) in integers:
            value = integers[id(tensor)]
            return as_parameter(value.to("cpu" if tensor.is_meta else tensor.device), tensor)
        if id(tensor) in named and on_meta:
            return to_meta(tensor)
        if not tensor.is_meta:
            return tensor
        if id(tensor) not in named:
            raise InputError(
                f"a tensor of shape {list(tensor.shape)} of the model is on the meta device, and"
                " not in the checkpoint",
                why="it is neither a parameter nor a buffer, nor an attribute of a module",
                hint='build the model without torch.device("meta")',
            )
        zero = torch.zeros((), dtype=tensor.dtype)  # all that the memory of these holds
        return as_parameter(zero.expand(tensor.shape), tensor)

    copy: nn.Module
    if isinstance(original, fx.GraphModule):
        copy = fork(original, converted)
    else:
        copy = clone_tree(original, converted)
    for name, module in copy.named_modules():
        module.training = name in saved.document.original_training
    return copy


def _are_alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype


def _with_memory(small: nn.Module, original: nn.Module) -> nn.Module:
    """A model on the devices of the original, in the place of one on meta; any values are in it."""
    theirs = {name: t.device for name, t in all_tensors(original).items() if not t.is_meta}
    otherwise = next(iter(theirs.values()), torch.device("cpu"))
    devices = {id(t): theirs.get(name, otherwise) for name, t in all_tensors(small).items()}

    def converted(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return tensor
        like = tensor.detach()
        return as_parameter(torch.empty_like(like, device=devices[id(tensor)]), tensor)

    return clone_tree(small, converted)


def _other_kinds(saved: Mapping[str, Tensor], made: Mapping[str, Tensor]) -> list[str]:
    """Where one tensor has other kinds of numbers than another; a cast leaves them real numbers."""
    both = {name: (value, made[name]) for name, value in saved.items() if name in made}
    return [
        f"{name} is {value.dtype} in the checkpoint, {own.dtype} in what the model becomes"
        for name, (value, own) in both.items()
        if value.dtype != own.dtype
        and not (value.is_floating_point() and own.is_floating_point())
        and not (value.is_complex() and own.is_complex())
    ]


def _put_settings(small: nn.Module, document: Document) -> None:
    """Set flags as they were saved."""
    training, frozen = set(document.training), set(document.frozen)
    for path, module in small.named_modules():
        module.training = path in training
    for name, parameter in small.named_parameters(remove_duplicate=False):
        parameter.requires_grad_(name not in frozen)


def _put_in_order(small: nn.Module, names: Sequence[str]) -> None:
    """List parameters in an order, since optimizers tell them by their places.

    `Progressive` lists those of a graph in the original's order. Only modules that fx has made to
    hold others are touched: any other may run its children in their order.

    Raises:
        PlanError: it is not possible.
    """
    place: dict[str, int] = {}
    for number, name in enumerate(names):
        parts = name.split(".")
        for k in range(1, len(parts) + 1):
            place.setdefault(".".join(parts[:k]), number)
    for path, module in small.named_modules():
        if type(module) is nn.Module or isinstance(module, fx.GraphModule):
            tables: tuple[dict[str, Any], ...] = (module._modules, module._parameters)
            for table in tables:
                full = {key: f"{path}.{key}" if path else key for key in table}
                for key in sorted(full, key=lambda key: place.get(full[key], len(place))):
                    table[key] = table.pop(key)
    if [name for name, _ in small.named_parameters(remove_duplicate=False)] != list(names):
        raise PlanError(
            "the model lists its parameters in another order than that in the checkpoint",
            why="the state of an optimizer, which tells them by their places, would go astray",
            hint="build the model as the original was",
        )
