"""The text of a plan: strict JSON, read with bounds on all that could fill the memory.

A plan's file may come from anyone. Names in it are only ever compared with those of the model, and
numbers are positions and sizes; no text of it becomes a path, code or the name of an attribute.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fxprune.documents import DocumentKind
from fxprune.errors import PlanError, shown
from fxprune.inputs import InputSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST_FILE = 64 << 20
"""In bytes; the plan of a language model of 70 billion parameters has about 30 MB."""
_LARGEST_INPUT = 1 << 31

_KIND = DocumentKind(
    name="plan",
    version=1,
    keys=("format", "version", "digest", "made", "inputs", "groups", "slices", "shapes"),
    optional=("dropped",),
    error=PlanError,
    again="write it again with Plan.save",
    largest=LARGEST_FILE,
)
FORMAT, VERSION, load = _KIND.format, _KIND.version, _KIND.load
document_in, with_keys, malformed = _KIND.document, _KIND.with_keys, _KIND.malformed
mapping, sequence, text_in = _KIND.mapping, _KIND.sequence, _KIND.text_in
integer, integers = _KIND.integer, _KIND.integers


def dim(key: str) -> int:
    """The dim that a key tells."""
    if not re.fullmatch(r"0|[1-9][0-9]?", key):
        raise malformed(key, "a dim")
    return int(key)


# -- example inputs ------------------------------------------------------------------------------


def encoded(value: Any) -> Any:
    """A described input for JSON."""
    if isinstance(value, InputSpec):
        return {"tensor": {**asdict(value), "shape": list(value.shape)}}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [encoded(v) for v in value]}
    if isinstance(value, dict):
        return {"dict": {str(k): encoded(v) for k, v in value.items()}}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise PlanError(
        f"an input of type {type(value).__name__} cannot be kept in a plan",
        hint="pass tensors, numbers, strings, lists, tuples and dicts",
    )


def decoded(value: Any) -> Any:
    """The described input that `encoded` made JSON of."""
    if not isinstance(value, (dict, list)):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise malformed(value, "an input")
    ((kind, content),) = value.items()
    if kind == "tensor":
        return _tensor(with_keys(content, ("shape", "dtype", "low", "high")))
    if kind == "dict":
        return {key: decoded(item) for key, item in mapping(content).items()}
    if kind not in ("list", "tuple") or not isinstance(content, list):
        raise malformed(value, "an input")
    items = [decoded(item) for item in content]
    return tuple(items) if kind == "tuple" else items


def _tensor(content: Mapping[str, Any]) -> InputSpec:
    shape = integers(content["shape"])
    if math.prod(shape) > _LARGEST_INPUT or max(shape, default=0) > _LARGEST_INPUT:
        raise PlanError(
            f"the plan's input of shape {shown(list(shape))} is too large",
            why=f"an input of a plan has at most {_LARGEST_INPUT:,} elements",
            hint="make a plan for smaller example inputs",
        )
    low, high = integer(content["low"]), integer(content["high"])
    try:
        return InputSpec(shape, text_in(content["dtype"]), low, high)
    except ValueError as error:
        raise PlanError(f"a plan is malformed: {error}", hint=_KIND.again) from error
