"""How far rounding can add up in a model, from the operators that multiply and add."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from fxprune.traces import traced_tensors

if TYPE_CHECKING:
    from fxprune.comparison import Claim


def reason(claim: Claim, dtype: torch.dtype) -> str:
    """Why a tolerance is what it is, in words.

    A sum of n terms is exact to n u relative to its terms, where u is the unit roundoff; sums that
    follow one another add up (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
    section 3.1).
    """
    unit = torch.finfo(dtype).eps / 2
    terms, chain = _longest_sum(claim), _sums_in_a_row(claim)
    bound = terms * chain * unit
    name = str(dtype).removeprefix("torch.")
    return (
        f"{name} rounds by {unit:.1e}; sums have up to {terms:,} terms, {chain} follow one another:"
        f" {bound:.0e} if every rounding went the same way"
    )


def _longest_sum(claim: Claim) -> int:
    """The largest number of products that one number is made of."""
    longest = 1
    for work in claim.deps.trace.work:
        shapes = [claim.layout.shape(tensor) for tensor in traced_tensors(work.out)]
        count = math.prod(shapes[0]) if shapes else 0
        if count:
            longest = max(longest, work.macs(claim.layout.shape) // count)
    return longest


def _sums_in_a_row(claim: Claim) -> int:
    """The longest way through the graph, counted in operators that multiply and add."""
    own: dict[str, int] = {}
    for work in claim.deps.trace.work:
        own[work.node] = own.get(work.node, 0) + 1
    longest: dict[str, int] = {}
    for node in claim.deps.graph_module.graph.nodes:
        before = max((longest[source.name] for source in node.all_input_nodes), default=0)
        longest[node.name] = before + own.get(node.name, 0)
    return max(longest.values(), default=0)
