"""Norms as they run: channels that are multiplied by a stored vector, and what comes of that."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch

from fxprune.readings.parts import Outcome, Part, columns
from fxprune.readings.products import Read, ReadingMode, Taker, trains
from fxprune.reference import StateMode, is_state, run_quietly
from fxprune.rules import Call, put_axes, tensors_in
from fxprune.rules.normalization import BATCH_NORMS
from fxprune.traces import STATE_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch._ops import OpOverload

    from fxprune.products import Product
    from fxprune.rules import Rule

Norms: TypeAlias = Literal["refit", "reestimate", "keep"]
"""What is repaired of normalizations; see `reconstruct`."""

aten = torch.ops.aten
_ORIGIN = "_fxprune_origin"
_UNMIXED = frozenset({aten.repeat.default, aten._to_copy.default})


@dataclass(frozen=True)
class Origin:
    """How a vector is made of a stored one: it is that, or that repeated, cast, or plus a number.

    Attributes:
        part: the stored tensor, or the view of it.
        steps: the operators, each with what it takes beside the vector.
    """

    part: Part
    steps: tuple[tuple[OpOverload, tuple[Any, ...], tuple[tuple[str, Any], ...]], ...] = ()

    def of(self, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The vector, of the tensors of another copy of the model."""
        made = self.part.of(state)
        for op, args, kwargs in self.steps:
            made = run_quietly(op, (made, *args), dict(kwargs))
        return made


@dataclass(frozen=True)
class Place:
    """Where an operator scales channels.

    Attributes:
        x: the operand whose channels they are.
        scale: the operand that has the scale, if there is one.
        shift: the operand that has the shift, if there is one.
        dims: the dims of the channels in `x`.
    """

    x: str
    scale: str
    shift: str
    dims: tuple[int, ...]

    @classmethod
    def of(cls, call: Call) -> Place | None:
        """Where an operator does, if it does."""
        packet = call.op._overloadpacket
        if packet in BATCH_NORMS:
            return cls("input", "weight", "bias", (1,))
        if packet is aten.native_layer_norm:
            rank, count = call.arg("input").dim(), len(call.arg("normalized_shape"))
            return cls("input", "weight", "bias", tuple(range(rank - count, rank)))
        if packet is aten.native_group_norm:
            return cls("input", "weight", "bias", (1,))
        if call.op in (aten.mul.Tensor, aten.mul_.Tensor):
            return cls._of_factor(call)
        return None

    @classmethod
    def _of_factor(cls, call: Call) -> Place | None:
        """The multiplication by a vector along one dim, as by hand: RMS norms, layer scales."""
        for x, scale in (("self", "other"), ("other", "self")):
            value, vector = call.arg(x), call.arg(scale)
            if not (isinstance(vector, torch.Tensor) and isinstance(value, torch.Tensor)):
                return None
            if not is_state(vector) or is_state(value) or vector.dim() > value.dim():
                continue
            shape = (1,) * (value.dim() - vector.dim()) + tuple(vector.shape)
            long = [dim for dim, size in enumerate(shape) if size > 1]
            if len(long) == 1 and value.shape[long[0]] == shape[long[0]]:
                return cls(x, scale, "", (long[0],))
        return None


@dataclass
class NormRead(Outcome):
    """One norm, as it runs; `part` is its scale, or its running mean if that is what is repaired.

    Attributes:
        scale: how its scale is made of stored tensors.
        shift: the same of its shift; None if it has none.
        statistics: its running mean and variance, if these are to be told anew.
        x: what it reads, [n, rows], at the channels that are kept; nothing if no one needs it.
    """

    scale: Origin | None
    shift: Origin | None
    statistics: tuple[Part, Part] | None
    x: torch.Tensor


@dataclass(frozen=True)
class Wanted:
    """What of a model is to be handed over.

    Attributes:
        products: whether products with weights are.
        norms: which norms are, and what of them.
        state: the stored tensors of the model that runs.
    """

    products: bool
    norms: Norms
    state: Mapping[str, torch.Tensor]

    def is_learned(self, name: str) -> bool:
        """Whether a stored tensor is a parameter."""
        return isinstance(self.state.get(name), torch.nn.Parameter)


