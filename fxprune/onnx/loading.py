"""`load`: from an ONNX file to a graph module that can be shrunk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import torch
from onnx.helper import tensor_dtype_to_np_dtype
from onnx2torch.onnx_graph import OnnxGraph
from onnx_ir.passes.common import (
    InlinePass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
)
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
from onnxscript import optimizer
from torch import fx

from fxprune.errors import InputError, VerificationError, in_one_line
from fxprune.files import regular_file
from fxprune.inputs import InputSpec, materialize
from fxprune.onnx.agreement import as_tensors, worst
from fxprune.onnx.building import Builder, identifier
from fxprune.onnx.calls import Call
from fxprune.onnx.operators import OPERATORS
from fxprune.onnx.origin import KEY, Origin
from fxprune.onnx.runtime import Session, feed_of, quiet
from fxprune.values import tensors

_LARGEST = 1 << 28
"""How many bytes a constant has at most to be computed in advance."""
_BATCH = 2
"""The batch of inputs that are made where the file leaves it open."""


def load(path: str | os.PathLike[str], example_inputs: Any = None) -> fx.GraphModule:
    """Read a network from an ONNX file, as a graph module that `fxprune.plan` and `shrink` take.

    onnx2torch makes the modules. The graph is held against ONNX Runtime before it is returned, on
    inputs like the example, negative ones and, where the file leaves sizes open, larger ones. The
    names of inputs and outputs and the file's metadata are kept in `model.meta["fxprune.onnx"]`,
    for `fxprune.onnx.export` (see `Origin`). Where the file fixes the batch, reshapes take that of
    their input all the same, so that it may be open on the way out.

    Args:
        path: an ONNX file of floats.
        example_inputs: a tensor, a tuple, or a dict by the names of the file's inputs. By default
            random ones of the shapes that the file declares, with a batch of 2 where it is open.

    Returns:
        The network, in eval mode, with an argument for each input of the file. Modules have the
        names of their weights in the file, or else those of its nodes.

    Raises:
        InputError: the file cannot be read; an operator is not supported (names it and its node);
            or example inputs are needed, because sizes beside the batch are open, or do not fit.
        VerificationError: the graph computes something else than ONNX Runtime does.
    """
    model = _read(Path(path))
    session = Session(path)
    origin = _origin(model, session, example_inputs)
    values = _values(origin, example_inputs)
    made = _built(model, origin)
    made.meta[KEY] = origin
    sizes = tuple(origin.dynamic.get(name, {}) for name in origin.inputs)
    for what, call in Call.of(made, values).variants(sizes):
        _check(session, call, what, of_example=what in {"the example", "negative inputs"})
    return made


def declared_inputs(path: str | os.PathLike[str]) -> tuple[torch.Tensor, ...]:
    """Random inputs of the shapes that an ONNX file declares, as `load` makes them.

    Raises:
        InputError: the file cannot be read, or it leaves sizes beside the batch open.
    """
    return materialize(_origin(_read(Path(path)), Session(path), None).specs, seed=0)


def _read(path: Path) -> onnx.ModelProto:
    try:
        regular_file(path)
        model = onnx.load(os.fspath(path))
        onnx.checker.check_model(os.fspath(path))
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as an ONNX file: {in_one_line(error)}",
            hint="pass a whole ONNX file, with the data files that it names beside it",
        ) from error
    return model


def _origin(model: onnx.ModelProto, session: Session, example_inputs: Any) -> Origin:
    """What a file says beside its network, with the shapes of the inputs that it is run on."""
    weights = {initializer.name for initializer in model.graph.initializer}
    declared = [value for value in model.graph.input if value.name not in weights]
    dynamic: dict[str, dict[int, str]] = {}
    for value in declared:
        for dim, size in enumerate(value.type.tensor_type.shape.dim):
            if not size.HasField("dim_value"):
                name = identifier(size.dim_param) if size.dim_param else ""
                fallback = "batch" if dim == 0 else f"{identifier(value.name)}_{dim}"
                dynamic.setdefault(value.name, {})[dim] = name or fallback
    if example_inputs is None:
        specs = tuple(_declared(value, dynamic.get(value.name, {})) for value in declared)
    else:
        feed = feed_of(example_inputs, session.inputs)
        specs = tuple(InputSpec.of(torch.from_numpy(feed[value.name])) for value in declared)
    return Origin(
        inputs=tuple(value.name for value in declared),
        outputs=session.outputs,
        dynamic=dynamic,
        specs=specs,
        metadata={entry.key: entry.value for entry in model.metadata_props},
        name=model.graph.name,
        doc=model.doc_string,
        domain=model.domain,
        version=model.model_version,
    )


def _declared(value: onnx.ValueInfoProto, open_sizes: Mapping[int, str]) -> InputSpec:
    """The description of random inputs as a file declares them.

    Raises:
        InputError: a size that is not the batch is open, or the type is not one of tensors.
    """
    tensor = value.type.tensor_type
    hint = "pass example_inputs (on the command line --input), one tensor for each input"
    if not tensor.HasField("shape") or set(open_sizes) - {0}:
        told = [open_sizes.get(k, each.dim_value) for k, each in enumerate(tensor.shape.dim)]
        raise InputError(
            f"the sizes of input {value.name!r} are not known",
            why=f"the file leaves them open: {told}",
            hint=hint,
        )
    try:
        dtype = str(torch.from_numpy(np.empty(0, tensor_dtype_to_np_dtype(tensor.elem_type))).dtype)
    except Exception as error:
        raise InputError(
            f"input {value.name!r} is of a type that torch does not have",
            why=in_one_line(error),
            hint="export the network with another type of inputs",
        ) from error
    shape = tuple(
        _BATCH if dim in open_sizes else size.dim_value for dim, size in enumerate(tensor.shape.dim)
    )
    return InputSpec(shape, dtype.removeprefix("torch."))


def _values(origin: Origin, example_inputs: Any) -> tuple[torch.Tensor, ...]:
    if example_inputs is None:
        return materialize(origin.specs, seed=0)
    feed = feed_of(example_inputs, origin.inputs)
    return tuple(torch.from_numpy(feed[name]) for name in origin.inputs)


def _built(model: onnx.ModelProto, origin: Origin) -> fx.GraphModule:
    """The graph of a file, with functions inlined and all that is constant computed."""
    try:
        with quiet():
            ir = onnx_ir.from_proto(model)
            for each in (
                InlinePass(),
                LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            ):
                each(ir)
            optimizer.fold_constants(ir, input_size_limit=_LARGEST, output_size_limit=_LARGEST)
            LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(ir)
            RemoveUnusedNodesPass()(ir)
            plain = _with_shapes(onnx_ir.to_proto(ir))
    except Exception as error:
        raise InputError(
            "the ONNX file cannot be prepared",
            why=in_one_line(error),
            hint="files of more than 2 GB are not supported",
        ) from error
    weights = {initializer.name for initializer in plain.graph.initializer}
    inputs = [value for value in plain.graph.input if value.name not in weights]
    del plain.graph.input[:]
    plain.graph.input.extend(inputs)
    opsets = {entry.domain: entry.version for entry in plain.opset_import}
    batches = {spec.shape[0] for spec in origin.specs if spec.shape}
    is_open = any(0 in dims for dims in origin.dynamic.values())
    batch = batches.pop() if len(batches) == 1 and not is_open else None
    return Builder(OnnxGraph(plain.graph), opsets, batch).build(OPERATORS).eval()


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes of its values, as far as they are known.

    ONNX Runtime follows sizes through computed shapes, but not through every operator.
    """
    try:
        found = SymbolicShapeInference.infer_shapes(model, auto_merge=True)
    except Exception:  # noqa: BLE001 - it asserts, and asks for attributes that are not there
        found = None
    return found or onnx.shape_inference.infer_shapes(model, data_prop=True)


def _check(session: Session, call: Call, what: str, *, of_example: bool) -> None:
    """Hold a graph against ONNX Runtime; other sizes only if that takes them.

    Raises:
        InputError: the graph does not run, or ONNX Runtime does not run on the example.
        VerificationError: they differ.
    """
    try:
        got = as_tensors(session(call.values))
    except InputError:
        if of_example:
            raise
        return
    _, wrong = worst(session.outputs, tensors(call.result()), got)
    if wrong:
        raise VerificationError(
            f"ONNX Runtime computes something else than the graph: {wrong}",
            where=f"on {what}",
            why="a module of onnx2torch does not do what the operator says",
            hint="export the network again with another opset, or shrink the PyTorch model that it"
            " was made of",
        )
