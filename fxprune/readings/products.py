"""Products with weights: what of a model can read differently, and where a constant can go."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fxprune.labels import Axis
from fxprune.products import Product
from fxprune.readings.parts import Outcome, Part, columns
from fxprune.reference import PARTNERS, StateMode, is_state, run_quietly
from fxprune.rules import tensors_in
from fxprune.rules.normalization import BATCH_NORMS
from fxprune.traces import STATE_NAME
from fxprune.values import memory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fxprune.labels import Ids, LabelAlgebra
    from fxprune.meaning import Norm
    from fxprune.reference import Removed
    from fxprune.rules import Call, Rule

aten = torch.ops.aten
WIDEST = 4096
"""The most channels that are told from one another: their moments take 400 MB. Of a flattened axis
that is longer, only the channels are, and not their places."""
ON_ITS_OWN = "each channel is read on its own"
_NOTHING = np.zeros(0, dtype=np.bool_)
_RESHAPES = frozenset({aten.view.default, aten._unsafe_view.default})


@dataclass(frozen=True)
class Taker:
    """What can take up a constant that is to be added to what a product yields.

    Attributes:
        part: a bias, or the running mean of a batch norm.
        sign: with which it is added.
        is_inside: whether the product itself adds it.
    """

    part: Part
    sign: int
    is_inside: bool


@dataclass
class Read(Outcome):
    """One product of a value and a weight, as it runs; `gone` is of the channels that it reads.

    Attributes:
        rows: the dim of the weight that makes the channels of the outcome.
        x: what is read, [n, c]: a row for each sample and place. The places of a flattened axis
            are taps of the weight, too.
        places: how many there are of these.
        axis: the channels of the positions of x, [c].
        groups: of a convolution.
        reads: how often each place of a sample is read by a tap, as a share of taps, [places]; None
            if all are read alike.
    """

    rows: int
    x: torch.Tensor
    places: int
    axis: Axis
    groups: int
    reads: torch.Tensor | None

    def read_rows(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The rows of some of `x` that are read at all, and how often each is."""
        if self.reads is None:
            return x, None
        times = self.reads.to(x.device).repeat(len(x) // len(self.reads))
        return x[times > 0], times[times > 0]

    def weight(self, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """A view of the weight in a copy of the model: [rows, c / groups, taps...]."""
        assert self.part is not None
        by_row = self.part.of(state).movedim(self.rows, 0)
        return by_row.unflatten(1, (-1, self.places)) if self.places > 1 else by_row


@dataclass
class Uses:
    """What a model does with its weights, as one run of it shows.

    Attributes:
        parts: for each use of a stored tensor, but for views of it, what is read.
        takers: what can take up a constant, for each weight of a product.
        written: the names of stored tensors that forward writes into.
    """

    parts: list[Part] = field(default_factory=list)
    takers: dict[Part, Taker] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)

    def is_alone(self, part: Part) -> bool:
        """Whether one operator reads a part, and none what overlaps it."""
        return sum(part.overlaps(other) for other in self.parts) == 1

    def why_not(self, read: Outcome) -> str:
        """Why a product cannot read differently, or nothing."""
        if read.why:
            return read.why
        if read.part is None or not self.is_alone(read.part):
            return "its weight is used elsewhere"
        return "forward writes into its weight" if read.name in self.written else ""

    def taker(self, weight: Part) -> Taker | None:
        """What takes up a constant for a product with a weight, and for nothing else."""
        found = self.takers.get(weight)
        if found is None or found.part.name in self.written or not self.is_alone(found.part):
            return None
        return found


class ReadingMode(StateMode):
    """Runs a model, removed positions left out, and hands over its products with weights.

    Args:
        labels: those of the run.
        removed: which positions do not count in it.
        lost: which positions the plan removes.
        norm: see `shrink`.
        names: the stored tensors of the model that runs, by their memory.

    Attributes:
        found: the products that ran since it was emptied.
        uses: what is noted of weights, or None.
        all_sums: whether what sums over removed channels without a weight counts, too.
        instead: the stored tensors of another copy of the model, or none. With them, every product
            is tried for what is kept, too.
        trials: these products.
    """

    def __init__(
        self,
        labels: LabelAlgebra,
        removed: Removed,
        lost: Removed,
        norm: Norm,
        names: Mapping[int, str],
    ) -> None:
        super().__init__(labels, removed, norm=norm)
        self.lost = lost
        self.names = names
        self.found: list[Outcome] = []
        self.uses: Uses | None = None
        self.all_sums = False
        self.instead: Mapping[str, torch.Tensor] = {}
        self.trials: list[Outcome] = []
        self._made: dict[int, tuple[torch.Tensor, Part, int]] = {}
        self._taken: Counter[int] = Counter()

    def part(self, tensor: torch.Tensor) -> Part | None:
        """What of the stored tensors a tensor is a view of, if it is."""
        name = self.names.get(memory(tensor))
        if name is None:
            return None
        return Part(name, tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()))

    def run(self, call: Call, rule: Rule) -> Any:
        """Run an operator; note what it reads."""
        product = Product.of(call)
        read = self.read(call, product) if product is not None else None
        others = self.others(call, rule) if product is None else []
        self.found += others
        self.trials += others
        out = super().run(call, rule)
        if read is not None and product is not None:
            read.out = self.outcome(call, read, out)
            self.found.append(read)
            if self.instead:
                self.trials.append(self.trial(call, product, read))
        if self.uses is not None:
            self.note(call, product, out)
        return out

    def outcome(self, call: Call, read: Read, out: torch.Tensor) -> torch.Tensor:
        """What a product yields, [n, rows], at the channels that are kept."""
        return columns(out, _channel_dim(call, out), read.kept_rows)

    def trial(self, call: Call, product: Product, read: Read) -> Read:
        """The same product of what is kept, with the weights of another copy of the model."""
        if read.why or read.part is None:
            return read
        x = call.arg(product.x)
        dim = 1 if call.op is aten.convolution.default else x.dim() - 1
        gone = torch.from_numpy(np.flatnonzero(np.repeat(read.gone, read.places)))
        given = {product.x: x.index_fill(dim, gone.to(x.device), 0)}
        given[product.weight] = read.part.of(self.instead)
        if product.bias is not None and (bias := call.arg(product.bias)) is not None:
            own = self.part(bias)
            given[product.bias] = bias if own is None else own.of(self.instead)
        args, kwargs = call.replaced(**given)
        return replace(read, out=self.outcome(call, read, run_quietly(call.op, args, kwargs)))

    def read(self, call: Call, product: Product) -> Read | None:
        """A product that reads channels which are removed; None if it reads none."""
        x, weight = call.arg(product.x), call.arg(product.weight)
        is_convolution = call.op is aten.convolution.default
        dim = 1 if is_convolution else x.dim() - 1
        axes = call.axes(product.x)
        gone = self.lost(axes[dim]) if axes else np.zeros(x.shape[dim], dtype=np.bool_)
        if not gone.any():
            return None
        groups = call.arg("groups") if is_convolution else 1
        places = 1
        if not is_convolution and len(gone) > WIDEST:
            places = _places(self.labels.leaves(axes[dim]))
            gone = gone[::places]
        vectors = tuple(vector[::places] for vector in self.labels.leaves(axes[dim]))
        part = self.part(weight)
        why = ""
        if not product.mixes:
            why = ON_ITS_OWN
        elif is_convolution and call.arg("transposed"):
            why = "a transposed convolution"
        elif weight.dim() == 3 and not is_convolution:
            why = "a product of several matrices at once"
        elif not x.is_floating_point():
            why = "what it reads are no real numbers"
        elif len(gone) // groups > WIDEST:
            why = f"it reads more than {WIDEST} channels, whose moments take too much memory"
        elif part is None or 0 in part.stride:
            why = "its weight is computed of others"
        rows = x.movedim(dim, -1)
        if places > 1:
            rows = rows.unflatten(-1, (-1, places)).movedim(-2, -1)
        return Read(
            part=part,
            name=str(getattr(weight, STATE_NAME)),
            rows=product.rows,
            x=rows.reshape(-1, len(gone)),
            places=places,
            axis=Axis(len(gone), vectors),
            gone=gone,
            groups=groups,
            reads=_reads(call, weight) if is_convolution and not why else None,
            why=why,
            out=x.new_empty(0, 0),
            kept_rows=torch.from_numpy(np.flatnonzero(~self.lost(product.channels(call)))),
        )

    def others(self, call: Call, rule: Rule) -> list[Read]:
        """What sums over removed channels beside a weight, and is no product of the known kinds.

        With `all_sums` also what sums over them without one.
        """
        weights = [tensor for tensor in call.tensors() if is_state(tensor)]
        if not weights and not self.all_sums:
            return []
        sums = [*rule.sums(call)]
        if sums and call.op in PARTNERS:
            sums.append(PARTNERS[call.op])
        found = {}
        for name, dim in sums:
            x, axes = call.arg(name), call.axes(name)
            gone = self.lost(axes[dim]) if axes and not is_state(x) else _NOTHING
            if gone.any():
                found[name, dim] = Read(
                    part=None,
                    name=str(getattr(weights[0], STATE_NAME)) if weights else "",
                    rows=0,
                    x=x.movedim(dim, -1).reshape(-1, len(gone)),
                    places=1,
                    axis=Axis(len(gone), self.labels.leaves(axes[dim])),
                    gone=gone,
                    groups=1,
                    reads=None,
                    why=f"{call.op} takes it in another way than linear layers do",
                    out=x.new_empty(0, len(gone)),
                    kept_rows=torch.arange(0),
                )
        return [*found.values()]

    def note(self, call: Call, product: Product | None, out: Any) -> None:
        """Note what is read of stored tensors, and what reads the products."""
        assert self.uses is not None
        outputs = tensors_in([out])
        views = {memory(tensor) for tensor in outputs}
        for tensor in call.tensors():
            part = self.part(tensor)
            if part is not None and memory(tensor) not in views:
                self.uses.parts.append(part)
            if id(tensor) in self._made:
                self._taken[id(tensor)] += 1
                self.follow(call, tensor, outputs)
        weight = None if product is None else self.part(call.arg(product.weight))
        if product is not None and weight is not None:
            # the tensor is kept, for another one could get its id
            self._made[id(outputs[0])] = (outputs[0], weight, _channel_dim(call, outputs[0]))
            bias = None if product.bias is None else call.arg(product.bias)
            own = None if bias is None or not _adds_as_it_is(call) else self.part(bias)
            count = outputs[0].shape[_channel_dim(call, outputs[0])]
            if own is not None and own.is_for_each(count):
                self.uses.takers[weight] = Taker(own, 1, is_inside=True)

    def follow(self, call: Call, made: torch.Tensor, outputs: Sequence[torch.Tensor]) -> None:
        """Note who reads a product, and what could take up a constant there."""
        assert self.uses is not None
        _, weight, dim = self._made[id(made)]
        is_last = dim == made.dim() - 1
        if call.op in _RESHAPES and is_last and outputs[0].shape[-1:] == made.shape[-1:]:
            self._made[id(outputs[0])] = (outputs[0], weight, outputs[0].dim() - 1)
            return
        taker, sign = None, 1
        if call.op is aten.add.Tensor and call.arg("alpha") == 1 and is_last:
            other = call.arg("other" if call.arg("self") is made else "self")
            if isinstance(other, torch.Tensor) and other.shape == made.shape[-1:]:
                taker = self.part(other)
        elif call.op._overloadpacket in BATCH_NORMS and call.arg("input") is made and dim == 1:
            mean = call.arg("running_mean") if call.has("running_mean") else None
            if mean is not None and not trains(call):
                taker, sign = self.part(mean), -1
        if taker is not None and taker.is_for_each(made.shape[dim]):
            self.uses.takers.setdefault(weight, Taker(taker, sign, is_inside=False))

    def finished(self, returned: Sequence[torch.Tensor]) -> None:
        """What one whole run has shown.

        Args:
            returned: what the model returns.
        """
        assert self.uses is not None
        for tensor in returned:
            self._taken[id(tensor)] += 1
            if (part := self.part(tensor)) is not None:
                self.uses.parts.append(part)
        shared = {weight for i, (_, weight, _) in self._made.items() if self._taken[i] != 1}
        for weight in shared:
            taker = self.uses.takers.get(weight)
            if taker is not None and not taker.is_inside:
                del self.uses.takers[weight]
        self.uses.written = {self.names[m] for m in self.written if m in self.names}
        self._made.clear()


