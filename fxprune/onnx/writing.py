"""`export`: from a shrunk model to an ONNX file that computes the same."""

from __future__ import annotations

import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from torch import nn

from fxprune.errors import FxPruneError, InputError, VerificationError, first_line
from fxprune.files import put_in_place
from fxprune.module_trees import named_tensors
from fxprune.onnx.agreement import as_tensors, worst
from fxprune.onnx.calls import Call, Dynamic, Flat, Sizes, output_names
from fxprune.onnx.origin import Origin
from fxprune.onnx.runtime import Session, quiet
from fxprune.values import tensors

_ONE_FILE = (1 << 31) - (1 << 24)
"""How many bytes of weights fit in one file, which has at most 2 GiB, beside the graph."""


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes:
        path: the file.
        data: the file beside it that holds the weights, if they do not fit in one.
        inputs: names of the inputs.
        outputs: names of the outputs.
        size: bytes of both files.
        error: the largest difference of an output between ONNX Runtime and the model, relative to
            the largest value of that output.
        checked: the inputs that both ran on, in words.
    """

    path: Path
    data: Path | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    size: int
    error: float
    checked: tuple[str, ...]


def export(
    small: nn.Module,
    path: str | os.PathLike[str],
    example_inputs: Any = None,
    *,
    dynamic: Dynamic | None = None,
) -> Exported:
    """Write a model as an ONNX file, and prove that ONNX Runtime computes what the model computes.

    The file is checked by `onnx.checker`, and run on the example inputs, on negative ones and,
    where sizes are open, on larger ones. It appears whole or not at all; weights of 2 GB and more
    are in a second file beside it. The model is exported in eval mode, and is not changed.

    Args:
        small: what `fxprune.shrink` returned, of either kind, or any other module.
        path: the file to write.
        example_inputs: a tensor, a tuple of arguments, or a dict of keyword arguments; by default
            random ones of the shapes in `small.meta["fxprune"]`.
        dynamic: which sizes are left open, {dim: name} for all inputs or {input: {dim: name}},
            such as `{0: "batch", 2: "height", 3: "width"}`; `{}` for none. By default those that
            the ONNX file which the model was loaded from leaves open, and the batch.

    Returns:
        What was written. Inputs and outputs have the names of the ONNX file that the model was
        loaded from, and its metadata is kept; else those of forward's arguments and of the result's
        keys.

    Raises:
        InputError: example inputs are missing or do not fit; the model has no ONNX form, or not
            with these sizes open.
        VerificationError: ONNX Runtime computes something else than the model.
        FxPruneError: the file cannot be written.
    """
    target = Path(path)
    if not isinstance(small, nn.Module):
        raise InputError(f"a {type(small).__name__} cannot be exported", hint="pass a module")
    if any(tensor.is_meta for tensor in named_tensors(small).values()):
        raise InputError("a model on the meta device has no weights", hint="load them first")
    folder = target.resolve().parent
    if not folder.is_dir():
        raise FxPruneError(f"{path} cannot be written: the folder does not exist")
    call = Call.of(small, example_inputs)
    sizes = call.open_sizes(dynamic)
    pairs = zip(call.values, sizes, strict=True)
    if any(value.shape[0] == 1 for value, dims in pairs if 0 in dims):
        call = call.grown(sizes, lambda dim: dim == 0)  # export takes a one for a fixed size
    names = output_names(call.result(), call.origin)
    program = _program(call, names, sizes)
    _describe(program.model, call.origin)
    with tempfile.TemporaryDirectory(prefix=".fxprune-", dir=folder) as drafts:
        draft = Path(drafts) / "draft.onnx"
        data = _save(program.model, draft, target.stem)
        error, checked = _check(draft, call, names, sizes)
        size = sum(file.stat().st_size for file in Path(drafts).iterdir())
        if data is not None:  # its name is new, so an existing file at `path` keeps its own data
            data = data.replace(folder / data.name)
        put_in_place(draft, target)
    return Exported(target, data, call.names, names, size, error, checked)


def _program(call: Call, names: tuple[str, ...], sizes: Sizes) -> Any:
    """What torch's exporter makes of a call."""
    shapes = {"values": tuple(dict(dims) for dims in sizes)}
    try:
        with quiet(), torch.no_grad():
            return torch.onnx.export(
                Flat(call),
                call.values,
                dynamo=True,
                dynamic_shapes=shapes if any(sizes) else None,
                input_names=list(call.names),
                output_names=list(names),
                verbose=False,
            )
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        fixed = "static shape" in str(cause) or "specializ" in str(cause)
        told = sorted({name for dims in sizes for name in dims.values()})
        hint = f"the sizes {told} cannot all be left open: pass fewer in dynamic=, or {{}}"
        raise InputError(
            "the model cannot be exported to ONNX",
            why=_reason(cause),
            hint=hint if fixed else "mend what the reason tells; torch.export.export tells more",
        ) from error


