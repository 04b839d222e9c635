"""Mutants that no test can notice, each with the reason: they compute the same.

Only what is proven belongs here: a mutant that makes something slower, that words a message or
picks another of several right answers does what the code promises. What merely lacks a test does
not.
"""

from __future__ import annotations

from mutation.mutants import Mutant

_EQUALLY_LONG = "both are equally long by construction, and strict only says so"
_SMALL = "small whole numbers are the same object if they are equal"
_ROOM = "there is more room at the start; what there is room for is checked elsewhere"
_ZIP = "for k, axis in zip(target[j0:j], self._regroup(source[i0:i], sizes), strict={}):"
_LOW = "for axis, low in zip(axes, [*cuts_in[1:], 1], strict={}):"
_STACK = 'stack = np.take_along_axis(stack, np.argsort(stack {} 0, axis=0, kind="stable"), axis=0)'

# File below `fxprune`, the line, and what becomes of it.
_REASONS: dict[tuple[str, str, str], str] = {
    ("labels/algebra.py", _ZIP.format("True"), _ZIP.format("False")): _EQUALLY_LONG,
    ("labels/algebra.py", _LOW.format("True"), _LOW.format("False")): _EQUALLY_LONG,
    (
        "labels/algebra.py",
        "while i < len(source) and j < len(target):",
        "while i is not len(source) and j < len(target):",
    ): f"i never passes the end, and {_SMALL}",
    (
        "labels/algebra.py",
        "if len(axes) == len(sizes) == 1:",
        "if len(axes) is len(sizes) == 1:",
    ): _SMALL,
    (
        "labels/store.py",
        "self._left = np.zeros(1 << 12, dtype=np.int64)",
        "self._left = np.zeros(1 << 13, dtype=np.int64)",
    ): _ROOM,
    ("labels/store.py", _STACK.format("=="), _STACK.format("<=")): "no id is negative",
    (
        "rules/pointwise.py",
        "if slope and slope[0].size > 1:",
        "if slope and slope[0].size != 1:",
    ): "torch takes no slope without entries",
    (
        "passes/size_repairs.py",
        "new_out = repair.layout.shape(repair.outputs[0])",
        "new_out = repair.layout.shape(repair.outputs[ -1])",
    ): "the operator has one output",
    (
        "passes/slicing.py",
        "if like.dim() != rank or like.is_contiguous():",
        "if like.dim() != rank and like.is_contiguous():",
    ): (
        "a tensor of another rank has none of these formats, and one that is contiguous in both"
        " senses keeps its strides"
    ),
}


def why_equivalent(mutant: Mutant) -> str | None:
    """Why a mutant computes what the code does, or None if that is not known."""
    return _REASONS.get((mutant.file.removeprefix("fxprune/"), mutant.old, mutant.new))
