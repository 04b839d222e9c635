"""Hazard: weights of several experts in one parameter of rank three.

Coupled: the hidden width, the same for all experts, between both parameters; the stream; an expert
in both parameters with its output of the router. A soft mixture sums over experts, weighted by a
softmax. Routing takes the best experts by their numbers, which must stay. A gate and what it gates
lie in one parameter, in halves or interleaved, and go together.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import token_network
from models_zoo.entry import ZooModel, inputs


class Experts(nn.Module):
    """Four experts 20 -> 14 -> 20, and a router."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(20, 4)
        self.up = nn.Parameter(torch.zeros(4, 20, 14))
        self.shift = nn.Parameter(torch.zeros(4, 14))
        self.down = nn.Parameter(torch.zeros(4, 14, 20))


class SoftMixture(Experts):
    """All experts see all tokens; their outputs are weighted."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        weights = self.router(x).softmax(dim=-1)
        hidden = F.gelu(torch.einsum("ntc,ech->nteh", x, self.up) + self.shift)
        return torch.einsum("nteh,ehc,nte->ntc", hidden, self.down, weights)


class BatchedMixture(Experts):
    """The same by a batched product, experts first."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        weights = self.router(x).softmax(dim=-1)
        flat = x.reshape(-1, x.shape[-1]).expand(4, -1, -1)
        hidden = F.gelu(torch.bmm(flat, self.up) + self.shift.unsqueeze(1))
        out = torch.bmm(hidden, self.down).unflatten(1, (x.shape[0], -1))
        return (out * weights.permute(2, 0, 1).unsqueeze(-1)).sum(dim=0)


class Routed(Experts):
    """The two best experts of every token, by a mask of their scores."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        scores = self.router(x)
        best = torch.topk(scores, 2, dim=-1)
        weights = torch.zeros_like(scores).scatter(-1, best.indices, best.values.softmax(dim=-1))
        hidden = F.gelu(torch.einsum("ntc,ech->nteh", x, self.up) + self.shift)
        out = torch.einsum("nteh,ehc->ntec", hidden, self.down)
        return (out * weights.unsqueeze(-1)).sum(dim=2)


class GatheredExpert(Experts):
    """The best expert of every token, whose weights are looked up."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        weight, best = self.router(x).softmax(dim=-1).max(dim=-1, keepdim=True)
        best = best.squeeze(-1)
        hidden = torch.einsum("ntc,ntch->nth", x, self.up[best]) + self.shift[best]
        return torch.einsum("nth,nthc->ntc", F.gelu(hidden), self.down[best]) * weight


class Sorted(nn.Module):
    """Pairs of a token and one of its two best experts, sorted by expert; what they add is summed.

    Weights are (expert, out, in); gates and what they gate are the two halves of one parameter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(20, 4)
        self.gate_up = nn.Parameter(torch.zeros(4, 28, 20))
        self.down = nn.Parameter(torch.zeros(4, 20, 14))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        tokens = x.reshape(-1, x.shape[-1])
        weights, best = self.router(tokens).softmax(dim=-1).topk(2, dim=-1)
        numbers, order = best.reshape(-1).sort()
        rows = tokens[order // 2].unsqueeze(-1)
        gate, up = torch.bmm(self.gate_up[numbers], rows).squeeze(-1).chunk(2, dim=-1)
        hidden = (F.silu(gate) * up).unsqueeze(-1)
        out = torch.bmm(self.down[numbers], hidden).squeeze(-1)
        out = out * weights.reshape(-1)[order].unsqueeze(-1)
        return torch.zeros_like(tokens).index_add(0, order // 2, out).reshape(x.shape)


class Interleaved(nn.Module):
    """The same with weights (expert, in, out) and biases; gates are every other position."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(20, 4)
        self.gate_up = nn.Parameter(torch.zeros(4, 20, 28))
        self.gate_up_bias = nn.Parameter(torch.zeros(4, 28))
        self.down = nn.Parameter(torch.zeros(4, 14, 20))
        self.down_bias = nn.Parameter(torch.zeros(4, 20))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        tokens = x.reshape(-1, x.shape[-1])
        weights, best = self.router(tokens).topk(2, dim=-1)
        numbers, order = best.reshape(-1).sort()
        rows = tokens[order // 2].unsqueeze(1)
        mixed = torch.bmm(rows, self.gate_up[numbers]).squeeze(1) + self.gate_up_bias[numbers]
        gate, up = mixed[..., ::2].clamp(max=7.0), mixed[..., 1::2].clamp(-7.0, 7.0)
        hidden = (up + 1) * gate * torch.sigmoid(1.702 * gate)
        out = torch.bmm(hidden.unsqueeze(1), self.down[numbers]).squeeze(1)
        out = (out + self.down_bias[numbers])[order.argsort()].unflatten(0, (-1, 2))
        return (out * weights.softmax(dim=-1).unsqueeze(-1)).sum(dim=1).reshape(x.shape)


def _entry(name: str, mixture: type[nn.Module], hazard: str) -> ZooModel:
    return ZooModel(name, lambda: token_network(mixture()), inputs((2, 7, 8)), hazard)


MODELS = (
    _entry("experts", SoftMixture, "experts are summed over by einsum"),
    _entry("experts_batched", BatchedMixture, "experts are the batch of a product"),
    _entry("experts_routed", Routed, "the two best of each token"),
    _entry("experts_gathered", GatheredExpert, "weights are looked up by the best's number"),
    _entry("experts_sorted", Sorted, "tokens are sorted by expert; gates are halves"),
    _entry("experts_interleaved", Interleaved, "gates are every other position"),
)