def _reason(cause: BaseException) -> str:
    """What an exporter complains of, without its advice to open issues."""
    lines = [line.strip("- ") for line in str(cause).splitlines() if line.startswith("- ")]
    return f"{type(cause).__name__}: {lines[0] if lines else first_line(cause)}"


def _describe(model: onnx_ir.Model, origin: Origin | None) -> None:
    """Name weights as the model does, and say what the original file says.

    The exporter notes source lines with the paths of this machine at every node; they go.
    """
    graph = model.graph
    for value in list(graph.initializers.values()):
        name = str(value.name).removeprefix("model.")
        if name not in graph.initializers:
            value.name = name
    for node in graph:
        node.metadata_props.clear()
        for output in node.outputs:
            output.metadata_props.clear()
    if origin is not None:
        model.metadata_props.update(origin.metadata)
        model.doc_string = origin.doc or None
        model.domain = origin.domain or None
        model.model_version = origin.version or None
        graph.name = origin.name or graph.name


def _save(model: onnx_ir.Model, draft: Path, stem: str) -> Path | None:
    """Write a file, and if its weights do not fit in there, a second one, which is returned."""
    values = [value.const_value for value in model.graph.initializers.values()]
    if sum(value.nbytes for value in values if value is not None) <= _ONE_FILE:
        onnx_ir.save(model, draft)
        return None
    data = draft.with_name(f"{stem}-{secrets.token_hex(4)}.data")
    onnx_ir.save(model, draft, external_data=data.name)
    return data


def _check(
    draft: Path, call: Call, names: tuple[str, ...], sizes: Sizes
) -> tuple[float, tuple[str, ...]]:
    """Hold a file against the model; the largest relative error and what was compared on.

    Raises:
        VerificationError: the file is not valid, or computes something else.
        InputError: ONNX Runtime or the model does not run it.
    """
    try:
        onnx.checker.check_model(os.fspath(draft), full_check=True)
    except Exception as error:
        raise VerificationError(
            "the exported file is not valid ONNX",
            why=first_line(error),
            hint="report this: torch's exporter has written it",
        ) from error
    session = Session(draft)
    if (session.inputs, session.outputs) != (call.names, names):
        raise VerificationError(
            f"the exported file has the inputs {session.inputs} and outputs {session.outputs}",
            why=f"the model has {call.names} and {names}",
        )
    largest, checked = 0.0, []
    for what, other in call.variants(sizes):
        expected = [tensor.cpu() for tensor in tensors(other.result())]
        got = as_tensors(session(other.values))
        relative, wrong = worst(names, expected, got)
        if wrong:
            raise VerificationError(
                f"ONNX Runtime computes something else than the model: {wrong}",
                where=f"on {what}",
                hint="the model is as it was, no file was written; report this",
            )
        largest = max(largest, relative)
        checked.append(what)
    return largest, tuple(checked)
