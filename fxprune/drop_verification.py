"""Proof that dropped blocks pass their input on, and that nothing else of the model changed.

All other checks hold a shrunk model against the model without the blocks. Here that is held against
the user's own model: its forward runs with all blocks, and hooks put a copy of each block's first
tensor in the place of what the block returns. The blocks themselves run on copies, so that what
they write into their arguments is lost, too.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fxprune.differences import alike, difference, first_difference
from fxprune.errors import InputError, VerificationError, first_line
from fxprune.inputs import arguments_of_call, named_values
from fxprune.interpretation import decomposed_attention
from fxprune.module_trees import eval_clone
from fxprune.reference import QuietMode
from fxprune.stepping import seed
from fxprune.values import copied, mapped, tensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fxprune.analysis import DependencyGraph

_TOLERANCE = 1e-6
"""Both run the same operators on the same values; devices may add in another order."""
_CAUSE = (
    "what the blocks do reaches the rest by another way than their output, or the rest writes into"
    " what it gets"
)


def check_drop(deps: DependencyGraph, values: Sequence[Any]) -> int:
    """Compare the model without dropped blocks with the user's, in which they pass their input on.

    Both run in eval mode, in their own types, on copies that share the parameters.

    Args:
        deps: the analysis of the model without blocks.
        values: one for each placeholder.

    Returns:
        How many blocks were dropped, each of which was seen to run in the user's model.

    Raises:
        VerificationError: the two differ, or a block did not run.
    """
    if deps.drop is None:
        return 0
    arguments = named_values(deps.graph_module, values)
    original = eval_clone(deps.drop.model, _shared)
    passing = {name: _Passing(name) for name in deps.dropped}
    for name, hook in passing.items():
        block = original.get_submodule(name)
        block.register_forward_pre_hook(hook.before, with_kwargs=True)
        block.register_forward_hook(hook.after)
    expected = _called("the original with blocks that pass their input on", original, arguments)
    got = _called("the model without the blocks", eval_clone(deps.model, _shared), arguments)
    names = ", ".join(deps.dropped)
    if idle := [name for name, hook in passing.items() if not hook.calls]:
        raise VerificationError(f"{', '.join(idle)} did not run on these inputs")
    if not alike(expected, got):
        raise VerificationError(
            f"without {names} the model returns another structure, or other values beside tensors",
            why=_CAUSE,
            hint="drop other blocks",
        )
    for here, there in zip(tensors(expected), tensors(got), strict=True):
        _check_equal(here, there, names)
    return len(passing)


def _shared(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if isinstance(tensor, nn.Parameter) else tensor.clone()


@dataclass
class _Passing:
    """Hooks that let a block return its first tensor."""

    name: str
    calls: int = 0

    def before(self, block: nn.Module, args: Any, kwargs: Any) -> Any:
        """Keep the first tensor; the block gets copies of all, also of an empty cache."""
        self.calls += 1
        given = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)]
        if not given:
            raise VerificationError(f"{self.name} takes no tensor that could be passed on")
        self.kept = given[0].clone()
        args, kwargs = copy.deepcopy((args, kwargs))
        return args, kwargs

    def after(self, block: nn.Module, args: Any, out: Any) -> Any:
        """Put the kept tensor in the place of what the block returned."""
        return mapped(lambda _: self.kept, out)


def _called(name: str, model: nn.Module, arguments: Mapping[str, Any]) -> Any:
    args, kwargs = arguments_of_call(model, {n: copied(v) for n, v in arguments.items()})
    seed()
    try:
        with torch.no_grad(), decomposed_attention(), QuietMode():
            return model(*args, **kwargs)
    except VerificationError:
        raise
    except Exception as error:
        raise InputError(
            f"{name} fails: {first_line(error)}",
            why=type(error).__name__,
            hint="check that the model runs on these inputs in eval mode",
        ) from error


def _check_equal(expected: torch.Tensor, got: torch.Tensor, names: str) -> None:
    if expected.shape != got.shape or expected.dtype != got.dtype:
        raise VerificationError(
            f"without {names} the model returns shape {list(got.shape)} of {got.dtype}, not"
            f" {list(expected.shape)} of {expected.dtype}",
            why=_CAUSE,
            hint="drop other blocks",
        )
    if difference(expected, got)[1] > _TOLERANCE:
        raise VerificationError(
            f"without {names} the model is not the original in which they pass their input on",
            why=f"{first_difference(expected, got)}; {_CAUSE}",
            hint="drop other blocks",
        )
