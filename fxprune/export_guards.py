"""Asserting in an exported graph what `torch.export` took for granted.

A program holds for the sizes that were not dynamic, and for dynamic ones as far as the code took
the same decisions. `ExportedProgram.module()` has that checked by a hook and a module of its own;
here both become plain nodes, which copies, pickles and other passes keep.
"""

from __future__ import annotations

import ast
import itertools
import operator
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from fxprune.errors import CaptureError
from fxprune.recorded_graphs import assert_decisions
from fxprune.size_decisions import SizeOf, Source, Term, sizes_in, with_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import fx

_OPERATORS: dict[type[ast.AST], Any] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.And: operator.and_,
    ast.Or: operator.or_,
}
_FUNCTIONS: dict[str, Any] = {
    **dict.fromkeys(("Max", "torch.sym_max"), torch.sym_max),
    **dict.fromkeys(("Min", "torch.sym_min"), torch.sym_min),
    "FloorDiv": operator.floordiv,
    **dict.fromkeys(("Mod", "PythonMod"), operator.mod),
}
_SIZES = (*range(1, 65), *(2**k + d for k in range(7, 21) for d in (-1, 0, 1)))
"""Sizes at which comparisons are tried out, besides those near the numbers in them."""
_FEW_SIZES = range(1, 9)
_FEWEST = 2


def assert_guards(
    module: fx.GraphModule, program: torch.export.ExportedProgram, example: Mapping[str, Any]
) -> None:
    """Put the assertions of a program behind the inputs of the graph that was made of it.

    1. A size that is a number in the program is that number, and one in a range is in the range.
    2. The comparisons by which the code decided about dynamic sizes (`_guards_code`) hold. Those
       that hold at any size are left out: most are about strides. If they hold just where two dims
       are equal, it is the dims that must be equal.
    3. Comparisons that do not hold for the example inputs are left out. That are those of a batch
       of one, which export never takes: it takes two, and may store tensors in another order for
       one. Verification shows what comes of that.

    Args:
        module: `program.module(check_guards=False)`, which is changed.
        program: the program.
        example: the example inputs by name, if there are any.

    Raises:
        CaptureError: a comparison is of a kind that is not known here.
    """
    inputs = module.graph.find_nodes(op="placeholder")
    values = [node.meta.get("val") for node in inputs]
    sizes: dict[SizeOf, Any] = {
        SizeOf(node.name, dim): size
        for node, value in zip(inputs, values, strict=True)
        for dim, size in enumerate(value.shape if isinstance(value, torch.Tensor) else ())
    }
    fixed = [Term(operator.eq, of, n) for of, n in sizes.items() if isinstance(n, int)]
    ranges = [*_ranges(program, sizes)]
    sources = _sources(module)
    given = {
        SizeOf(node.name, dim): size
        for node, value in zip(inputs, pytree.tree_leaves(dict(example)), strict=False)
        if isinstance(value, torch.Tensor)
        for dim, size in enumerate(value.shape)
    }
    codes = getattr(program, "_guards_code", ())
    decisions = [simple for code in codes for simple in _simplified(_parsed(code, sources))]
    holding = [d for d in dict.fromkeys([*ranges, *decisions]) if _value(d, given.get) != 0]
    assert_decisions(module.graph, [*fixed, *holding], "the model")
    module.recompile()


def _sources(module: fx.GraphModule) -> dict[str, fx.Node]:
    """The inputs by the names that guards have for them, such as `L['x'][0]`."""
    codegen: Any = module.graph._codegen
    info = codegen.pytree_info
    args, kwargs = pytree.tree_unflatten(module.graph.find_nodes(op="placeholder"), info.in_spec)
    by_name = {**dict(zip(info.orig_args, args, strict=False)), **kwargs}
    leaves, _ = pytree.tree_flatten_with_path(by_name)
    return {f"L{pytree.keystr(path)}": node for path, node in leaves}


def _parsed(code: str, sources: Mapping[str, fx.Node]) -> Source:
    """The comparison that a text of Python makes."""

    def of(tree: ast.AST) -> Source:
        match tree:
            case ast.Constant(value=int(value) | float(value)):
                return value
            case ast.Subscript(
                value=ast.Call(func=ast.Attribute(value=source, attr="size")),
                slice=ast.Constant(value=int(dim)),
            ) if ast.unparse(source) in sources:
                return SizeOf(sources[ast.unparse(source)].name, dim)
            case (
                ast.Compare(left=left, ops=[op], comparators=[right])
                | ast.BinOp(left=left, op=op, right=right)
            ) if type(op) in _OPERATORS:
                return Term(_OPERATORS[type(op)], of(left), of(right))
            case ast.BoolOp(op=op, values=[first, *rest]):
                found = of(first)
                for part in rest:
                    found = Term(_OPERATORS[type(op)], found, of(part))
                return found
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return Term(operator.sub, 0, of(operand))
            case ast.Call(func=name, args=[left, right]) if ast.unparse(name) in _FUNCTIONS:
                return Term(_FUNCTIONS[ast.unparse(name)], of(left), of(right))
        raise CaptureError(
            f"an exported program assumes {ast.unparse(tree)}, which cannot be asserted",
            why=f"it is part of {code}",
            hint="export with fewer dynamic dims, or pass the model itself",
        )

    return of(ast.parse(code, mode="eval").body)


def _ranges(program: torch.export.ExportedProgram, sizes: Mapping[SizeOf, Any]) -> Iterator[Source]:
    """The limits of dynamic sizes. Two is no limit: export takes it as the least for all."""
    for size, symbol in sizes.items():
        limits = (
            None if isinstance(symbol, int) else program.range_constraints.get(symbol.node.expr)
        )
        if limits is None:
            continue
        if limits.lower > _FEWEST:
            yield Term(operator.ge, size, int(limits.lower))
        if limits.upper.is_finite and limits.upper < sys.maxsize - 1:
            yield Term(operator.le, size, int(limits.upper))


def _value(decision: Source, number: Callable[[SizeOf], int | None]) -> Source:
    """A comparison with sizes as numbers; it does not hold where it divides by zero."""
    try:
        return with_numbers(decision, number)
    except ZeroDivisionError:
        return False


def _numbers_in(source: Source) -> Iterator[int]:
    if isinstance(source, Term):
        for operand in source.operands:
            yield from _numbers_in(operand)
    elif not isinstance(source, SizeOf):
        yield int(source)


def _simplified(decision: Source) -> list[Source]:
    """A comparison, or what is left of it that does not hold at all sizes that are tried."""
    dims = list(dict.fromkeys(sizes_in(decision)))
    near = {n + d for n in _numbers_in(decision) for d in (-1, 0, 1) if n + d > 0}
    tried = sorted({*_SIZES, *near})
    if not all(_value(decision, dict.fromkeys(dims, n).__getitem__) for n in tried):
        return [decision]
    if len(dims) < 2:
        return []
    if len(dims) > 2:
        return [decision]
    pairs = [p for p in itertools.product(sorted({*_FEW_SIZES, *near}), repeat=2) if p[0] != p[1]]
    apart = [_value(decision, dict(zip(dims, pair, strict=True)).__getitem__) for pair in pairs]
    if all(apart):
        return []
    return [decision] if any(apart) else [Term(operator.eq, *dims)]
