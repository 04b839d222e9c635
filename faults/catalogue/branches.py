"""Faults in taking out branches that have no channels left."""

from faults.fault import Fault, fault
from faults.injection import Edit

_BLOCK = {"1.body.0.0": range(8)}
_GATE = {"1.squeeze": range(8)}
_LAYER = {"1.branch2.0.0": range(9)}

FAULTS: tuple[Fault, ...] = (
    fault(
        "a constant is that of the first channels",
        "branches",
        Edit(
            "passes.branch_constants:_condensed",
            "torch.from_numpy(kept)",
            "torch.arange(len(kept))",
        ),
        "residual",
        channels=_BLOCK,
    ),
    fault(
        "a constant is what its first channel adds",
        "branches",
        Edit(
            "passes.branch_constants:constant_of",
            "rounded = first.to(dtype)",
            "rounded = first[:, :1].expand_as(first).to(dtype)",
        ),
        "squeeze_excite",
        channels=_GATE,
    ),
    fault(
        "an addition goes whatever it adds",
        "branches",
        Edit(
            "passes.drop_branches:_Removal.unchanged",
            "if same and bool((value == _NEUTRAL[name]).all())",
            "if same",
        ),
        "residual",
        channels=_BLOCK,
    ),
    fault(
        "constant parts of a concatenation come last",
        "branches",
        Edit(
            "passes.drop_branches:_Removal.join_parts",
            "node.update_arg(0, new)",
            "node.update_arg(0, sorted(new, key=lambda n: 'expand' in n.name))",
        ),
        "inception",
        channels=_LAYER,
    ),
)
