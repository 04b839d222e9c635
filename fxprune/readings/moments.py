"""Second moments of what a layer reads, and the regression that they answer.

With x what the layer read in the original, z what it reads now (the kept positions, of the original
or of a model that was already pruned before it), and S the matrix that puts z back in its places,
A minimizes

    sum w |x - (S + A) z - b|^2 + ridge * level * |A|^2

over all samples and places, for the best b, where w is how often the layer reads a place, and level
the mean over kept positions of their (centred) second moments. The layer's weights W on x then
become W (S + A) on z. That is ridge regression with an intercept that is not penalized (Hastie et
al., The Elements of Statistical Learning, 2009, section 3.4.1), for all outcomes of a layer that
reads single places at once, whatever W is, because each is linear in x. Of a convolution with a
larger kernel it is the best for each tap by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fxprune.readings.parts import in_blocks


def steady(dtype: torch.dtype) -> float:
    """The share of a second moment up to which the variance of values of a type is rounding."""
    return max(1e-12, 16 * torch.finfo(dtype).eps ** 2)


def penalty(ridge: float | None, channels: int, rows: Tensor) -> float:
    """A ridge, or by default 0.001 and the number of channels for each row.

    So what is told of few samples is told with caution: with as many rows as channels the penalty
    is as large as a mean second moment.
    """
    return 1e-3 + channels / float(rows) if ridge is None else ridge


class Moments:
    """Sums over samples and places of x, z and products with z, in float64.

    They add up: those of several batches, or processes, are the sums of theirs.

    Args:
        kept: the positions of z in x, in order.
        size: of x.
        dtype: of what is read.
    """

    def __init__(self, kept: Tensor, size: int, dtype: torch.dtype = torch.float32) -> None:
        self.kept = kept
        self._steady = steady(dtype)
        self.count = kept.new_zeros((), dtype=torch.float64)
        self.x, self.z = (self.count.new_zeros(n) for n in (size, len(kept)))
        self.xz = self.count.new_zeros(size, len(kept))
        self.zz = self.count.new_zeros(len(kept), len(kept))

    def add(self, x: Tensor, z: Tensor, weights: Tensor | None = None) -> None:
        """Take in rows [n, c] of x and the rows [n, k] of z beside them.

        Args:
            x: what was read.
            z: what is read now.
            weights: how often each row counts, [n]; by default once.
        """
        self.count += len(x) if weights is None else weights.sum()
        for whole, kept, *times in in_blocks(x, z, *_given(weights)):
            heavy = times[0][:, None] * kept if times else kept
            self.x += times[0] @ whole if times else whole.sum(0)
            self.z += heavy.sum(0)
            self.xz += whole.T @ heavy
            self.zz += kept.T @ heavy

    def tensors(self) -> list[Tensor]:
        """All sums."""
        return [self.count, self.x, self.z, self.xz, self.zz]

    def fit(self, ridge: float | None, *, about_mean: bool) -> Tensor:
        """A, [c, k] in float64.

        Args:
            ridge: what is added to the diagonal of the second moments, in units of its mean; see
                `penalty` for the default.
            about_mean: whether there is a b; else moments are not centred.
        """
        products, second = self.xz.clone(), self.zz
        products[self.kept] -= self.zz
        if about_mean:
            rest = self.x.clone()
            rest[self.kept] -= self.z
            mean = self.z / self.count
            products = products - torch.outer(rest, mean)
            second = second - torch.outer(self.z, mean)
        varies = second.diagonal() > self._steady * self.zz.diagonal()
        mixing = torch.zeros_like(products)
        if bool(varies.any()):
            own = second[varies][:, varies]
            level = own.diagonal().mean()
            own.diagonal().add_(penalty(ridge, len(own), self.count) * level)
            mixing[:, varies] = _solved(own, products[:, varies].T).T
        return mixing


class Covariance:
    """Sums over samples and places of x and its products, in float64; they add up.

    Args:
        size: of x.
        device: of x.
        dtype: of x.
        is_whole: whether all products are wanted, [n, n], or the squares only, [n].
    """

    def __init__(
        self, size: int, device: torch.device, dtype: torch.dtype, *, is_whole: bool
    ) -> None:
        self._steady = steady(dtype)
        self.count = torch.zeros((), dtype=torch.float64, device=device)
        self.x = self.count.new_zeros(size)
        self.products = self.count.new_zeros((size, size) if is_whole else size)

    def add(self, x: Tensor, weights: Tensor | None = None) -> None:
        """Take in rows [m, n] of x, each as often as its weight in [m] says, or once."""
        self.count += len(x) if weights is None else weights.sum()
        for whole, *times in in_blocks(x, *_given(weights)):
            heavy = times[0][:, None] * whole if times else whole
            self.x += heavy.sum(0)
            is_whole = self.products.dim() == 2
            self.products += whole.T @ heavy if is_whole else (whole * heavy).sum(0)

    def tensors(self) -> list[Tensor]:
        """All sums."""
        return [self.count, self.x, self.products]

    def second(self, *, about_mean: bool) -> Tensor:
        """The second moment [n, n], about the mean or about zero; 0 for what is constant."""
        if not about_mean:
            return self.products / self.count
        mean = self.x / self.count
        found = self.products / self.count - torch.outer(mean, mean)
        varies = found.diagonal() > self._steady * mean.square()
        return found * torch.outer(varies, varies)


def _given(weights: Tensor | None) -> tuple[Tensor, ...]:
    return () if weights is None else (weights,)


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    """The solution for a positive matrix; that of the least norm if it is singular."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if not int(failed):
        return torch.cholesky_solve(right, factor)
    solution: Tensor = torch.linalg.lstsq(matrix.cpu(), right.cpu(), driver="gelsd").solution
    return solution.to(matrix)
