"""Running a graph in float64 throughout, although it names narrower types itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from fxprune.errors import InputError
from fxprune.module_trees import as_parameter
from fxprune.rounding import nudged
from fxprune.rules import written
from fxprune.values import memory, tensors

if TYPE_CHECKING:
    from torch._ops import OpOverload

aten = torch.ops.aten
LARGEST_DOUBLE = 2 << 30
"""How many bytes a model may take in float64 to be run in that."""
_WIDER = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex32: torch.complex128,
}
_WIDE = frozenset(_WIDER.values())
_REAL = {torch.complex64: torch.float32, torch.complex32: torch.float16}
_NAMED = {
    Tensor.double: torch.float64,
    Tensor.float: torch.float32,
    Tensor.half: torch.float16,
    Tensor.bfloat16: torch.bfloat16,
    # torch's types lack these two
    Tensor.cfloat: torch.complex64,  # type: ignore[attr-defined]
    Tensor.cdouble: torch.complex128,  # type: ignore[attr-defined]
}
"""Methods that are casts to one type."""
_TO = frozenset({Tensor.to, Tensor.type, *(getattr(aten.to, name) for name in aten.to.overloads())})
"""Casts that return their operand itself if it has the type already."""


@dataclass(frozen=True)
class Precision:
    """The types that two models are compared in.

    Attributes:
        types: the floating-point types of the model's state.
        home: the only such type of state and inputs, if there is only one.
        dtype: the type that they are cast to, or None: everything runs in the types that it has.
        throughout: whether types that the models name themselves become that type, too.
        seed: of random changes of the last bit of what is cast, or None.
    """

    types: frozenset[torch.dtype]
    home: torch.dtype | None
    dtype: torch.dtype | None = None
    throughout: bool = False
    seed: int | None = None

    @classmethod
    def of(cls, state: Iterable[Tensor], inputs: Iterable[Tensor]) -> Precision:
        """The types that a model and its inputs have."""
        types = frozenset(t.dtype for t in state if _is_number(t.dtype))
        given = {t.dtype for t in inputs if _is_number(t.dtype)}
        real = {_REAL.get(dtype, dtype) for dtype in types | given}
        return cls(types, next(iter(real)) if len(real) == 1 else None)

    def widest(self) -> list[Precision]:
        """The same models in float64, the most exact way first."""
        double = replace(self, dtype=torch.float64)
        return [replace(double, throughout=True), double]

    @classmethod
    def candidates(cls, state: Iterable[Tensor], inputs: Iterable[Tensor]) -> list[Precision]:
        """What a model can be run in, the most exact way first; float64 up to 2 GiB of state."""
        state = list(state)
        own = cls.of(state, inputs)
        return [*own.widest(), own] if size_in_double(state) <= LARGEST_DOUBLE else [own]

    def seeded(self, seed: int) -> Precision:
        """The same, with the last bits of what is cast changed at random."""
        return replace(self, seed=seed)

    def narrowest(self, tolerances: Mapping[torch.dtype, float]) -> torch.dtype:
        """The type that rounds most."""
        found = sorted(self.types, key=lambda d: (-tolerances.get(d, 0.0), str(d)))
        return self.dtype or next(iter(found), torch.float32)

    def cast(self, value: Any) -> Any:
        """A copy of a floating-point or complex tensor in this precision."""
        if not isinstance(value, Tensor):
            return value
        dtype = value.dtype
        if self.dtype is not None and value.is_floating_point():
            dtype = self.dtype
        elif self.dtype is torch.float64 and value.is_complex():
            dtype = torch.complex128
        copy = value.detach().to(dtype, copy=True)
        return as_parameter(copy if self.seed is None else nudged(copy, self.seed), value)

    def widening(self) -> Widening | None:
        """What a run under this precision does about types that operators name."""
        return Widening(self.home) if self.throughout else None


def size_in_double(state: Iterable[Tensor]) -> int:
    """How many bytes the numbers of a model take in float64."""
    return 8 * sum(tensor.numel() for tensor in state if tensor.is_floating_point())


class Widening:
    """What becomes of operators that name a type while everything else is in float64.

    1. A type narrower than float64 that is named for a float64 operand (`x.to(float32)`,
       `softmax(x, dtype=float32)`) becomes float64, and complex64 becomes complex128.
    2. What is made without floating-point operands (a factory, integers that become numbers) is
       computed in its own type and then cast, so that constants are those that capture saw.
    3. A cast shares memory with its operand if it does in the model itself. While all types are
       `home`, every cast does, and so it does here. As soon as the model names another type, this
       is not known: a later write into what may be shared is an error.
    4. Bits that are read as another type have no counterpart: an error.

    All other operators run as they are. Both of two runs that are compared need the same.
    """

    def __init__(self, home: torch.dtype | None) -> None:
        """Take the only floating-point type of a model and its inputs, or None."""
        self.is_mixed = home is None
        self._home = home
        self._shared: dict[int, StorageWeakRef] = {}

    def operands(self, op: OpOverload, args: Sequence[Any], kwargs: Any) -> tuple[Any, Any]:
        """The arguments of an operator, with float64 for the types that it names."""
        self._refuse(op, args, kwargs)
        named = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.dtype)]
        self._note(named)
        if named and any(t.dtype in _WIDE for t in _operands(args, kwargs)):
            return tuple(map(_wider, args)), {k: _wider(v) for k, v in kwargs.items()}
        return args, kwargs

    def results(self, op: OpOverload, out: Any) -> Any:
        """The outputs of an operator in float64; but a view or what it wrote into stays."""
        if isinstance(out, Tensor):
            if out.dtype not in _WIDER or _is_alias(op):
                return out
            self._note([out.dtype])
            return out.to(_WIDER[out.dtype])
        if isinstance(out, (list, tuple)):
            return type(out)(self.results(op, item) for item in out)
        return out

    def cast(self, function: Any, args: Sequence[Any], kwargs: Any) -> Any:
        """A cast as the model makes it, of a float64 operand."""
        if function in _NAMED:
            function, args = Tensor.to, (*args, _NAMED[function])
        self._note([v for v in (*args, *kwargs.values()) if isinstance(v, torch.dtype)])
        out = function(*map(_wider, args), **{k: _wider(v) for k, v in kwargs.items()})
        if self.is_mixed and out is args[0]:
            self._shared[memory(out)] = StorageWeakRef(out.untyped_storage())
        return out

    def _note(self, dtypes: Iterable[torch.dtype]) -> None:
        named = {_REAL.get(d, d) for d in dtypes if _is_number(d)}
        self.is_mixed |= not named <= {self._home}

    def _refuse(self, op: OpOverload, args: Sequence[Any], kwargs: Any) -> None:
        if op is aten.view.dtype:
            raise InputError("bits are read as another type, which float64 has no counterpart of")
        if self._shared and op._schema.is_mutable:
            targets = written(op, args, kwargs)
            if any(memory(target) in self._shared for target in targets):
                raise InputError(
                    "a tensor is written into that may be one with a cast of it",
                    why="the model names several floating-point types",
                )


def _is_number(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex


def _wider(value: Any) -> Any:
    return _WIDER.get(value, value) if isinstance(value, torch.dtype) else value


def _operands(args: Sequence[Any], kwargs: Any) -> list[Tensor]:
    return tensors([*args, *kwargs.values()])


def _is_alias(op: OpOverload) -> bool:
    """Whether an operator returns a view of an operand, or the operand itself."""
    if op is aten.lift_fresh.default:  # what `torch.tensor` returns is nobody's view
        return False
    return any(returned.alias_info is not None for returned in op._schema.returns)


class CastMode(TorchFunctionMode):
    """Catches casts before torch finds that they change nothing."""

    def __init__(self, widening: Widening) -> None:
        super().__init__()
        self.widening = widening

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function."""
        is_cast = func in _TO or func in _NAMED
        if is_cast and isinstance(args[0], Tensor) and args[0].dtype in _WIDE:
            return self.widening.cast(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def grouped_mm(
    a: Tensor,
    b: Tensor,
    offs: Tensor | None = None,
    bias: None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """`aten._grouped_mm`, which has no float64 kernel, as one product for each group."""
    if offs is None:
        return a @ b
    groups = [slice(*ends) for ends in pairwise([0, *offs.tolist()])]
    if a.dim() == b.dim():
        return torch.stack([a[:, group] @ b[group] for group in groups])
    out = a.new_zeros(a.shape[-2], b.shape[-1])
    for number, group in enumerate(groups):
        if b.dim() == 3:
            out[group] = a[group] @ b[number]
        else:
            out[:, group] = a[number] @ b[:, group]
    return out


INSTEAD: dict[OpOverload, Callable[..., Any]] = {aten._grouped_mm.default: grouped_mm}
"""What stands in for operators without a float64 kernel, on float64 operands."""
