"""Teach fxprune an operator of your own, check the rule, and shrink a model that uses it.

Run it from the checkout: `python -m examples.custom_operator`. docs/custom_rules.md explains it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import fxprune
from fxprune.rules import Call
from fxprune.testing import Operand, Sample, check_rule


# An operator: a linear layer whose outputs go through gates, as a fused kernel would compute it.
@torch.library.custom_op("fxprune_example::gated_linear", mutates_args=())
def gated_linear(x: Tensor, weight: Tensor, gate: Tensor) -> Tensor:
    return (x @ weight.T) * gate.sigmoid()


# Its meta kernel: the shape of the outcome, without data.
@gated_linear.register_fake
def _(x: Tensor, weight: Tensor, gate: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


class GatedLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.gate = nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.fxprune_example.gated_linear(x, self.weight, self.gate)


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), GatedLinear(32, 24), nn.Linear(24, 4)).eval()


OP = torch.ops.fxprune_example.gated_linear.default


def register() -> None:
    @fxprune.rule(OP, sums={"x": 1})
    def gated_linear_rule(call: Call) -> None:
        x, weight, gate = call.axes("x"), call.axes("weight"), call.axes("gate")
        call.labels.unify(x[1], weight[1])  # what is summed over lives and dies together
        call.labels.unify(weight[0], gate[0])  # and so does an output with its gate
        call.result([x[0], weight[0]])  # the axes of the outcome


SAMPLE = Sample(OP, (Operand((2, 3)), Operand((4, 3)), Operand((4,))))


def main() -> None:
    model, example = build(), torch.randn(2, 16)

    print("Without a rule, the operator pins what it touches:\n")
    before = fxprune.analyze(model, example)
    print(before.why("0.bias"))
    print(f"prunable share of the parameters: {before.prunable_share:.1%}\n")

    register()
    check_rule(OP, SAMPLE)
    print("The rule is right, and pins nothing without need.\n")

    after = fxprune.analyze(model, example)
    print(after.why("0.bias"))
    print(f"prunable share of the parameters: {after.prunable_share:.1%}\n")

    plan = fxprune.plan(model, example, ratio=0.5)
    small = fxprune.shrink(model, plan, example)
    print(small.meta["fxprune"])
    print(f"the gates of the shrunk model: {tuple(small.get_parameter('2.gate').shape)}")


if __name__ == "__main__":
    main()
