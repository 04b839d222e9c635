"""Second moments of what a layer reads, and the regression that they answer.

With x what the layer read in the original, z what it reads now (the kept positions, of the original
or of a model that was already pruned before it), and S the matrix that puts z back in its places,
A and b minimize

    sum |x - (S + A) z - b|^2 + ridge * (trace C / k) * |A|^2

over all samples and places, where C is the (centred) second moment of z. The layer's weights W on x
then become W (S + A) on z, and W b goes into its bias. That is ridge regression with an intercept
that is not penalized (Hastie et al., The Elements of Statistical Learning, 2009, section 3.4.1),
for all outcomes of the layer at once, whatever W is, because each is linear in x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fit:
    """How a layer reads what is kept.

    Attributes:
        mixing: A, [c, k] in float64.
        intercept: b, [c] in float64; zeros if there is none.
    """

    mixing: Tensor
    intercept: Tensor


class Moments:
    """Sums over samples and places of x, z and their products, in float64.

    They add up: those of several batches, or processes, are the sums of theirs.

    Args:
        kept: the positions of z in x, in order.
        size: of x.
    """

    def __init__(self, kept: Tensor, size: int) -> None:
        self.kept = kept
        self.count = kept.new_zeros((), dtype=torch.float64)
        self.x, self.z = (self.count.new_zeros(n) for n in (size, len(kept)))
        self.xx = self.count.new_zeros(size, size)
        self.xz = self.count.new_zeros(size, len(kept))
        self.zz = self.count.new_zeros(len(kept), len(kept))

    def add(self, x: Tensor, z: Tensor) -> None:
        """Take in rows [n, c] of x and the rows [n, k] of z beside them."""
        x, z = x.double(), z.double()
        self.count += len(x)
        self.x += x.sum(0)
        self.z += z.sum(0)
        self.xx += x.T @ x
        self.xz += x.T @ z
        self.zz += z.T @ z

    def tensors(self) -> list[Tensor]:
        """All sums."""
        return [self.count, self.x, self.z, self.xx, self.xz, self.zz]

    def fit(self, ridge: float, *, with_intercept: bool) -> Fit:
        """A and b.

        Args:
            ridge: what is added to the diagonal of C, in units of its mean; infinity for A = 0.
            with_intercept: whether there is a b; else moments are not centred.
        """
        rest, products = self._differences()
        second = self.zz
        if with_intercept:
            mean = self.z / self.count
            products = products - torch.outer(rest, mean)
            second = second - torch.outer(self.z, mean)
        level = second.diagonal().mean() if len(second) else second.new_zeros(())
        if level > 0 and ridge < math.inf:
            second = second + ridge * level * torch.eye(len(second), dtype=second.dtype).to(second)
            mixing = _solved(second, products.T).T
        else:  # all that is kept is constant, or nothing is
            mixing = torch.zeros_like(products)
        intercept = (rest - mixing @ self.z) / self.count
        return Fit(mixing, intercept if with_intercept else torch.zeros_like(intercept))

    def error(self, fit: Fit | None = None) -> Tensor:
        """The second moment [c, c] of x - (S + A) z - b; A and b are 0 without a fit."""
        rest, products = self._differences()
        back = self.xz.new_zeros(len(self.x), len(self.x))
        back[:, self.kept] = self.xz
        second = self.xx - back - back.T
        second[self.kept[:, None], self.kept] += self.zz
        if fit is not None:
            made = fit.mixing @ self.z
            shared = fit.mixing @ products.T + torch.outer(fit.intercept, rest - made)
            second = second - shared - shared.T
            second = second + fit.mixing @ self.zz @ fit.mixing.T
            second = second + self.count * torch.outer(fit.intercept, fit.intercept)
        return second / self.count

    def spread(self) -> Tensor:
        """The covariance [c, c] of x."""
        return self.xx / self.count - torch.outer(self.x, self.x) / self.count.square()

    def _differences(self) -> tuple[Tensor, Tensor]:
        """The sums of x - S z [c], and of its products with z [c, k]."""
        rest, products = self.x.clone(), self.xz.clone()
        rest[self.kept] -= self.z
        products[self.kept] -= self.zz
        return rest, products


class Covariance:
    """Sums over samples and places of x and its products, in float64; they add up.

    Args:
        size: of x.
        device: of x.
        is_whole: whether all products are wanted, [n, n], or the squares only, [n].
    """

    def __init__(self, size: int, device: torch.device, *, is_whole: bool) -> None:
        self.count = torch.zeros((), dtype=torch.float64, device=device)
        self.x = self.count.new_zeros(size)
        self.products = self.count.new_zeros((size, size) if is_whole else size)

    def add(self, x: Tensor) -> None:
        """Take in rows [m, n] of x."""
        x = x.double()
        self.count += len(x)
        self.x += x.sum(0)
        self.products += x.T @ x if self.products.dim() == 2 else x.square().sum(0)

    def tensors(self) -> list[Tensor]:
        """All sums."""
        return [self.count, self.x, self.products]

    def second(self, *, about_mean: bool) -> Tensor:
        """The second moment [n, n], about the mean or about zero."""
        mean = self.x / self.count
        return self.products / self.count - about_mean * torch.outer(mean, mean)


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    """The solution for a positive matrix; that of the least norm if it is singular."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if not int(failed):
        return torch.cholesky_solve(right, factor)
    solution: Tensor = torch.linalg.lstsq(matrix.cpu(), right.cpu(), driver="gelsd").solution
    return solution.to(matrix)
