"""Tensors that know which of their elements a plan has removed.

The oracle runs the original model's own forward on `Masked` tensors. Every function of torch that
forward calls arrives here through `__torch_function__` and is run by its *meaning*, one of
`fuzz.meanings`: what it computes where removed elements do not count. Data movement is moved twice,
the data and the mask; so nothing is known here of channels, labels or groups.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Meaning: TypeAlias = Callable[..., Any]
MEANINGS: dict[str, Meaning] = {}
_OPERATORS = (
    *("add", "radd", "iadd", "sub", "rsub", "isub", "mul", "rmul", "imul", "pow", "rpow"),
    *("truediv", "rtruediv", "itruediv", "neg", "matmul", "rmatmul", "getitem", "setitem"),
    *("gt", "lt", "ge", "le", "eq", "ne", "and", "or", "invert", "abs"),
)


class ContradictionError(Exception):
    """A plan removes what cannot be left out: the kept elements depend on removed ones."""


class NoMeaningError(Exception):
    """The oracle was asked for a function that it does not know."""


class Masked:
    """A tensor, and which of its elements are gone.

    Elements that are gone hold NaN where they start, in parameters, so that each use of one shows.
    """

    __hash__ = object.__hash__

    def __init__(self, data: Tensor, gone: Tensor) -> None:
        if data.shape != gone.shape:
            raise ContradictionError(f"mask of {list(gone.shape)} for data of {list(data.shape)}")
        self.data = data
        self.gone = gone

    @classmethod
    def whole(cls, data: Tensor) -> Masked:
        """A tensor of which nothing is gone."""
        return cls(data, torch.zeros_like(data, dtype=torch.bool))

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    @property
    def zeroed(self) -> Tensor:
        """The data with zeros where it is gone: what a sum sees."""
        return self.data.masked_fill(self.gone, 0)

    @property
    def kept(self) -> Tensor:
        """Ones where the data is kept, zeros elsewhere: for counting."""
        return (~self.gone).to(self.dtype)

    @property
    def shape(self) -> torch.Size:
        return self.data.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.data.dtype

    @property
    def device(self) -> torch.device:
        return self.data.device

    @property
    def ndim(self) -> int:
        return self.data.dim()

    def size(self, dim: int | None = None) -> Any:
        return self.data.shape if dim is None else self.data.shape[dim]

    def dim(self) -> int:
        return self.data.dim()

    def numel(self) -> int:
        return self.data.numel()

    def is_floating_point(self) -> bool:
        return self.data.is_floating_point()

    @property
    def T(self) -> Masked:  # noqa: N802 (the name that torch gives it)
        return Masked(self.data.T, self.gone.T)

    @property
    def mT(self) -> Masked:  # noqa: N802
        return Masked(self.data.mT, self.gone.mT)

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Masked]:
        return iter(self.unbind(0))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(Tensor, name):
            raise AttributeError(name)
        return functools.partial(_method, name, self)


def _method(name: str, *args: Any, **kwargs: Any) -> Any:
    return run(getattr(Tensor, name), args, kwargs)


for _name in _OPERATORS:
    setattr(
        Masked, f"__{_name}__", functools.partialmethod(functools.partial(_method, f"__{_name}__"))
    )


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """What a function of torch returns for masked tensors."""
    name = func.__name__.removesuffix("__").removeprefix("__")
    meaning = MEANINGS.get(name)
    if meaning is None:
        raise NoMeaningError(f"the oracle has no meaning for {func.__name__}")
    return meaning(func, args, kwargs)


def meaning(*names: str) -> Callable[[Meaning], Meaning]:
    """Register what functions of these names compute: called with function, args and kwargs."""

    def register(function: Meaning) -> Meaning:
        for name in names:
            if name in MEANINGS:
                raise ValueError(f"{name} has two meanings")
            MEANINGS[name] = function
        return function

    return register


def written_out(*names: str) -> Callable[[Meaning], Meaning]:
    """Register a meaning that takes the arguments themselves."""

    def register(function: Meaning) -> Meaning:
        meaning(*names)(lambda func, args, kwargs: function(*args, **kwargs))
        return function

    return register


def masked(value: Any) -> Masked:
    """A tensor as a masked one."""
    return value if isinstance(value, Masked) else Masked.whole(value)


def operands(*values: Any) -> list[Masked]:
    """All masked tensors among nested arguments."""
    return [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Masked)]


def data_of(values: Any) -> Any:
    """Nested arguments with the data of masked tensors instead."""
    return pytree.tree_map(lambda v: v.data if isinstance(v, Masked) else v, values)


def union(shape: torch.Size, parts: list[Masked]) -> Tensor:
    """What is gone of a result of this shape, each element made of one element of each part."""
    gone = torch.zeros(shape, dtype=torch.bool)
    for part in parts:
        gone |= part.gone
    return gone


def sums_nothing(*factors: Masked) -> bool:
    """Whether nothing is left of what a product sums over, so that it is zero.

    It could be that its rows have gone instead; then the bias, or whatever else it meets, tells.
    """
    return all(bool(factor.gone.all()) for factor in factors)


def must_be_whole(x: Masked, dim: int, name: str) -> None:
    """Positions along this dim are told apart by their numbers, so all must be there."""
    some, every = x.gone.any(dim), x.gone.all(dim)
    if (some & ~every).any():
        raise ContradictionError(f"{name} runs along dim {dim}, of which a part is gone")
