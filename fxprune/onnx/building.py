"""A `torch.fx` graph of an ONNX graph, node by node, with the modules that onnx2torch makes."""

from __future__ import annotations

import keyword
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx2torch.node_converters.registry import get_converter
from onnx2torch.onnx_graph import OnnxGraph
from onnx2torch.onnx_node import OnnxNode
from onnx2torch.onnx_tensor import OnnxTensor
from torch import Tensor, fx, nn

from fxprune.errors import FxPruneError, InputError, first_line

Atom: TypeAlias = "int | fx.Node"
"""A size: a number, or a node that yields one."""
Numbers: TypeAlias = "Atom | tuple[Atom, ...]"
"""A tensor of integers that is made of sizes, as Python has it: one number, or a row of them."""
_MOST = 64
"""How many elements an integer tensor has at most to be read as sizes."""
_RANDOM = frozenset({"Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike"})
"""Operators whose outcome is another one every time."""
_WEIGHTS = frozenset({"MatMul", "Gemm", "Gather", "PRelu"})
"""Operators whose constant matrices are parameters; those of others are masks, positions ..."""


class UnsupportedError(Exception):
    """A node cannot be taken over, for this reason."""


@dataclass
class Builder:
    """What is known while a graph is built.

    Attributes:
        onnx: the ONNX graph, with inferred shapes and all constants as initializers.
        opsets: the version of the operators of each domain.
        batch: the size along dim 0 of the inputs if the file fixes it, else None.
        root: holds modules and tensors.
        graph: what is built.
        nodes: the node of each ONNX value that has one.
        numbers: those ONNX values that are made of sizes.
    """

    onnx: OnnxGraph
    opsets: Mapping[str, int]
    batch: int | None
    root: nn.Module = field(default_factory=nn.Module)
    graph: fx.Graph = field(default_factory=fx.Graph)
    nodes: dict[str, fx.Node] = field(default_factory=dict)
    numbers: dict[str, Numbers] = field(default_factory=dict)
    _tied: dict[str, nn.Parameter] = field(default_factory=dict)

    def build(self, operators: Mapping[str, Operator]) -> fx.GraphModule:
        """The graph of all nodes.

        Args:
            operators: what is built without onnx2torch, by the operator's name.

        Raises:
            InputError: an operator is not supported; names it and its node.
        """
        used: set[str] = set()
        for name in self.onnx.input_values:
            self.nodes[name] = self.graph.placeholder(unique(identifier(name), used))
        for node in self.onnx.nodes.values():
            try:
                if self._computed(node):
                    continue
                own = operators.get(node.operation_type) if node.domain in {"", "ai.onnx"} else None
                if own is None or not own(self, node):
                    self.convert(node)
            except FxPruneError:
                raise
            except Exception as error:
                raise _refusal(node, self.opsets.get(node.domain, 0), error) from error
        results = tuple(self.tensor(name) for name in self.onnx.output_values)
        self.graph.output(results[0] if len(results) == 1 else results)
        made = fx.GraphModule(self.root, self.graph)
        made.graph.eliminate_dead_code()
        made.delete_all_unused_submodules()
        made.recompile()
        return made

    def _computed(self, node: OnnxNode) -> bool:
        """Compute a node of which all inputs are constants, such as a size that a file fixes."""
        given = {name: self._array(name) for name in node.input_values if name}
        arrays = {name: array for name, array in given.items() if array is not None}
        if len(arrays) < len(given) or not given or node.operation_type in _RANDOM:
            return False
        inputs, outputs = (
            [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in names if name]
            for names in (given, node.output_values)
        )
        graph = onnx.helper.make_graph([node.proto], "node", inputs, outputs)
        opsets = [onnx.helper.make_opsetid(*entry) for entry in self.opsets.items()]
        model = onnx.helper.make_model(graph, opset_imports=opsets)
        results = ReferenceEvaluator(model).run(None, arrays)
        for value, array in zip(outputs, results, strict=True):
            self.onnx._initializers[value.name] = OnnxTensor.from_numpy(array, value.name)
        return True

    def _array(self, name: str) -> NDArray[Any] | None:
        """A value as an array if it is constant."""
        found = self.numbers.get(name)
        if found is None:
            value = self.constant(name)
            return None if value is None else value.numpy()
        atoms = found if isinstance(found, tuple) else (found,)
        known = [atom for atom in atoms if isinstance(atom, int)]
        if len(known) < len(atoms):
            return None
        return np.array(known if isinstance(found, tuple) else known[0], np.int64)

    def constant(self, name: str) -> Tensor | None:
        """The value of an initializer; None of anything else."""
        found = self.onnx.initializers.get(name)
        return None if found is None else found.to_torch()

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """The inferred shape of a value, None for an open size; None if its rank is not known."""
        if (constant := self.onnx.initializers.get(name)) is not None:
            return tuple(constant.proto.dims)
        info = self.onnx.value_info.get(name)
        if info is None or not info.type.tensor_type.HasField("shape"):
            return None
        dims = info.type.tensor_type.shape.dim
        return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)

    def sizes(self, name: str) -> Numbers | None:
        """A value as Python numbers if it is made of sizes and constants, else None."""
        if name in self.numbers:
            return self.numbers[name]
        value = self.constant(name)
        if value is None or value.dtype not in {torch.int32, torch.int64}:
            return None
        if value.dim() > 1 or value.numel() > _MOST:
            return None
        return tuple(value.tolist()) if value.dim() else int(value)

    def row(self, name: str) -> tuple[Atom, ...]:
        """A value as a row of sizes.

        Raises:
            UnsupportedError: it is computed of data.
        """
        found = self.sizes(name)
        if not isinstance(found, tuple):
            raise UnsupportedError(f"its input {name!r} is computed while it runs, not of sizes")
        return found

    def fixed(self, name: str) -> tuple[int, ...]:
        """A value as a row of constants.

        Raises:
            UnsupportedError: it is none.
        """
        found = self.row(name)
        if not all(isinstance(each, int) for each in found):
            raise UnsupportedError(f"its input {name!r} is not constant")
        return tuple(each for each in found if isinstance(each, int))

    def tensor(self, name: str, reader: str = "") -> fx.Node:
        """The node of a value, as a tensor, for an operator that reads it."""
        if name in self.nodes:
            return self.nodes[name]
        value = self.constant(name)
        numbers = self.sizes(name)
        if numbers is not None and (value is None or value.dtype == torch.int64):
            return self.call(torch.tensor, list(numbers) if isinstance(numbers, tuple) else numbers)
        if value is None:
            raise UnsupportedError(f"its input {name!r} is made by no node before it")
        return self._held(name, value, reader)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """A node that calls a function."""
        return self.graph.call_function(function, args, kwargs)

    def module(self, node: OnnxNode, module: nn.Module, *inputs: str) -> fx.Node:
        """A node that calls a module, which is named after its weight or its node."""
        self._tie(node, module)
        path = self._place(self._path_of(node), module)
        args = [self.tensor(name, node.operation_type) if name else None for name in inputs]
        while args and args[-1] is None:
            args.pop()
        return self.graph.call_module(path, tuple(args))

    def convert(self, node: OnnxNode) -> None:
        """Take a node over with the module that onnx2torch makes of it."""
        converter = get_converter(node.operation_type, self._version(node), node.domain)
        module, mapping = converter(node, self.onnx)
        found = self.module(node, module.eval(), *mapping.inputs)
        self.results(node, found)

    def results(self, node: OnnxNode, found: fx.Node) -> None:
        """Note what a node yields, one value or several."""
        names = [name for name in node.output_values if name]
        if len(node.output_values) == 1:
            self.nodes[names[0]] = found
            return
        for place, name in enumerate(node.output_values):
            if name:
                self.nodes[name] = self.call(operator.getitem, found, place)

    def _version(self, node: OnnxNode) -> int:
        """The newest version of an operator that onnx2torch has, if a newer one says the same here.

        Most new versions of operators add types of numbers only. What a node uses of a newer
        version must be in the older one: its attributes, and as many inputs.
        """
        version = self.opsets[node.domain]
        if not onnx.defs.has(node.operation_type, version, node.domain):
            return version
        schema = newest = onnx.defs.get_schema(node.operation_type, version, node.domain)
        while not _is_known(node, schema.since_version):
            before = schema.since_version - 1
            if not onnx.defs.has(node.operation_type, before, node.domain):
                return version
            schema = onnx.defs.get_schema(node.operation_type, before, node.domain)
        return int(schema.since_version) if _says_the_same(node, schema, newest) else version

    def _path_of(self, node: OnnxNode) -> str:
        """The path of a module: that of its weight, else the name of its node."""
        for name in node.input_values[:2]:
            if name in self.onnx.initializers and name.endswith(".weight"):
                return identifier_path(name.removesuffix(".weight"))
        return identifier(node.name or node.operation_type)

    def _place(self, path: str, module: nn.Module) -> str:
        """Put a module into the tree, at a path that is free."""
        *parents, last = path.split(".")
        place = self.root
        for k, part in enumerate(parents):
            child = getattr(place, part, None)
            if child is None:
                child = nn.Module()
                place.add_module(part, child)
            if type(child) is not nn.Module:  # a module of the network is there: go beside it
                parents, last = parents[:k], "_".join([*parents[k:], last])
                break
            place = child
        last = unique(last, set(dir(place)) | place._modules.keys())
        place.add_module(last, module)
        return ".".join([*parents, last])

    def _held(self, name: str, value: Tensor, reader: str) -> fx.Node:
        """A constant as a parameter or buffer. Vectors are held anew for each node that reads them.

        Exporters keep equal vectors once, such as the zeros that biases begin with, and tensors
        that are one would lose the same channels.
        """
        trained = (
            value.is_floating_point()
            and value.numel() > 1
            and (value.dim() == 1 or reader in _WEIGHTS)
        )
        kept = "bias" if name.endswith(".bias") else "weight" if trained else "value"
        holder = nn.Module()
        if trained:
            holder.register_parameter(kept, self.parameter(name, value))
        else:
            holder.register_buffer(kept, value)
        path = self._place(identifier_path(name.removesuffix(f".{kept}")), holder)
        found = self.graph.get_attr(f"{path}.{kept}")
        if value.dim() > 1:
            self.nodes[name] = found
        return found

    def parameter(self, name: str, value: Tensor) -> nn.Parameter:
        """A constant as a parameter: of a matrix always the same one, of a vector a new one."""
        if value.dim() < 2:
            return nn.Parameter(value)
        known = self._tied.setdefault(name, nn.Parameter(value))
        return known if torch.equal(known, value) else nn.Parameter(value)  # one may be transposed

    def _tie(self, node: OnnxNode, module: nn.Module) -> None:
        """Let modules of one matrix share one parameter."""
        weight = getattr(module, "weight", None)
        name = next((n for n in node.input_values[1:2] if n in self.onnx.initializers), None)
        if name is not None and isinstance(weight, nn.Parameter):
            module.weight = self.parameter(name, weight.detach())