def _channel_dim(call: Call, out: torch.Tensor) -> int:
    """The dim of a product's outcome that its channels are on."""
    return 1 if call.op is aten.convolution.default else out.dim() - 1


def _adds_as_it_is(call: Call) -> bool:
    """Whether a product adds its bias without a factor, and has none itself."""
    return all(not call.has(name) or call.arg(name) == 1 for name in ("alpha", "beta"))


def _places(vectors: Sequence[Ids]) -> int:
    """How many positions of a flattened axis in a row carry the same channels each."""
    found = 0
    for vector in vectors:
        found = math.gcd(found, len(vector), *(np.flatnonzero(np.diff(vector)) + 1).tolist())
    return found or 1


def trains(call: Call) -> bool:
    """Whether a batch norm takes the statistics of the batch."""
    return bool(call.arg("training")) if call.has("training") else "update" in call.name


def _reads(call: Call, weight: torch.Tensor) -> torch.Tensor | None:
    """How often a convolution reads each place of a sample, as a share of its taps."""
    sizes, rank = call.arg("input").shape[2:], weight.dim() - 2
    options = [[*call.arg(name)] for name in ("stride", "padding", "dilation")]
    options = [each * rank if len(each) == 1 else each for each in options]
    kernel = torch.ones(1, 1, *weight.shape[2:], dtype=torch.float64)
    nothing = torch.zeros(1, 1, *sizes, dtype=torch.float64)
    with torch.utils._python_dispatch._disable_current_modes():
        out = aten.convolution(nothing, kernel, None, *options, False, [0] * rank, 1)
        # what is read where is the transpose of what is made of it, with what no tap reaches
        places = zip(sizes, out.shape[2:], weight.shape[2:], *options, strict=True)
        more = [n - (m - 1) * s + 2 * p - d * (k - 1) - 1 for n, m, k, s, p, d in places]
        ones = torch.ones_like(out)
        times = aten.convolution(ones, kernel, None, *options, True, more, 1)
    found: torch.Tensor = times.flatten() / kernel.numel()
    return None if bool((found == found[0]).all()) else found
