"""An interpreter that calls functions as the generated code of a graph does."""

from __future__ import annotations

from typing import Any

from torch import fx
from torch.fx.immutable_collections import immutable_dict, immutable_list


class Interpreter(fx.Interpreter):
    """The stock one hands on a node's own lists, which a user's function may want to change."""

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[Any, Any]:
        """The arguments of a node, with lists and dicts of their own."""
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        return tuple(map(_own, args)), {name: _own(value) for name, value in kwargs.items()}


def _own(value: Any) -> Any:
    kind = type(value)
    if kind is immutable_list:
        return [_own(item) for item in value]
    if kind is immutable_dict:
        return {key: _own(item) for key, item in value.items()}
    return tuple(map(_own, value)) if kind is tuple else value
