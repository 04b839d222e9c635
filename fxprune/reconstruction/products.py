"""Products with weights: what of a model can read differently, and where an intercept goes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fxprune.folding import Product
from fxprune.reference import StateMode, is_state
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
Key = tuple[int, int]
"""Where a weight lies: its memory and its offset there."""


WIDEST = 4096
"""The most channels that are told from one another: their moments take 400 MB. Of a flattened axis
that is longer, only the channels are, and not their places."""


def key_of(weight: torch.Tensor) -> Key:
    """What tells a weight from others, and a part of a packed one from its other parts."""
    return memory(weight), int(weight.storage_offset())


@dataclass(frozen=True)
class Read:
    """One product of a value and a weight, as it runs.

    Attributes:
        weight: a view of the weight, [rows, c / groups, taps...].
        name: of the parameter that the weight is, or is a part of.
        x: what is read, [n, c]: a row for each sample and place. The places of a flattened axis
            are taps of the weight, too.
        gone: the mask [c] of positions that are removed.
        groups: of a convolution.
        shares: for each tap the share of places at which it does not read padding, [taps...].
        why: why it cannot read differently, or nothing.
    """

    weight: torch.Tensor
    name: str
    x: torch.Tensor
    gone: np.ndarray[Any, np.dtype[np.bool_]]
    groups: int
    shares: torch.Tensor
    why: str


@dataclass
class Uses:
    """What a model does with its weights, as one run of it shows.

    Attributes:
        reads: how often each weight is used, but for views of it.
        takers: what can take up a constant that is to be added to what a weight's product yields,
            and with which sign: a bias that is added to that and nothing else, or the running mean
            of the batch norm that alone reads it.
    """

    reads: Counter[Key] = field(default_factory=Counter)
    takers: dict[Key, tuple[torch.Tensor, int]] = field(default_factory=dict)


class ReadingMode(StateMode):
    """Runs a model, removed positions left out, and hands over its products with weights.

    Attributes:
        found: the products that ran since it was emptied.
        is_collecting: whether they are kept.
        uses: what is noted of weights, in a first run, or None.
    """

    def __init__(self, labels: LabelAlgebra, removed: Removed, gone: Removed, norm: Norm) -> None:
        super().__init__(labels, removed, norm=norm)
        self.lost = gone
        self.found: list[Read] = []
        self.is_collecting = True
        self.uses: Uses | None = None
        self._made: dict[int, tuple[torch.Tensor, Key]] = {}
        self._taken: Counter[int] = Counter()
        self._biased: set[Key] = set()

    def run(self, call: Call, rule: Rule) -> Any:
        """Run an operator; note what it reads."""
        product = Product.of(call)
        if product is not None and self.is_collecting:
            read = self.read(call, rule, product)
            if read is not None:
                self.found.append(read)
        out = super().run(call, rule)
        if self.uses is not None:
            self.note(call, product, out)
        return out

    def read(self, call: Call, rule: Rule, product: Product) -> Read | None:
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
        why = ""
        if not product.mixes:
            why = "each channel is read on its own"
        elif is_convolution and call.arg("transposed"):
            why = "a transposed convolution"
        elif weight.dim() == 3 and not is_convolution:
            why = "a product of several matrices at once"
        elif not x.is_floating_point():
            why = "what it reads are no real numbers"
        elif len(gone) // groups > WIDEST:
            why = f"it reads more than {WIDEST} channels, whose moments take too much memory"
        by_row = weight.movedim(product.rows, 0)
        rows = x.movedim(dim, -1)
        if places > 1:
            by_row = by_row.unflatten(1, (-1, places))
            rows = rows.unflatten(-1, (-1, places)).movedim(-2, -1)
        return Read(
            weight=by_row,
            name=str(getattr(weight, STATE_NAME)),
            x=rows.reshape(-1, len(gone)),
            gone=gone,
            groups=groups,
            shares=_shares(call, by_row) if is_convolution and not why else torch.ones(()),
            why=why,
        )

    def note(self, call: Call, product: Product | None, out: Any) -> None:
        """Note what is read of weights, and what reads the products."""
        assert self.uses is not None
        outputs = tensors_in([out])
        views = {memory(tensor): tensor for tensor in outputs}
        for tensor in call.tensors():
            if is_state(tensor) and memory(tensor) not in views:
                self.uses.reads[key_of(tensor)] += 1
            if id(tensor) in self._made:
                self._taken[id(tensor)] += 1
                self.follow(call, tensor, views)
        if product is not None and outputs:
            key = key_of(call.arg(product.weight))
            self._made[id(outputs[0])] = (outputs[0], key)  # or another one could get its id
            if product.bias is not None and is_state(bias := call.arg(product.bias)):
                self.uses.takers[key] = (bias, 1)
                self._biased.add(key)

    def follow(self, call: Call, made: torch.Tensor, views: Mapping[int, torch.Tensor]) -> None:
        """Note who reads a product, and what could take up a constant there."""
        assert self.uses is not None
        key = self._made[id(made)][1]
        if (view := views.get(memory(made))) is not None:
            self._made[id(view)] = (view, key)
        elif call.op is aten.add.Tensor and call.arg("alpha") == 1:
            other = call.arg("other" if call.arg("self") is made else "self")
            if isinstance(other, torch.Tensor) and is_state(other) and other.dim() == 1:
                self.uses.takers.setdefault(key, (other, 1))
        elif call.op._overloadpacket in BATCH_NORMS and call.arg("input") is made:
            mean = call.arg("running_mean") if call.has("running_mean") else None
            if mean is not None and is_state(mean) and not _trains(call):
                self.uses.takers.setdefault(key, (mean, -1))

    def finished(self) -> Uses:
        """What one whole run has shown."""
        assert self.uses is not None
        shared = {key for number, (_, key) in self._made.items() if self._taken[number] != 1}
        self.uses.takers = {
            key: (taker, sign)
            for key, (taker, sign) in self.uses.takers.items()
            if self.uses.reads[key_of(taker)] == 1 and (key not in shared or key in self._biased)
        }
        self._made.clear()
        return self.uses


def _places(vectors: Sequence[Ids]) -> int:
    """How many positions of a flattened axis in a row carry the same channels each."""
    found = 0
    for vector in vectors:
        found = math.gcd(found, len(vector), *(np.flatnonzero(np.diff(vector)) + 1).tolist())
    return found or 1


def _trains(call: Call) -> bool:
    """Whether a batch norm takes the statistics of the batch."""
    return bool(call.arg("training")) if call.has("training") else "update" in call.name


def _shares(call: Call, weight: torch.Tensor) -> torch.Tensor:
    """For each tap of a convolution, at which share of the places it reads no padding."""
    x = call.arg("input")
    rank = weight.dim() - 2
    inside = torch.ones(1, 1, *x.shape[2:], dtype=torch.float64)
    taps = torch.eye(weight[0, 0].numel(), dtype=torch.float64)
    kernel = taps.view(-1, 1, *weight.shape[2:])
    options = (call.arg(name) for name in ("stride", "padding", "dilation"))
    with torch.utils._python_dispatch._disable_current_modes():
        read = aten.convolution(inside, kernel, None, *options, False, [0] * rank, 1)
        shares: torch.Tensor = read.flatten(2).mean(2)[0].view(weight.shape[2:])
        return shares
