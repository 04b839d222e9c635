"""Wrong registrations of rules, fixers and samples."""

import torch
from torch import nn

import fxprune
from fxprune.testing import Operand, Sample, check_rule
from tests.wrong_uses.table import Wrong

relu, mm = torch.ops.aten.relu.default, torch.ops.aten.mm.default

ROWS = {
    "Registering": (
        Wrong("a second rule for an operator", lambda w: fxprune.rule(mm)(print)),
        Wrong("a rule for a function", lambda w: fxprune.rule(torch.relu)(print)),
        Wrong("a rule for a name", lambda w: fxprune.rule("aten::relu")(print)),
        Wrong("a rule without an operator", lambda w: fxprune.rule()(print)),
        Wrong("a rule without parentheses", lambda w: fxprune.rule(print)),
        Wrong("a rule that is no function", lambda w: fxprune.rule(relu)(3)),
        Wrong("a second fixer for a class", lambda w: fxprune.fixer(nn.Linear)(print)),
        Wrong("a fixer for a module", lambda w: fxprune.fixer(w.model)(print)),
        Wrong("a fixer for a function", lambda w: fxprune.fixer(torch.relu)(print)),
        Wrong("a fixer for another class", lambda w: fxprune.fixer(dict)(print)),
        Wrong("a fixer for a name", lambda w: fxprune.fixer("Conv2d")(print)),
        Wrong("a fixer without a class", lambda w: fxprune.fixer()(print)),
        Wrong("a rule checked without samples", lambda w: check_rule(relu)),
        Wrong(
            "a rule checked with samples of another operator",
            lambda w: check_rule(relu, Sample(torch.ops.aten.neg.default, (Operand((2, 3)),))),
        ),
    )
}