class NormMode(ReadingMode):
    """As ReadingMode, and hands over norms, too.

    Args:
        reading: the arguments of ReadingMode.
        wanted: what is handed over.
    """

    def __init__(self, *reading: Any, wanted: Wanted) -> None:
        super().__init__(*reading)
        self.wanted = wanted
        self._made_of: list[tuple[torch.Tensor, Part]] = []
        self._times_read: Counter[int] = Counter()

    def read(self, call: Call, product: Product) -> Read | None:
        """A product that reads channels which are removed, if products are wanted."""
        return super().read(call, product) if self.wanted.products else None

    def others(self, call: Call, rule: Rule) -> list[Read]:
        """What else sums over removed channels, if products are wanted."""
        return super().others(call, rule) if self.wanted.products else []

    def run(self, call: Call, rule: Rule) -> Any:
        """Run an operator; note what it reads, and what it yields if it is a norm."""
        if self.wanted.norms == "keep":
            return super().run(call, rule)
        call = self.current(call)
        place = Place.of(call)
        norm = None if place is None else self.scaling(call, place)
        out = super().run(call, rule)
        self.derive(call, out)
        if norm is not None and place is not None:
            norm.out = self.rows(place, norm, out)
            self.found.append(norm)
            if self.instead:
                self.trials.append(self.norm_trial(call, rule, place, norm))
        return out

    def origin(self, tensor: Any) -> Origin | None:
        """How a tensor is made of a stored vector, if it is."""
        if not isinstance(tensor, torch.Tensor):
            return None
        known: Origin | None = getattr(tensor, _ORIGIN, None)
        if known is None and (part := self.part(tensor)) is not None and 0 not in part.stride:
            return Origin(part)
        return known

    def derive(self, call: Call, out: Any) -> None:
        """Note of a vector how it is made of a stored one."""
        if call.op._schema.is_mutable:
            for tensor in tensors_in([out]):
                tensor.__dict__.pop(_ORIGIN, None)
        is_sum = call.op is aten.add.Tensor and isinstance(call.arg("other"), (int, float))
        if (not is_sum and call.op not in _UNMIXED) or not is_state(call.args[0]):
            return
        source = self.origin(call.args[0])
        if source is not None and self.part(out) is None and out.dim() == 1:
            step = (call.op, tuple(call.args[1:]), tuple(call.kwargs.items()))
            setattr(out, _ORIGIN, Origin(source.part, (*source.steps, step)))
            if self.uses is not None:
                self._made_of.append((out, source.part))

    def current(self, call: Call) -> Call:
        """The call with vectors that are made of the stored ones as these are now."""
        place = Place.of(call)
        changes = {}
        for name in filter(None, (place.scale, place.shift) if place is not None else ()):
            old = call.arg(name)
            origin: Origin | None = getattr(old, _ORIGIN, None)
            if origin is not None and self.uses is None:
                changes[name] = origin.of(self.wanted.state)
                put_axes(changes[name], call.axes(old))
                for mark in (STATE_NAME, _ORIGIN):
                    setattr(changes[name], mark, getattr(old, mark))
        if not changes:
            return call
        args, kwargs = call.replaced(**changes)
        return Call(self.labels, call.op, args, kwargs)

    def scaling(self, call: Call, place: Place) -> NormRead | None:
        """A norm that there may be something to repair of, without its outcome."""
        weight = call.arg(place.scale)
        name = "" if weight is None else str(getattr(weight, STATE_NAME, ""))
        if self.wanted.norms == "reestimate":
            statistics = self.statistics(call)
            if statistics is None:
                return None
            made = self.empty(call, place, name or statistics[0].name, statistics)
            return replace(made, x=self.rows(place, made, call.arg(place.x)))
        if not name or not (place.shift or self.wanted.is_learned(name)):
            return None
        return self.empty(call, place, name, None)

    def empty(
        self, call: Call, place: Place, name: str, statistics: tuple[Part, Part] | None
    ) -> NormRead:
        """A norm without values."""
        bias = call.arg(place.shift) if place.shift else None
        scale, shift = self.origin(call.arg(place.scale)), self.origin(bias)
        part, why = None if scale is None else scale.part, ""
        if statistics is not None:
            part = statistics[0]
        elif scale is None:
            why = "its scale is computed of others"
        elif bias is not None and shift is None:
            why = "its shift is computed of others"
        gone = self.lost_channels(call, place)
        if part is not None:  # of an instance norm channels repeat for each sample
            gone = gone[: math.prod(part.size)]
        nothing = call.arg(place.x).new_empty(0, 0)
        return NormRead(
            part=part,
            name=name,
            gone=gone,
            why=why,
            out=nothing,
            kept_rows=torch.from_numpy(np.flatnonzero(~gone)),
            scale=scale,
            shift=shift,
            statistics=statistics,
            x=nothing,
        )

    def statistics(self, call: Call) -> tuple[Part, Part] | None:
        """The stored running mean and variance that a batch norm takes, if it does."""
        if call.op._overloadpacket not in BATCH_NORMS or trains(call):
            return None
        if not call.has("running_mean") or call.arg("running_mean") is None:
            return None
        mean, var = (self.part(call.arg(f"running_{name}")) for name in ("mean", "var"))
        return None if mean is None or var is None else (mean, var)

    def lost_channels(self, call: Call, place: Place) -> NDArray[np.bool_]:
        """The mask of channels that the plan removes, in the order of the scale's elements."""
        gone = np.zeros((1,), dtype=np.bool_)
        axes = call.axes(place.x)
        for dim in place.dims:
            gone = np.logical_or.outer(gone, self.lost(axes[dim]))
        return gone.reshape(-1)

    def rows(self, place: Place, norm: NormRead, out: Any) -> torch.Tensor:
        """What a norm reads or yields, [n, rows], at the channels that are kept."""
        made: torch.Tensor = out[0] if isinstance(out, (tuple, list)) else out
        count = len(norm.gone)
        dim = place.dims[0]
        if len(place.dims) == 1:
            return columns(made.unflatten(dim, (-1, count)), dim + 1, norm.kept_rows)
        return columns(made.reshape(-1, count), 1, norm.kept_rows)

    def norm_trial(self, call: Call, rule: Rule, place: Place, norm: NormRead) -> NormRead:
        """The same norm of what is kept, with the scale and shift of another copy of the model."""
        reads = [self.lost(call.axes(name)[dim]) for name, dim in rule.normalizes(call)]
        if norm.why or norm.scale is None or not any(gone.any() for gone in reads):
            return norm
        given = {}
        for name, origin in ((place.scale, norm.scale), (place.shift, norm.shift)):
            if origin is not None:
                given[name] = origin.of(self.instead)
                put_axes(given[name], call.axes(name))
        args, kwargs = call.replaced(**given)
        removed, self.removed = self.removed, self.lost
        try:
            out = StateMode.run(self, Call(self.labels, call.op, args, kwargs), rule)
        finally:
            self.removed = removed
        return replace(norm, out=self.rows(place, norm, out))

    def note(self, call: Call, product: Product | None, out: Any) -> None:
        """Note what is read of stored tensors, and what reads norms without a shift."""
        super().note(call, product, out)
        assert self.uses is not None
        for tensor in call.tensors():
            self._times_read[id(tensor)] += hasattr(tensor, _ORIGIN)
        place = Place.of(call)
        scale = None if place is None else self.origin(call.arg(place.scale))
        if place is None or scale is None or self.wanted.norms != "refit":
            return
        if place.shift and call.arg(place.shift) is not None:
            shift = self.origin(call.arg(place.shift))
            if shift is not None:
                self.uses.takers[scale.part] = Taker(shift.part, 1, is_inside=True)
        elif len(place.dims) == 1:
            first = out[0] if isinstance(out, (tuple, list)) else out
            self._made[id(first)] = (first, scale.part, place.dims[0])

    def finished(self, returned: Sequence[torch.Tensor]) -> None:
        """What one whole run has shown; vectors that are read twice count as read twice."""
        super().finished(returned)
        assert self.uses is not None
        for tensor, part in self._made_of:
            if self._times_read[id(tensor)] != 1:
                self.uses.parts.append(part)
        self._made_of.clear()
