"""Residual blocks: which of a model can be dropped whole, and which to drop for a budget."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from fxprune.dropping import arguments_for, refusal, with_modules, without_blocks
from fxprune.errors import InputError, PlanError, shown
from fxprune.importance import criterion_of
from fxprune.module_trees import named_tensors
from fxprune.module_uses import ModuleUses, uses_of
from fxprune.planning.criteria import scores
from fxprune.planning.matching import ModuleMatcher, checked_patterns
from fxprune.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn

    from fxprune.analysis import DependencyGraph, Model

Counted: TypeAlias = Literal["params", "macs"]


@dataclass(frozen=True)
class Block:
    """A residual block that can be dropped whole.

    Attributes:
        name: of the module.
        kind: its class.
        parameters: how many parameters are in it and nowhere else.
        macs: multiply-accumulate operations of all its calls on the example inputs.
        params_share: its share of the model's parameters.
        macs_share: its share of the model's multiply-accumulate operations.
        groups: names of the prunable groups that are in it and nowhere else.
    """

    name: str
    kind: str
    parameters: int
    macs: int
    params_share: float
    macs_share: float
    groups: tuple[str, ...]


def analyzed_without(model: Model, example_inputs: Any, drop: Sequence[str]) -> DependencyGraph:
    """The analysis of a model without the blocks that names and patterns mean.

    A pattern means the outermost of the residual blocks among the modules that match it.

    Raises:
        InputError: `drop` is no list of names.
        PlanError: a block cannot be dropped, or a pattern matches none.
    """
    drop = checked_patterns(drop, "drop")
    patterns = [name for name in drop if any(mark in name for mark in "*?")]
    names = [name for name in drop if name not in patterns]
    if patterns:
        source = with_modules(model)
        blocks = _blocks(source, uses_of(source, arguments_for(model, example_inputs)))
        for pattern in patterns:
            found = _outermost([name for name in blocks if fnmatchcase(name, pattern)])
            if not found:
                raise PlanError(
                    f"no residual block matches {pattern!r}", hint=nearest(pattern, blocks)
                )
            names += found
    return without_blocks(model, example_inputs, list(dict.fromkeys(names)))


def residual_blocks(deps: DependencyGraph, example_inputs: Any = None) -> list[Block]:
    """The residual blocks that can be dropped, none inside of another, in the order of the model.

    Of modules inside one another the outermost counts that does not consist of several blocks, as a
    stage or an encoder does.

    Args:
        deps: the analysis of the model, with all its blocks.
        example_inputs: as for `analyze`; needed if the model has to be run on data.

    Raises:
        PlanError: the model is a graph, which has no modules to drop.
    """
    model = with_modules(deps)
    uses = uses_of(model, arguments_for(deps, example_inputs))
    blocks = _blocks(model, uses)
    count = sum(p.numel() for p in model.parameters())
    macs = uses.macs()
    found = []
    for name in _outermost(blocks):
        parameters, work = _own_parameters(model, blocks[name]), uses.macs(name)
        found.append(
            Block(
                name=name,
                kind=type(blocks[name]).__name__,
                parameters=parameters,
                macs=work,
                params_share=parameters / count if count else 0.0,
                macs_share=work / macs if macs else 0.0,
                groups=_own_groups(deps, name),
            )
        )
    return found


def drop_to_budget(
    deps: DependencyGraph,
    target: float,
    counted: Counted = "params",
    example_inputs: Any = None,
    *,
    criterion: Any = "l2",
    seed: int = 0,
    keep: Sequence[str] = (),
) -> tuple[tuple[str, ...], float]:
    """The residual blocks to drop so that at most a share of a model's cost goes.

    A block's importance is the mean score of the channels of its own groups. Blocks go in the order
    of importance by cost, the lowest first; one that would take more than is left of the share is
    passed over, and so is one without channels of its own.

    Args:
        deps: the analysis of the model, with all its blocks.
        target: the share that may go, in [0, 1).
        counted: of what: "params", or "macs" on the example inputs.
        example_inputs: as for `analyze`; needed if the model has to be run on data.
        criterion: as for `plan`.
        seed: for "random".
        keep: names and patterns of modules, or names of groups; blocks that they occur in stay.

    Returns:
        The names for `plan(..., drop=)`, in the order of the model, and the share that they take.

    Raises:
        InputError: `target` or `counted` is out of range, or the criterion does not work.
        PlanError: the model is a graph, which has no modules to drop; or `keep` names nothing.
    """
    if isinstance(target, bool) or not isinstance(target, Real) or not 0 <= target < 1:
        raise InputError(f"target is {shown(target)}", why="it is a share of the cost, in [0, 1)")
    if counted not in ("params", "macs"):
        raise InputError(f"counted is {shown(counted)}", hint='pass "params" or "macs"')
    blocks = residual_blocks(deps, example_inputs)
    blocks = _without_named(deps, blocks, keep)
    importance = _importance(deps, blocks, criterion, seed)
    share = {b.name: b.params_share if counted == "params" else b.macs_share for b in blocks}
    ranked = sorted(
        (name for name in importance if share[name]), key=lambda n: importance[n] / share[n]
    )
    reached, chosen = 0.0, set()
    for name in ranked:
        if reached + share[name] <= target:
            reached += share[name]
            chosen.add(name)
    return tuple(block.name for block in blocks if block.name in chosen), reached


def _without_named(
    deps: DependencyGraph, blocks: Sequence[Block], names: Sequence[str]
) -> list[Block]:
    """The blocks in which no module or group is that names and patterns mean."""
    groups = {group.name for group in deps.groups}
    matcher = ModuleMatcher(deps)
    meant: list[str] = []
    for name in names:
        meant += [name] if name in groups else matcher.matching(name)

    def is_named(block: str) -> bool:
        inside = tuple(f"{block}{mark}" for mark in ".[#")
        return any(name == block or name.startswith(inside) for name in meant)

    return [block for block in blocks if not is_named(block.name)]


def _importance(
    deps: DependencyGraph, blocks: Sequence[Block], criterion: Any, seed: int
) -> dict[str, float]:
    """The mean score of the channels of each block that has some."""
    own = {block.name: [deps.group(name) for name in block.groups] for block in blocks}
    wanted = [group for groups in own.values() for group in groups]
    score = scores(deps, criterion_of(criterion, seed), "mean", wanted)
    return {
        name: float(score[np.concatenate([group.ids for group in groups])].mean())
        for name, groups in own.items()
        if groups
    }


def _blocks(model: nn.Module, uses: ModuleUses) -> dict[str, nn.Module]:
    """The residual blocks of a model, also those inside of others, but no chains of them."""
    possible = {
        name: module
        for name, module in model.named_modules()
        if name and not refusal(name, module, uses)
    }
    found: list[str] = []
    for name in reversed(possible):  # parts come before what they are in
        if not _is_chain(name, possible[name], found[::-1]):
            found.append(name)
    return {name: possible[name] for name in reversed(found)}


def _is_chain(name: str, module: nn.Module, blocks: Iterable[str]) -> bool:
    """Whether a module consists of several blocks, or of nothing but one."""
    start = f"{name}."
    inner = _outermost([other for other in blocks if other.startswith(start)])
    parts = tuple(f"{other.removeprefix(start)}." for other in inner)
    return len(inner) > 1 or all(parameter.startswith(parts) for parameter in named_tensors(module))


def _outermost(names: Iterable[str]) -> list[str]:
    """Those that are not inside of others, in their order (a module comes before its parts)."""
    found: list[str] = []
    for name in names:
        if not name.startswith(tuple(f"{outer}." for outer in found)):
            found.append(name)
    return found


def _own_parameters(model: nn.Module, block: nn.Module) -> int:
    """How many parameters are in a block and nowhere else."""
    inside = {id(module) for module in block.modules()}
    outside = {
        id(parameter)
        for module in model.modules()
        if id(module) not in inside
        for parameter in module._parameters.values()
    }
    return sum(p.numel() for p in block.parameters() if id(p) not in outside)


def _own_groups(deps: DependencyGraph, block: str) -> tuple[str, ...]:
    """The prunable groups that occur inside of a block and nowhere else."""
    outside = {first for n, first in deps.trace.tied.items() if not n.startswith(f"{block}.")}
    return tuple(
        group.name
        for group in deps.groups
        if group.prunable and not any(member.parameter in outside for member in group.members)
    )
