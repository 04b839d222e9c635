"""Which widths suit this machine: measured on operators, once, and kept on disk.

Vector units, blocked memory layouts and threads make operators work in steps: a convolution of 113
channels can take as long as one of 128, or longer. Such steps are found by timing each kind of
operator at widths between two multiples of `_COARSEST`, on one axis at a time. What a width takes
beyond the straight line between the two is its *excess*. The multiple of an axis is the smallest
one whose widths have no excess in the mean. So a step that costs next to nothing, because it is
short or because a call takes as long anyway, does not count.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import torch

from fxprune.planning.op_times import OpTimes, Shaped

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fxprune.groups import Group
    from fxprune.labels import Axis
    from fxprune.op_calls import OpCall

Role: TypeAlias = Literal[
    "convolution in",
    "convolution out",
    "pointwise in",
    "pointwise out",
    "depthwise",
    "linear in",
    "linear out",
]
"""An axis of a kind of operator. A pointwise convolution has a kernel of one position."""
ROLES: tuple[Role, ...] = get_args(Role)
Multiples: TypeAlias = "Mapping[Role, int]"
"""For each role the multiple that widths had better be of; 1 for those that are not there."""
_COARSEST = 32
_MULTIPLES = (1, 2, 4, 8, 16)
_WIDE = 128
_EXCESS = 0.03
"""The mean excess that is none; the error of a single time is about that."""
_OFFSETS = (1, 2, 4, 8, 9, 14, 15, 16, 17, 20, 24, 25, 28, 30, 31)
_ROWS, _PIXELS = 197, 14
aten = torch.ops.aten


def host_multiples(
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    folder: str | os.PathLike[str] | None = None,
) -> dict[Role, int]:
    """The multiples that suit a device, of powers of two up to 32.

    The first time takes some seconds; then they are known for this device, number of threads and
    version of torch.

    Args:
        device: where operators run.
        dtype: of their operands.
        folder: where measured times are kept, the user's cache folder by default.
    """
    times = OpTimes(device, folder)
    try:
        return {role: measured_multiple(_timed(times, role, dtype)) for role in ROLES}
    finally:  # whatever ends it early, what was measured is kept
        times.save()


def measured_multiple(time: Callable[[int], float | None]) -> int:
    """The smallest multiple at which widths have no excess, up to 32.

    Args:
        time: of a width; None if there is none, and then any width will do.

    >>> measured_multiple(lambda width: 5 + width)
    1
    >>> measured_multiple(lambda width: math.ceil(width / 16))
    16
    """
    low, high = time(_WIDE - _COARSEST), time(_WIDE)
    if low is None or high is None or low <= 0 or high <= 0:
        return 1
    excess: dict[int, float] = {}
    for offset in _OFFSETS:
        taken = time(_WIDE - _COARSEST + offset)
        if taken is None:
            return 1
        excess[offset] = taken / (low + (high - low) * offset / _COARSEST) - 1
    for multiple in _MULTIPLES:
        if statistics.fmean(e for o, e in excess.items() if o % multiple == 0) <= _EXCESS:
            return multiple
    return _COARSEST


def _timed(times: OpTimes, role: Role, dtype: torch.dtype) -> Callable[[int], float | None]:
    """The time of an operator by the width of one axis, the others being aligned."""

    def made(*shape: int) -> Shaped:
        return Shaped(shape, dtype, tuple(range(len(shape))))

    def time(width: int) -> float | None:
        inner = width if role.endswith((" in", "depthwise")) else _WIDE
        outer = width if role.endswith((" out", "depthwise")) else _WIDE
        if role.startswith("linear"):
            given = [made(outer), made(_ROWS, inner), made(inner, outer)]
            return times.of(aten.addmm.default, given, {})
        kernel = 1 if role.startswith("pointwise") else 3
        groups = inner if role == "depthwise" else 1
        weight = made(outer, inner // groups, kernel, kernel)
        image = made(1, inner, *(_PIXELS * (1 if role.startswith("convolution") else 2),) * 2)
        numbers = [[1, 1], [kernel // 2] * 2, [1, 1], False, [0, 0], groups]
        return times.of(aten.convolution.default, [image, weight, made(outer), *numbers], {})

    return time


def roles(call: OpCall) -> Iterator[tuple[Axis, Role]]:
    """The axes of an operator's operands that have a role, each with that."""
    if call.op is aten.convolution.default:
        axes = call.args[1].axes
        kind = _convolution([axis.size for axis in axes])
        if kind == "depthwise":
            yield axes[0], "depthwise"
        elif call.args[8] == 1:
            first, then = (1, 0) if call.args[6] else (0, 1)
            yield axes[first], "convolution out" if kind == "convolution" else "pointwise out"
            yield axes[then], "convolution in" if kind == "convolution" else "pointwise in"
    elif call.op in _PRODUCTS:
        axes = call.args[_PRODUCTS[call.op]].axes
        yield axes[-2], "linear in"
        yield axes[-1], "linear out"


_PRODUCTS: dict[Any, int] = {
    aten.mm.default: 1,
    aten.addmm.default: 2,
    aten.bmm.default: 1,
    aten.baddbmm.default: 2,
}
"""Which argument of a product is the matrix of inputs by outputs."""


def _convolution(shape: Sequence[int]) -> Literal["depthwise", "pointwise", "convolution"]:
    """What a convolution with a weight of some shape is."""
    if shape[1] == 1 and shape[0] > 1:
        return "depthwise"
    return "pointwise" if math.prod(shape[2:]) == 1 else "convolution"


def group_multiple(
    shapes: Mapping[str, tuple[int, ...]], multiples: Multiples, group: Group
) -> int:
    """The multiple of channels that widths of a group had better be of.

    It is that of the model's most demanding kind of layer, for all groups: what writes a width
    hands it on to layers of other kinds, and to runtimes that lay out all of them alike. Where a
    channel takes several positions of an axis (a head its dims), fewer channels are enough. It is
    at most half of the group, so that narrow groups keep a choice.

    Args:
        shapes: of the parameters.
        multiples: see `host_multiples`.
        group: the group.
    """
    kinds = {_kind(shape) for shape in shapes.values() if len(shape) > 1}
    wanted = max((n for role, n in multiples.items() if role.split()[0] in kinds), default=1)
    weights = [member for member in group.members if len(shapes[member.parameter]) > 1]
    copies = {len(m.positions[0]) for m in weights} if group.kind != "head_dims" else {1}
    found = max((wanted // math.gcd(wanted, number) for number in copies), default=1)
    while found * 2 > group.size and found > 1:
        found //= 2
    return found


def _kind(shape: Sequence[int]) -> str:
    """What kind of layer has a weight of some shape."""
    return "linear" if len(shape) == 2 else _convolution(shape)
