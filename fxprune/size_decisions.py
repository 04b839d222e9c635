"""Decisions that code takes by sizes while it is recorded, such as `if window >= height`.

A record holds for one outcome of each only. So sizes are handed out as numbers that know which size
they are, and note what they are compared with; the recorded graph asserts the outcomes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch.fx.experimental.proxy_tensor import get_proxy_mode, get_proxy_slot
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from torch import fx

_SIGNS = {
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
    operator.ne: "!=",
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.mod: "%",
    operator.floordiv: "//",
    operator.and_: "and",
    operator.or_: "or",
}
_OPPOSITES = {
    operator.lt: operator.ge,
    operator.gt: operator.le,
    operator.eq: operator.ne,
}
_OPPOSITES |= {opposite: function for function, opposite in _OPPOSITES.items()}


@dataclass(frozen=True)
class SizeOf:
    """A dim of what a node yields."""

    node: str
    dim: int

    def __str__(self) -> str:
        return f"{self.node}.shape[{self.dim}]"


@dataclass(frozen=True)
class Term:
    """A function of two numbers."""

    function: Callable[[Any, Any], Any]
    left: Source
    right: Source

    def __str__(self) -> str:
        if self.function in _SIGNS:
            return f"({self.left} {_SIGNS[self.function]} {self.right})"
        return f"{self.function.__name__}({self.left}, {self.right})"


Source: TypeAlias = SizeOf | Term | int


def sizes_in(source: Source) -> Iterator[SizeOf]:
    """The sizes that a number is made of."""
    if isinstance(source, SizeOf):
        yield source
    elif isinstance(source, Term):
        yield from sizes_in(source.left)
        yield from sizes_in(source.right)


def with_numbers(source: Source, number: Callable[[SizeOf], int | None]) -> Source:
    """The same with some sizes replaced by numbers, and worked out where only numbers are left."""
    if isinstance(source, SizeOf):
        known = number(source)
        return source if known is None else known
    if isinstance(source, Term):
        left, right = with_numbers(source.left, number), with_numbers(source.right, number)
        if isinstance(left, int) and isinstance(right, int):
            return int(source.function(left, right))
        return Term(source.function, left, right)
    return source


def _computed(function: Callable[[Any, Any], Any], *, swapped: bool = False) -> Any:
    def method(self: Size, other: Any) -> Any:
        if not isinstance(other, int):
            return NotImplemented
        left, right = (other, self) if swapped else (self, other)
        term = Term(function, _source(left), _source(right))
        return Size(function(int(left), int(right)), term, self.decisions)

    return method


def _divided(*, swapped: bool = False) -> Any:
    compute = _computed(operator.floordiv, swapped=swapped)

    def method(self: Size, other: Any) -> Any:
        if isinstance(other, int) and other and int(self):
            left, right = (other, self) if swapped else (self, other)
            if int(left) % int(right) == 0:  # a formula may then be a plain fraction
                self.note(operator.mod, left, right)
        return compute(self, other)

    return method


def _remainder(*, swapped: bool = False) -> Any:
    def method(self: Size, other: Any) -> Any:
        if not isinstance(other, int):
            return NotImplemented
        return self.note(operator.mod, *((other, self) if swapped else (self, other)))

    return method


def _compared(function: Callable[[Any, Any], Any]) -> Any:
    def method(self: Size, other: Any) -> Any:
        if not isinstance(other, int):
            return NotImplemented
        outcome = function(int(self), int(other))
        kept = function if outcome else _OPPOSITES[function]
        self.decisions.append(Term(kept, _source(self), _source(other)))
        return outcome

    return method


class Size(int):
    """A number that knows of what sizes it is made, and notes the decisions that it is used for.

    What is computed of it otherwise (a root, an `int()`) is a plain number. That is seen when the
    same code is recorded at other sizes.
    """

    source: Source
    decisions: list[Term]

    def __new__(cls, value: int, source: Source, decisions: list[Term]) -> Size:
        """A number with its origin, and the list that takes what is decided by it."""
        self = super().__new__(cls, value)
        self.source, self.decisions = source, decisions
        return self

    def note(self, function: Callable[[int, int], int], left: int, right: int) -> int:
        """A plain number that holds for the outcome of a function only."""
        value = function(int(left), int(right))
        term = Term(function, _source(left), _source(right))
        self.decisions.append(Term(operator.eq, term, value))
        return value

    __add__, __radd__ = _computed(operator.add), _computed(operator.add, swapped=True)
    __sub__, __rsub__ = _computed(operator.sub), _computed(operator.sub, swapped=True)
    __mul__, __rmul__ = _computed(operator.mul), _computed(operator.mul, swapped=True)
    __floordiv__, __rfloordiv__ = _divided(), _divided(swapped=True)
    __mod__, __rmod__ = _remainder(), _remainder(swapped=True)
    __lt__, __le__ = _compared(operator.lt), _compared(operator.le)
    __gt__, __ge__ = _compared(operator.gt), _compared(operator.ge)
    __eq__, __ne__ = _compared(operator.eq), _compared(operator.ne)
    __hash__ = int.__hash__

    def __neg__(self) -> Size:
        """0 - n."""
        return Size(-int(self), Term(operator.sub, 0, self.source), self.decisions)

    def __bool__(self) -> bool:
        """Whether it is not zero."""
        return bool(self != 0)

    def __divmod__(self, other: Any) -> Any:
        """Quotient and remainder."""
        return self // other, self % other

    def __reduce__(self) -> Any:
        """Copies are plain numbers."""
        return int, (int(self),)


def _source(value: int) -> Source:
    return value.source if isinstance(value, Size) else int(value)


class SizeDecisions(TorchFunctionMode):
    """While `make_fx` records, `x.shape` and `x.size()` give numbers that note decisions.

    Attributes:
        found: comparisons of sizes (and of what is computed of them), all of them true.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Term] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function, and hand out what it tells of sizes with its origin."""
        out = func(*args, **(kwargs or {}))
        if func not in _TELL_SIZES:
            return out
        node = _node_of(args[0])
        if node is None:
            return out
        if isinstance(out, tuple):
            sizes = [Size(n, SizeOf(node.name, dim), self.found) for dim, n in enumerate(out)]
            return torch.Size(sizes)
        dim = (kwargs or {}).get("dim", args[1] if len(args) > 1 else 0)
        return Size(out, SizeOf(node.name, int(dim) % args[0].dim()), self.found)


_TELL_SIZES = (torch.Tensor.shape.__get__, torch.Tensor.size)  # type: ignore[attr-defined]


def _node_of(tensor: torch.Tensor) -> fx.Node | None:
    mode = get_proxy_mode()
    proxy = None if mode is None else get_proxy_slot(tensor, mode.tracer, None)
    node: fx.Node | None = None if proxy is None else proxy.proxy.node
    return node
