"""How much rounding does to a model: what is no error although it exceeds the tolerance.

The tolerance of a comparison holds for most models. A model may be worse conditioned: where numbers
of 1e7 go into a softmax, rounding in the 16th digit is the 9th digit of what comes out. Then, and
only then, it is measured what rounding does: the masked original is run again, with every weight
and every input changed in its last bit, at random. What a value changes by is its *noise*. A
difference is rounding if it is at most `FACTOR` times the noise of the same value.

Could a wrong model hide behind that? A difference has to pass three bars:

1. None above `CAP` passes. A wrong channel, operator or constant makes one of order 1.
2. The noise is that of the very value which differs, and is 1e-15 up to where the original becomes
   ill-conditioned. So a wrong number is found at the node or module that it enters, at the
   tolerance; behind that place, at `FACTOR` times the noise there.
3. Noise above `CHAOS` explains nothing: the original takes another path, not a slightly other
   value. Integers are never rounded, so a difference of integers never gets here.

One more case is rounding: a value that is zero but for rounding, because what it is made of
cancels. It is no measure for itself, and in float64 it may be off by `CANCELLED` times the largest
number that its node takes. What is small because its weights are is compared with itself by the
next node.

Where outputs only are compared, an error could pass that changes them no more than the last bits of
the original's weights do: the original, run on another processor, makes such errors too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch

from fxprune.differences import difference
from fxprune.errors import FxPruneError

Key: TypeAlias = tuple[str, int]
"""What is compared, in words, and which of its tensors."""
Run: TypeAlias = Iterator[tuple[Key, torch.Tensor]]

CAP = 1e-6
"""The largest difference, relative to the largest value of a tensor, that can be rounding."""
CHAOS = 1e-3
"""The largest noise that is an amplified change of last bits."""
CANCELLED = 1e-12
"""How far a value may be off in units of what it is made of, where it is zero but for rounding.

A sum of n terms rounds by n 1e-16 of them, and the longest sums of common models have 5,000 terms.
"""
FACTOR = 4
"""Rounding happens at every operation, the changes that measure it only at weights and inputs.

In 1,200 values of Swin-T and LeViT the difference was at most 1.3 times the noise.
"""
_CHUNK = 1 << 20
"""How many numbers are changed at a time."""
RUNS = 3
"""A single random change may happen to be small where a tensor has few numbers."""


@dataclass(frozen=True)
class Rounding:
    """What rounding does to the original, measured when it is first asked for.

    Attributes:
        run: gives the values of a new run of the original as it is (None), or changed at random
            with this seed.
    """

    run: Callable[[int | None], Run]

    def explains(self, key: Key, relative: float) -> bool:
        """Whether a difference is rounding, and small enough to pass."""
        return relative <= CAP and self.is_amplified(key, relative)

    def is_amplified(self, key: Key, relative: float) -> bool:
        """Whether rounding alone can make such a difference."""
        return self.at(key) <= CHAOS and relative <= FACTOR * self.at(key)

    def at(self, key: Key) -> float:
        """The noise of a value, relative to its largest number; infinite if it has no meaning."""
        return self._noise.get(key, torch.inf)

    @cached_property
    def _noise(self) -> dict[Key, float]:
        noise: dict[Key, float] = {}
        try:
            for seed in range(RUNS):
                for (key, value), (other, changed) in zip(
                    self.run(None), self.run(seed), strict=False
                ):
                    is_same = key == other and value.shape == changed.shape
                    size = difference(value, changed)[1] if is_same else torch.inf
                    noise[key] = max(noise.get(key, 0.0), size)
        except FxPruneError:  # changed like this, the original does not run
            return {}
        return noise


def nudged(value: torch.Tensor, seed: int) -> torch.Tensor:
    """A tensor whose numbers are changed in the last bit, up or down at random.

    Whole numbers stay, because masks, counts and positions are often meant exactly, and so does
    what is not in float64, which no comparison of that precision reaches.

    >>> x = torch.tensor([0.0, 0.1, 3.0], dtype=torch.float64)
    >>> (nudged(x, seed=0) - x).abs()
    tensor([0.0000e+00, 1.3878e-17, 0.0000e+00], dtype=torch.float64)
    """
    if value.dtype is not torch.float64:
        return value
    generator = torch.Generator().manual_seed(seed)
    result = value.detach().clone()
    rows = result if result.dim() else result[None]
    for part in rows.split(max(1, _CHUNK * len(rows) // max(1, rows.numel()))):
        is_up = torch.rand(part.shape, generator=generator).to(part.device) < 0.5
        ends = torch.where(is_up, torch.inf, -torch.inf).to(part.dtype)
        part.copy_(torch.where(part == part.round(), part, torch.nextafter(part, ends)))
    return result
