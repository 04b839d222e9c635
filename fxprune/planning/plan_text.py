"""The text of a plan: strict JSON, read with bounds on all that could fill the memory.

A plan's file may come from anyone. Names in it are only ever compared with those of the model, and
numbers are positions and sizes; no text of it becomes a path, code or the name of an attribute.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

from fxprune.errors import PlanError, first_line, shown
from fxprune.inputs import InputSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FORMAT = "fxprune plan"
VERSION = 1
LARGEST_FILE = 64 << 20
"""In bytes; the plan of a language model of 70 billion parameters has about 30 MB."""
_MOST_LISTS = 1 << 20
_DEEPEST = 64
_LARGEST_INPUT = 1 << 31
_KEYS = ("format", "version", "digest", "made", "inputs", "groups", "slices", "shapes")
_OPTIONAL = ("dropped",)
_AGAIN = "write it again with Plan.save"


def document_in(text: str) -> dict[str, Any]:
    """The JSON object in a plan's text: of this format and version, with its keys.

    Raises:
        PlanError: it is none.
    """
    document = _json(text)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise PlanError(f'not a plan: the text has no "format": "{FORMAT}"')
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        raise PlanError(
            f"plan version {shown(version)} is not {VERSION}",
            hint="make the plan again with this version of fxprune",
        )
    with_keys(document, _KEYS, _OPTIONAL)
    return document


def _json(text: str) -> Any:
    lists = text.count("[") + text.count("{")
    if len(text) > LARGEST_FILE or lists > _MOST_LISTS:
        raise PlanError(
            f"a plan is too large: {len(text):,} characters with {lists:,} lists and objects",
            why=f"at most {LARGEST_FILE:,} and {_MOST_LISTS:,} are read",
        )
    try:
        document = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise PlanError(f"a plan is not valid JSON: {first_line(error)}", hint=_AGAIN) from error
    if _is_deep(document):
        raise PlanError(f"a plan is not valid: it is nested more than {_DEEPEST} deep", hint=_AGAIN)
    return document


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {shown(key)} occurs twice in one object")
        result[key] = value
    return result


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:60]} is too large")
    return value


def _is_deep(value: Any) -> bool:
    """Whether a value is nested too deep to be read by recursion."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            item
            for parent in level
            if isinstance(parent, (dict, list))
            for item in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(item, (dict, list))
        ]
    return bool(level)


# -- parts ---------------------------------------------------------------------------------------


def with_keys(value: Any, keys: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """An object that has exactly these keys, and perhaps optional ones."""
    content = mapping(value)
    for key in keys:
        if key not in content:
            raise PlanError(f"a plan is malformed: {key!r} is missing", hint=_AGAIN)
    for key in content:
        if key not in (*keys, *optional):
            raise PlanError(
                f"a plan is malformed: {shown(key)} is not known",
                why=f"known are {', '.join((*keys, *optional))}",
                hint=_AGAIN,
            )
    return content


def mapping(value: Any) -> dict[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        raise malformed(value, "an object")
    return value


def malformed(value: Any, wanted: str) -> PlanError:
    """The error for a value of another kind."""
    return PlanError(f"a plan is malformed: {shown(value)} is not {wanted}", hint=_AGAIN)


def text_in(value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise malformed(value, "a string")
    return value


def integer(value: Any) -> int:
    """An integer that fits into 64 bits."""
    if not isinstance(value, int) or isinstance(value, bool) or not -1 << 63 <= value < 1 << 63:
        raise malformed(value, "an integer of 64 bits")
    return value


def sequence(value: Any) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise malformed(value, "a list")
    return value


def integers(value: Any) -> tuple[int, ...]:
    """A list of positions or sizes."""
    return tuple(map(integer, sequence(value)))


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
        raise PlanError(f"a plan is malformed: {error}", hint=_AGAIN) from error


# -- writing -------------------------------------------------------------------------------------


def compact_lists(text: str) -> str:
    """Lists of numbers on one line, so that a plan can be read and diffed."""
    lines: list[str] = []
    joining = False
    for line in text.split("\n"):
        stripped = line.strip()
        if joining:
            joining = stripped not in ("]", "],")
            lines[-1] += stripped + (" " if joining and stripped.endswith(",") else "")
        elif stripped.endswith("[") and not stripped.startswith(("{", '"inputs"')):
            lines.append(line)
            joining = True
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"
