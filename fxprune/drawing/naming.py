"""Short words for operators and modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.rules.place import module_path, target_name

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from torch import fx, nn

_SILENT = frozenset(
    (
        *("getitem", "view", "reshape", "contiguous", "transpose", "permute", "movedim", "Permute"),
        *("unsqueeze", "squeeze", "unflatten", "expand", "select", "_unsafe_view"),
        *("to", "_to_copy", "type_as", "float", "half", "clone", "detach", "alias"),
        *("dropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout"),
        *("stochastic_depth", "StochasticDepth", "Identity", "lift_fresh_copy"),
    )
)
"""What moves data or does nothing in eval mode."""
_IN_PLACE = frozenset({"iadd", "isub", "imul", "itruediv", "imatmul"})


def is_silent(node: fx.Node, model: nn.Module) -> bool:
    """Whether an operator only moves data, or makes a container of it."""
    if isinstance(node.target, type):
        return True
    if operator_name(node, model) not in _SILENT:
        return False
    return node.op != "call_module" or next(_module(model, node).parameters(), None) is None


def operator_name(node: fx.Node, model: nn.Module) -> str:
    """What a node calls: the class of a module, or the name of a function or method."""
    if node.op == "call_module":
        return class_name(model, str(node.target), node)
    packet = getattr(node.target, "overloadpacket", node.target)
    name = target_name(packet).rpartition(".")[2]
    if name in _IN_PLACE:
        return name[1:]
    return name if name.startswith("_") else name.removesuffix("_")


def _module(model: nn.Module, node: fx.Node) -> nn.Module:
    return model.get_submodule(str(node.target))


def class_name(model: nn.Module, path: str, node: fx.Node) -> str:
    """The class of a module by its path, as a node of it or the model knows; else empty."""
    stack = node.meta.get("nn_module_stack") or {}
    kind = next((kind for name, kind in stack.values() if name == path), "")
    if kind:  # the modules of an exported program are no more than containers
        return str(getattr(kind, "__name__", kind)).rpartition(".")[2]
    try:
        return type(model.get_submodule(path)).__name__
    except AttributeError:
        return ""


def _is_telling(node: fx.Node, model: nn.Module) -> bool:
    """Whether an operator says more than that data was moved or cut."""
    return not is_silent(node, model) and operator_name(node, model) != "slice"


def operators(
    model: nn.Module, ops: Sequence[fx.Node], containers: Container[str], heavy: Container[str]
) -> list[str]:
    """What some operators compute: the class of a module that calls no other, else their names.

    Those that multiply and add come first.
    """
    words: dict[str, bool] = {}
    for node in [op for op in ops if _is_telling(op, model)] or ops:
        path = module_path(node)
        is_module = node.op != "call_module" and path not in containers
        name = class_name(model, path, node) if is_module else ""
        word = name or operator_name(node, model)
        words[word] = words.get(word, False) or node.name in heavy
    return sorted(words, key=lambda word: not words[word])
