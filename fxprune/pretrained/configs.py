"""Configurations of transformers: the numbers in them, and models built of them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn

from fxprune.fixers.by_name import tells_width

Field: TypeAlias = tuple[str | int, ...]
"""Where a number is: `("text_config", "hidden_size")`, `("hidden_sizes", 2)`."""
_OTHERS = re.compile(r"token|vocab|^max_|layers?$|^n_ctx$|^n_positions$|transformers_version|dtype")
"""Numbers that count no channels; only to save the time of trying them."""


def is_model(module: object) -> bool:
    """Whether a module is a `PreTrainedModel`."""
    return _derives(module, "transformers.modeling_utils", "PreTrainedModel")


def is_config(value: object) -> bool:
    """Whether a value is a configuration of transformers."""
    return _derives(value, "transformers.configuration_utils", "PreTrainedConfig")


def _derives(value: object, module: str, name: str) -> bool:
    """Whether a class of that name is among the bases: transformers is never imported for it."""
    return any(k.__module__ == module and k.__name__ == name for k in type(value).__mro__)


def fields(config: Any) -> dict[Field, int | None]:
    """The whole numbers of a configuration, and where there could be one but is None."""
    return dict(_fields_of(_items(config), ()))


def _items(config: Any) -> Any:
    """What a configuration has; and the width of a head, which some classes read if it is there."""
    own = vars(config)
    return own.items() if hasattr(config, "head_dim") else {**own, "head_dim": None}.items()


def _fields_of(items: Any, path: Field) -> Iterator[tuple[Field, int | None]]:
    for name, value in items:
        where = (*path, name)
        if isinstance(name, str) and (name.startswith("_") or _OTHERS.search(name)):
            continue
        if is_config(value):
            yield from _fields_of(_items(value), where)
        elif isinstance(value, (list, tuple)):
            yield from _fields_of(enumerate(value), where)
        elif type(value) is int and value > 1:
            yield where, value
        elif value is None and isinstance(name, str) and tells_width(name):
            yield where, None


def with_numbers(config: Any, numbers: Mapping[Field, int]) -> Any:
    """A copy of a configuration with other numbers."""
    changed = copy.deepcopy(config)
    for path, number in numbers.items():
        _put(changed, path, number)
    return changed


def _put(owner: Any, path: Field, value: Any) -> Any:
    """Set what is at a path; lists and tuples are made anew."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(first, int):
        new = list(owner)
        new[first] = _put(owner[first], rest, value)
        return type(owner)(new)
    setattr(owner, first, _put(getattr(owner, first, None), rest, value))
    return owner


def reread(config: Any) -> Any:
    """The configuration as it comes back from its file."""
    return type(config).from_dict(json.loads(config.to_json_string()))


def built(kind: Any, config: Any) -> nn.Module:
    """A model of a configuration, on the meta device."""
    from transformers import initialization  # noqa: PLC0415  # a model of it is there

    with torch.device("meta"), initialization.meta_device_safe_creation_ops():
        model: nn.Module = kind._from_config(copy.deepcopy(config))
    return model


def field_name(path: Field) -> str:
    """A field as code reads it.

    >>> field_name(("text_config", "hidden_sizes", 2))
    'text_config.hidden_sizes[2]'
    """
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