Operator: TypeAlias = Callable[[Builder, OnnxNode], bool]
"""Builds a node; False leaves it to onnx2torch."""


def identifier(name: str) -> str:
    """A name that Python can have, like another one.

    >>> identifier("input.1"), identifier("537"), identifier("/layer1/Conv")
    ('input_1', '_537', 'layer1_Conv')
    """
    found = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "value"
    return f"_{found}" if found[0].isdigit() or keyword.iskeyword(found) else found


def identifier_path(name: str) -> str:
    """A path of modules that is like a name in an ONNX file.

    >>> identifier_path("layer1.0.conv1"), identifier_path("onnx::MatMul_12")
    ('layer1.0.conv1', 'onnx_MatMul_12')
    """
    parts = [re.sub(r"\W+", "_", part, flags=re.ASCII).strip("_") for part in name.split(".")]
    return ".".join(filter(None, parts)) or "value"


def unique(name: str, used: set[str]) -> str:
    """A name that is not used yet, which from now on it is."""
    found, number = name, 1
    while found in used:
        number += 1
        found = f"{name}_{number}"
    used.add(found)
    return found


def _is_known(node: OnnxNode, version: int) -> bool:
    try:
        get_converter(node.operation_type, version, node.domain)
    except NotImplementedError:
        return False
    return True


def _says_the_same(node: OnnxNode, older: Any, newest: Any) -> bool:
    known = older.attributes
    return len(node.input_values) <= older.max_input and all(
        name in known or _is_default(value, newest.attributes.get(name))
        for name, value in node.attributes.items()
    )


def _is_default(value: Any, attribute: Any) -> bool:
    if attribute is None:
        return False
    default = onnx.helper.get_attribute_value(attribute.default_value)
    return bool((default.decode() if isinstance(default, bytes) else default) == value)


def _refusal(node: OnnxNode, opset: int, error: Exception) -> InputError:
    if isinstance(error, UnsupportedError):
        why = str(error)
    elif isinstance(error, NotImplementedError) and "OperationDescription" in str(error):
        domain = node.domain or "ai.onnx"
        why = f"onnx2torch does not have it for opset {opset} of the domain {domain!r}"
    else:
        why = f"onnx2torch: {first_line(error)}"
    return InputError(
        f"the ONNX operator {node.operation_type} is not supported here",
        where=f"node {node.name or node.unique_name!r}, which makes {list(node.output_values)}",
        why=why,
        hint="export the network again with another opset or simplified (onnxsim), or shrink the"
        " PyTorch model that it was made of, and export that",
    )
