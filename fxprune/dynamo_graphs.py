"""Graphs of Dynamo: which inputs are the model's parameters and buffers, and by which names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from fxprune.differences import difference
from fxprune.errors import InputError, PlanError, VerificationError
from fxprune.module_trees import attribute_at, clone_tree, named_tensors
from fxprune.passes.erasing import family
from fxprune.passes.repair import writes
from fxprune.planning import Plan
from fxprune.planning.transferring import state_slices
from fxprune.stepping import seed
from fxprune.values import copied, tensors

if TYPE_CHECKING:
    from fxprune.planning import Layout

_CHAIN = r"(?P<modules>(?:\._modules\['[^']+'\])*)"
_STATE = re.compile(rf"(?P<root>.+?){_CHAIN}\.(?:_parameters|_buffers)\['(?P<leaf>[^']+)'\]")
_ATTRIBUTE = re.compile(rf"(?P<root>.+?){_CHAIN}\.(?P<leaf>\w+)")
_MODULE_ROOT = re.compile(r"^\w\[[^\]]*\]\.?")
_MODULE = re.compile(r"_modules\['([^']+)'\]")
_METADATA = ("stack_trace", "nn_module_stack")
_FIRST = "shrink the model first, with fxprune.shrink, and compile the result"
_ROUNDING = 1e-6
_NOTES = ("_param_name_to_source", "_source_to_user_stacks", "compile_subgraph_reason")
"""What Dynamo notes on a graph module, for backends."""


@dataclass(frozen=True, eq=False)
class DynamoGraph:
    """A graph of Dynamo with the names that its tensors have in the user's module.

    Parameters and buffers are inputs of it; or attributes, if Dynamo is to prepare for freezing.

    Attributes:
        graph_module: the graph.
        values: of its inputs, parameters and buffers, by node.
        state: node -> names of the parameter or buffer that it is, in the module; more than one if
            it is tied.
    """

    graph_module: fx.GraphModule
    values: Mapping[str, Any]
    state: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, graph_module: fx.GraphModule, inputs: Sequence[Any]) -> DynamoGraph:
        """Read the names off what Dynamo notes about inputs and attributes.

        Raises:
            InputError: parameters of several modules are in it.
        """
        values = dict(zip([n.name for n in _inputs(graph_module)], inputs, strict=True))
        noted = getattr(graph_module, "_param_name_to_source", None) or {}
        sources = {
            node.name: _told(getattr(node, "_dynamo_source", None))
            for node in _inputs(graph_module)
        }
        for node in graph_module.graph.find_nodes(op="get_attr"):
            value = attribute_at(graph_module, str(node.target))
            if isinstance(value, torch.Tensor) and node.target in noted:
                values[node.name], sources[node.name] = value, _told(noted[node.target])
        found = [_STATE.fullmatch(source) for source in sources.values()]
        roots = sorted({match["root"] for match in found if match is not None})
        if len(roots) > 1:
            raise InputError(
                f"the graph has parameters or buffers of {len(roots)} modules: {', '.join(roots)}",
                why="a plan is for one",
                hint="compile the module that the plan was made for, not what calls it",
            )
        twins = _twins()
        state = {}
        for name, source in sources.items():
            aliases = [_name(alias, roots) for alias in (source, *twins.get(source, ()))]
            if isinstance(values[name], torch.Tensor) and any(aliases):
                state[name] = tuple(dict.fromkeys(filter(None, aliases)))
        return cls(graph_module, values, state)

    def is_concerned(self, plan: Plan | Mapping[str, Any]) -> bool:
        """Whether the graph has tensors of which a plan removes positions.

        Raises:
            PlanError: the plan is for another model, or the graph is only a part of the model.
        """
        if not self.state:
            return False
        if not isinstance(plan, Plan):
            self._refuse_part("ratios and channels are for a whole model")
            return True
        if plan.dropped:
            raise PlanError(
                f"the plan drops {', '.join(plan.dropped)}, which this backend cannot do",
                why="Dynamo's graph does not tell where blocks begin and end",
                hint=_FIRST,
            )
        self._check_model(plan)
        there = {name for names in self.state.values() for name in names}
        removed = state_slices(plan)
        missing = [name for name in removed if name not in there]
        if missing and len(missing) < len(removed):
            self._refuse_part("")
            raise _part(f"{missing[0]} is not in this graph, and {min(there)} is")
        return bool(removed) and not missing

    def _check_model(self, plan: Plan) -> None:
        """Every parameter is one of the plan's model; of buffers, a plan need not know all."""
        for node, names in self.state.items():
            value = self.values[node]
            known = [name for name in names if name in plan.shapes]
            shapes = {tuple(plan.shapes[name]) for name in known} - {tuple(value.shape)}
            if shapes or (not known and isinstance(value, nn.Parameter)):
                planned = f"in the plan {list(shapes.pop())}" if shapes else "the plan has none"
                raise PlanError(
                    "the plan belongs to another model",
                    why=f"{names[0]} has shape {list(value.shape)}, {planned}",
                    hint="compile the module that the plan was made for, not what calls it",
                )

    def _refuse_part(self, why: str) -> None:
        reason: Any = getattr(self.graph_module, "compile_subgraph_reason", None)
        if getattr(reason, "graph_break", False):
            raise _part("; ".join(filter(None, (why, f"the graph breaks: {reason.reason}"))))

    def as_module(self) -> tuple[fx.GraphModule, tuple[Any, ...]]:
        """The graph with parameters and buffers as attributes, under the names of the user's.

        Returns:
            The graph, which shares its tensors with the model; and the values of its inputs.

        Raises:
            InputError: it has graphs inside.
        """
        self._refuse_parts_inside()
        graph, root = fx.Graph(), nn.Module()
        new: dict[fx.Node, fx.Node] = {}
        for node in self.graph_module.graph.nodes:
            if names := self.state.get(node.name):
                new[node] = graph.create_node("get_attr", names[0], name=node.name)
            else:
                new[node] = graph.node_copy(node, lambda n: new[n])
            new[node].meta = _readable(node.meta)
            if new[node].op == "call_module" or (new[node].op == "get_attr" and not names):
                top = str(node.target).partition(".")[0]
                setattr(root, top, getattr(self.graph_module, top))
        for name, names in self.state.items():
            _register(root, names[0], self.values[name])
        module = fx.GraphModule(root, graph, "DynamoGraph")
        for name, names in self.state.items():
            for alias in names[1:]:
                _register(module, alias, self.values[name])
        return module, tuple(_plain(self.values[node.name]) for node in _inputs(module))

    def _refuse_parts_inside(self) -> None:
        for node in self.graph_module.graph.find_nodes(op="get_attr"):
            if isinstance(attribute_at(self.graph_module, str(node.target)), nn.Module):
                raise InputError(
                    f"a part of the model, {node.target}, is a graph of its own for Dynamo",
                    why="as activation checkpoints and control flow are",
                    hint=_FIRST,
                )

    def with_inputs(self, small: fx.GraphModule, layout: Layout) -> fx.GraphModule:
        """A shrunk graph that takes what Dynamo's graph takes, and slices it in every call."""
        graph = fx.Graph()
        own = {node.name: node for node in self.graph_module.graph.nodes}
        given = {node.name: _input_copied(graph, node) for node in _inputs(self.graph_module)}
        names = {each: name for name, names in self.state.items() for each in names}
        attributes: dict[str, Any] = {}
        taken: dict[str, fx.Node] = {}
        new: dict[fx.Node, fx.Node] = {}
        for node in small.graph.nodes:
            target = str(node.target)
            if node.op == "placeholder":
                new[node] = given[node.name]
            elif node.op == "get_attr" and target in names:
                name = names[target]
                if name not in given:
                    given[name] = graph.node_copy(own[name])
                    attributes[str(own[name].target)] = self.values[name]
                if name not in taken:
                    kept = _kept(layout, target)
                    taken[name] = _slice(graph, given[name], kept, self.values[name])
                new[node] = taken[name]
            elif node.op == "output":
                self._write_back(small, layout, new)
                new[node] = graph.output(fx.map_arg(node.args[0], lambda n: new[n]))
            elif node.op == "get_attr":
                new[node] = _constant(graph, attribute_at(small, target))
            else:
                new[node] = graph.node_copy(node, lambda n: new[n])
                if node.op == "call_module":
                    attributes[target] = attribute_at(small, target)
        return self._noted(fx.GraphModule(attributes, graph, type(self.graph_module).__name__))

    def _noted(self, result: fx.GraphModule) -> fx.GraphModule:
        """A graph module with what backends look for on those of Dynamo."""
        result.meta = dict(self.graph_module.meta)
        for note in _NOTES:
            if hasattr(self.graph_module, note):
                setattr(result, note, getattr(self.graph_module, note))
        return result

    def check(self, pruned: fx.GraphModule, small: fx.GraphModule, layout: Layout) -> None:
        """Run both on the same values: outputs are the same, and so is what buffers hold then.

        Raises:
            VerificationError: they are not.
        """
        twin = clone_tree(small, lambda tensor: tensor.detach().clone())
        clones: dict[int, torch.Tensor] = {}
        result = clone_tree(pruned, lambda t: clones.setdefault(id(t), t.detach().clone()))
        given = {name: copied(_plain(value)) for name, value in self.values.items()}
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            seed()
            expected = tensors(twin(*(copied(given[node.name]) for node in _inputs(twin))))
            seed()
            got = tensors(result(*(given[node.name] for node in _inputs(result))))
        state = named_tensors(twin)
        for name, (first, *_) in self.state.items():
            if first in state:
                after = clones.get(id(self.values[name]), given[name])
                expected.append(state[first])
                got.append(_taken(after, _kept(layout, first)))
        pairs = list(zip(expected, got, strict=True))
        same = [a.shape == b.shape and difference(a, b)[1] <= _ROUNDING for a, b in pairs]
        if not all(same):
            raise VerificationError(
                "the pruned graph does not compute what the shrunk model computes",
                why=f"{same.count(False)} of {len(same)} outputs, parameters and buffers differ",
                hint="compile the result of fxprune.shrink instead, and report this",
            )

    def _write_back(
        self, small: fx.GraphModule, layout: Layout, new: Mapping[fx.Node, fx.Node]
    ) -> None:
        """Let buffers take over what was written into what was taken of them."""
        written = [n for n in small.graph.find_nodes(op="get_attr") if _may_be_written(n, small)]
        for taken, node in {new[node]: node for node in written}.items():
            if taken.target is not torch.index_select:
                continue
            kept = _kept(layout, str(node.target))
            if len(kept) > 1 or isinstance(attribute_at(small, str(node.target)), nn.Parameter):
                raise PlanError(
                    f"forward writes to {node.target}, of which the plan removes positions",
                    hint=_FIRST,
                )
            source, dim, index = taken.args
            taken.graph.call_method("index_copy_", (source, dim, index, taken))


