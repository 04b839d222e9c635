"""What code computes of sizes and decides by them while it is recorded.

A record holds for one outcome of `if window >= height` only, and for the numbers of one choice of
sizes. So sizes are handed out as numbers that know what they are made of. They note what they are
compared with, and which of them operators are given; the recorded graph asserts both.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeAlias

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
    operator.truediv: "/",
    operator.pow: "**",
    operator.and_: "&",
    operator.or_: "|",
    operator.xor: "^",
    operator.lshift: "<<",
    operator.rshift: ">>",
}
_OPPOSITES = {
    operator.lt: operator.ge,
    operator.gt: operator.le,
    operator.eq: operator.ne,
}
_OPPOSITES |= {opposite: function for function, opposite in _OPPOSITES.items()}
_SMOOTH = (operator.add, operator.sub, operator.mul)


@dataclass(frozen=True)
class SizeOf:
    """A dim of what a node yields."""

    node: str
    dim: int

    def __str__(self) -> str:
        return f"{self.node}.shape[{self.dim}]"


@dataclass(frozen=True, init=False)
class Term:
    """A function of numbers."""

    function: Callable[..., Any]
    operands: tuple[Source, ...]

    def __init__(self, function: Callable[..., Any], *operands: Source) -> None:
        object.__setattr__(self, "function", function)
        object.__setattr__(self, "operands", operands)

    def __str__(self) -> str:
        if self.function in _SIGNS:
            return f"({f' {_SIGNS[self.function]} '.join(map(str, self.operands))})"
        return f"{self.function.__name__}({', '.join(map(str, self.operands))})"


Source: TypeAlias = SizeOf | Term | int | float


def sizes_in(source: Source) -> Iterator[SizeOf]:
    """The sizes that a number is made of."""
    if isinstance(source, SizeOf):
        yield source
    elif isinstance(source, Term):
        for operand in source.operands:
            yield from sizes_in(operand)


def with_numbers(source: Source, number: Callable[[SizeOf], int | None]) -> Source:
    """The same with some sizes replaced by numbers, and worked out where only numbers are left.

    Raises:
        ZeroDivisionError: a divisor is zero then.
    """
    if isinstance(source, SizeOf):
        known = number(source)
        return source if known is None else known
    if not isinstance(source, Term):
        return source
    operands = [with_numbers(operand, number) for operand in source.operands]
    if any(isinstance(operand, (SizeOf, Term)) for operand in operands):
        return Term(source.function, *operands)
    value: int | float = source.function(*operands)
    return value


def is_smooth(source: Source) -> bool:
    """Whether a number is made of sizes by addition and multiplication only."""
    if not isinstance(source, Term):
        return True
    return source.function in _SMOOTH and all(map(is_smooth, source.operands))


@dataclass
class Notes:
    """What became of sizes.

    Attributes:
        decisions: comparisons, all of them true.
        used: numbers that operators were given, with their values.
    """

    decisions: list[Source] = field(default_factory=list)
    used: list[tuple[Source, int | float]] = field(default_factory=list)


def _plain(value: Any) -> Any:
    if isinstance(value, Size):
        return int.__int__(value)
    return float.__float__(value) if isinstance(value, SizeRatio) else value


def _source(value: Any) -> Source:
    source: Source = value.source if isinstance(value, _Tracked) else value
    return source


def _made(function: Callable[..., Any], *operands: Any) -> Any:
    """The outcome of a function as a number that knows what it is made of."""
    notes = next(operand.notes for operand in operands if isinstance(operand, _Tracked))
    value = function(*map(_plain, operands))
    kind = SizeRatio if isinstance(value, float) else Size
    return kind(value, Term(function, *map(_source, operands)), notes)


def _computed(function: Callable[[Any, Any], Any], *, swapped: bool = False) -> Any:
    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, (int, float)):
            return NotImplemented
        return _made(function, *((other, self) if swapped else (self, other)))

    return method


def _compared(function: Callable[[Any, Any], Any]) -> Any:
    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, (int, float)):
            return NotImplemented
        outcome = function(_plain(self), _plain(other))
        kept = function if outcome else _OPPOSITES[function]
        if _source(self) != _source(other):
            self.notes.decisions.append(Term(kept, self.source, _source(other)))
        return outcome

    return method


class _Tracked:
    """A number that knows of what sizes it is made.

    It cannot see what a plain float on its left computes (`0.5 * n`, `7.5 > n`), nor
    `shape.numel()`: these read it as what it is, a number.
    """

    source: Source
    notes: Notes

    def __new__(cls, value: int | float, source: Source, notes: Notes) -> Self:
        """A number with its origin, and the notes that take what becomes of it."""
        self = super().__new__(cls, value)  # type: ignore[call-arg]
        self.source, self.notes = source, notes
        return self

    __add__, __radd__ = _computed(operator.add), _computed(operator.add, swapped=True)
    __sub__, __rsub__ = _computed(operator.sub), _computed(operator.sub, swapped=True)
    __mul__, __rmul__ = _computed(operator.mul), _computed(operator.mul, swapped=True)
    __mod__, __rmod__ = _computed(operator.mod), _computed(operator.mod, swapped=True)
    __pow__, __rpow__ = _computed(operator.pow), _computed(operator.pow, swapped=True)
    __truediv__ = _computed(operator.truediv)
    __rtruediv__ = _computed(operator.truediv, swapped=True)
    __floordiv__ = _computed(operator.floordiv)
    __rfloordiv__ = _computed(operator.floordiv, swapped=True)
    __lt__, __le__ = _compared(operator.lt), _compared(operator.le)
    __gt__, __ge__ = _compared(operator.gt), _compared(operator.ge)
    __eq__, __ne__ = _compared(operator.eq), _compared(operator.ne)

    def __neg__(self) -> Any:
        """0 - n."""
        return 0 - self

    def __pos__(self) -> Any:
        """The same."""
        return self

    def __abs__(self) -> Any:
        """The number or its opposite, which is a decision."""
        return self if self >= 0 else -self

    def __bool__(self) -> bool:
        """Whether it is not zero."""
        return bool(self != 0)

    def __divmod__(self, other: Any) -> Any:
        """Quotient and remainder."""
        return self // other, self % other

    def __int__(self) -> int:
        """A plain number, which is never seen again: it must not change."""
        value = int(_plain(self))
        source = self.source if isinstance(self, Size) else _whole(self.source, _plain(self))
        self.notes.decisions.append(Term(operator.eq, source, value))
        return value

    def __float__(self) -> float:
        """As `int()`."""
        value = float(_plain(self))
        self.notes.decisions.append(Term(operator.eq, self.source, value))
        return value

    def __reduce__(self) -> Any:
        """Copies are plain numbers."""
        value = _plain(self)
        return type(value), (value,)


def _whole(source: Source, value: float) -> Term:
    return Term(math.floor if value >= 0 else math.ceil, source)


class Size(_Tracked, int):
    """A whole number that is made of sizes."""

    __hash__ = int.__hash__
    __and__, __rand__ = _computed(operator.and_), _computed(operator.and_, swapped=True)
    __or__, __ror__ = _computed(operator.or_), _computed(operator.or_, swapped=True)
    __xor__, __rxor__ = _computed(operator.xor), _computed(operator.xor, swapped=True)
    __lshift__ = _computed(operator.lshift)
    __rlshift__ = _computed(operator.lshift, swapped=True)
    __rshift__ = _computed(operator.rshift)
    __rrshift__ = _computed(operator.rshift, swapped=True)

    def __round__(self, digits: Any = None) -> Any:
        """The same, unless digits are cut off."""
        return self if digits is None or digits >= 0 else round(int(self), digits)

    def __ceil__(self) -> Size:
        """The same."""
        return self

    __floor__ = __trunc__ = __ceil__


class SizeRatio(_Tracked, float):
    """A fraction that is made of sizes."""

    __hash__ = float.__hash__

    def __ceil__(self) -> Any:
        """The next whole number."""
        return _made(math.ceil, self)

    def __floor__(self) -> Any:
        """The whole number before."""
        return _made(math.floor, self)

    def __trunc__(self) -> Any:
        """The whole number towards zero."""
        return _made(_whole(self.source, _plain(self)).function, self)

    def __round__(self, digits: Any = None) -> Any:
        """A plain number, for that of a node would be another one in doubtful cases."""
        return round(float(self), digits)


class SizeDecisions(TorchFunctionMode):
    """While `make_fx` records, sizes of tensors are numbers that note what becomes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.notes = Notes()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function, and hand out what it tells of sizes with its origin."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func not in _TELL_SIZES:
            self.note_use([args, kwargs])
            return out
        node = _node_of(args[0])
        if node is None:
            return out
        rank = args[0].dim()
        sizes = [self.size(n, SizeOf(node.name, dim)) for dim, n in enumerate(args[0].shape)]
        if func in _COUNTS:
            return math.prod(sizes, start=self.size(1, 1))
        if func is torch.Tensor.__len__:
            return int(sizes[0])
        if isinstance(out, tuple):
            return torch.Size(sizes)
        return sizes[int(kwargs.get("dim", args[1] if len(args) > 1 else 0)) % rank]

    def size(self, value: int, source: Source) -> Size:
        """A number that reports here."""
        return Size(value, source, self.notes)

    def note_use(self, value: Any) -> None:
        """Note the numbers in the arguments of an operator, or in what a function returns."""
        if isinstance(value, _Tracked):
            self.notes.used.append((value.source, _plain(value)))
        elif isinstance(value, dict):
            self.note_use(list(value.values()))
        elif isinstance(value, slice):
            self.note_use([value.start, value.stop, value.step])
        elif isinstance(value, (list, tuple)):
            for item in value:
                self.note_use(item)


_COUNTS = (torch.Tensor.numel, torch.Tensor.nelement)
_SHAPE = torch.Tensor.shape.__get__  # type: ignore[attr-defined]
_TELL_SIZES = (_SHAPE, torch.Tensor.size, torch.Tensor.__len__, *_COUNTS)


def without_origin(value: Any) -> Any:
    """A number as a plain one; anything else as it is."""
    return _plain(value)


def _node_of(tensor: torch.Tensor) -> fx.Node | None:
    mode = get_proxy_mode()
    proxy = None if mode is None else get_proxy_slot(tensor, mode.tracer, None)
    node: fx.Node | None = None if proxy is None else proxy.proxy.node
    return node