def _told(source: Any) -> str:
    """Where Dynamo found a tensor, in its words."""
    return str(getattr(source, "name", ""))


def _inputs(graph_module: fx.GraphModule) -> list[fx.Node]:
    return list(graph_module.graph.find_nodes(op="placeholder"))


def _name(source: str, roots: Sequence[str]) -> str:
    """The name of a tensor in its module; empty if it is no part of the module."""
    match = _STATE.fullmatch(source) or _ATTRIBUTE.fullmatch(source)
    if match is None or match["root"] not in roots:
        return ""
    return ".".join([*_MODULE.findall(match["modules"]), match["leaf"]])


def _twins() -> dict[str, list[str]]:
    """Of tensors that occur twice in the model, the other source of each."""
    context = torch._guards.TracingContext.try_get()
    found: dict[str, list[str]] = {}
    for guard in context.guards_context.dynamo_guards if context is not None else ():
        create: Any = guard.create_fn
        if getattr(getattr(create, "func", None), "__name__", "") == "DUPLICATE_INPUT":
            found.setdefault(create.keywords["source_b"].name, []).append(guard.name)
    return found


def _part(why: str) -> PlanError:
    return PlanError(
        "the model is compiled in parts, and the plan concerns more than one",
        why=why,
        hint=f"pass fullgraph=True to torch.compile and mend what it tells, or {_FIRST}",
    )


def _readable(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What is for people, with the names of modules as the user has them."""
    found = {key: meta[key] for key in _METADATA if key in meta}
    if found.get("nn_module_stack"):
        found["nn_module_stack"] = {
            key: (_MODULE_ROOT.sub("", path), kind)
            for key, (path, kind) in found["nn_module_stack"].items()
        }
    return found


def _register(root: nn.Module, name: str, tensor: torch.Tensor) -> None:
    *path, leaf = name.split(".")
    owner = root
    for part in path:
        if part not in owner._modules:
            owner.add_module(part, nn.Module())
        owner = owner.get_submodule(part)
    if isinstance(tensor, nn.Parameter):
        owner.register_parameter(leaf, tensor)
    else:
        owner.register_buffer(leaf, tensor)


def _plain(value: Any) -> Any:
    """A symbolic size as the number that it has at present; no guard comes of that."""
    return value.node.hint if isinstance(value, (torch.SymInt, torch.SymFloat)) else value


def _input_copied(graph: fx.Graph, node: fx.Node) -> fx.Node:
    copy: Any = graph.node_copy(node)
    if hasattr(node, "_dynamo_source"):
        copy._dynamo_source = node._dynamo_source
    return copy  # type: ignore[no-any-return]


def _kept(layout: Layout, name: str) -> dict[int, list[int]]:
    """For each dim of a tensor that loses positions, those that stay."""
    axes = enumerate(layout.deps.trace.axes[name])
    kept = {dim: layout.kept(axis) for dim, axis in axes}
    return {dim: positions.tolist() for dim, positions in kept.items() if positions is not None}


def _slice(
    graph: fx.Graph, node: fx.Node, kept: Mapping[int, list[int]], tensor: torch.Tensor
) -> fx.Node:
    for dim, positions in kept.items():
        index = _constant(graph, torch.tensor(positions, device=tensor.device))
        node = graph.call_function(torch.index_select, (node, dim, index))
    return node


def _constant(graph: fx.Graph, tensor: torch.Tensor) -> fx.Node:
    """A tensor as a node: of an attribute, backends want to know where in the model it is."""
    options: dict[str, Any] = {"dtype": tensor.dtype, "device": tensor.device}
    return graph.call_function(torch.tensor, (tensor.tolist(),), options)


def _taken(tensor: torch.Tensor, kept: Mapping[int, list[int]]) -> torch.Tensor:
    for dim, positions in kept.items():
        tensor = tensor.index_select(dim, torch.tensor(positions, device=tensor.device))
    return tensor


def _may_be_written(node: fx.Node, graph_module: fx.GraphModule) -> bool:
    """Whether what a node reads may be changed: in place, or as running statistics."""
    is_buffer = not isinstance(attribute_at(graph_module, str(node.target)), nn.Parameter)
    shared = family(node, graph_module)
    users = [(user, each) for each in shared for user in each.users]
    return any(
        writes(user, each, graph_module) or (is_buffer and _collects(user)) for user, each in users
    )


def _collects(node: fx.Node) -> bool:
    """Whether a node is a norm that may update running statistics."""
    name = str(getattr(node.target, "__name__", node.target))
    is_norm = "batch_norm" in name or "instance_norm" in name
    return is_norm and any(leaf is True for leaf in pytree.tree_leaves((node.args, node.kwargs)))
