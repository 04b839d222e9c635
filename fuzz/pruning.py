"""Random plans, by all that `fxprune.plan` can be told."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hypothesis import strategies as st

import fxprune


@dataclass(frozen=True)
class Pruning:
    """How a plan is made, for any model.

    Attributes:
        ratio: of every group.
        criterion: by which channels are chosen.
        seed: for the random criterion, and for all that is chosen among the groups of a model.
        heads: whether heads go.
        head_dims: whether dims of heads go.
        groups: whether whole groups of convolutions and norms go.
        round_to: a multiple that widths are rounded up to.
        ignored: how many groups to leave alone.
        own_ratios: how many groups get a ratio of their own.
        explicit: whether channels go by their numbers instead, from half of all groups, of any
            kind but copies (both together could leave nothing), without a multiple, which such
            channels seldom leave. With every fourth seed one of them loses all its channels.
    """

    ratio: float = 0.5
    criterion: Literal["l2", "l1", "random"] = "l2"
    seed: int = 0
    heads: bool = True
    head_dims: bool = False
    groups: bool = False
    round_to: int = 1
    ignored: int = 0
    own_ratios: int = 0
    explicit: bool = False

    def plan(self, deps: fxprune.DependencyGraph) -> fxprune.Plan:
        """The plan for a model."""
        chance = random.Random(self.seed)
        # An `expand` makes copies of one number, so that only the consumers of a copy show that it
        # has gone: no oracle that goes forward can tell.
        free = [group for group in deps.groups if group.prunable and group.kind != "copies"]
        names = [group.name for group in free]
        ignored = chance.sample(names, min(self.ignored, len(names)))
        rest = [group for group in free if group.name not in ignored]
        own = chance.sample(rest, 0 if self.explicit else min(self.own_ratios, len(rest)))
        return fxprune.plan(
            deps,
            ratio=0.0 if self.explicit else self.ratio,
            ratios=_ratios(deps, own, chance),
            channels=_channels(deps, rest, chance, self.seed) if self.explicit else None,
            ignore=[] if self.explicit else ignored,
            criterion=self.criterion,
            round_to=1 if self.explicit else self.round_to,
            seed=self.seed,
            heads=self.heads,
            head_dims=self.head_dims,
            groups=self.groups,
        )


def _ratios(
    deps: fxprune.DependencyGraph, groups: list[fxprune.Group], chance: random.Random
) -> dict[str, float]:
    """Ratios for some groups, as far as their names mean what can go."""
    chosen = {group.name: chance.choice((0.0, 0.3, 0.8)) for group in groups}
    return {name: r for name, r in chosen.items() if _is_plan(deps, ratios={name: r})}


def _channels(
    deps: fxprune.DependencyGraph, groups: list[fxprune.Group], chance: random.Random, seed: int
) -> dict[str, list[int]]:
    """Some channels of some groups, as far as each can go; with some seeds all of one of them.

    The name of a group may mean a module instead, whose channels can be more than the group's.
    """
    chosen = {
        group.name: chance.sample(range(group.size), chance.randint(1, group.size // 2))
        for group in groups
        if chance.random() < 0.5
    }
    if seed % 4 == 3:
        chosen |= next(_whole(deps, chance.sample(groups, len(groups))), {})
    return {
        name: channels
        for name, channels in chosen.items()
        if _is_plan(deps, channels={name: channels})
    }


def _whole(
    deps: fxprune.DependencyGraph, groups: list[fxprune.Group]
) -> Iterator[dict[str, list[int]]]:
    """Groups that can lose all their channels."""
    for group in groups:
        channels = {group.name: list(range(group.size))}
        if _is_plan(deps, channels=channels):
            yield channels


def _is_plan(deps: fxprune.DependencyGraph, **options: Any) -> bool:
    """Whether this alone makes a plan."""
    try:
        fxprune.plan(deps, **options)
    except fxprune.PlanError:
        return False
    return True


def prunings() -> st.SearchStrategy[Pruning]:
    """Ways to make a plan."""
    return st.builds(
        Pruning,
        ratio=st.sampled_from([0.5, 0.25, 0.75, 0.9]),
        criterion=st.sampled_from(["l2", "random", "l1"]),
        seed=st.integers(0, 2**16),
        heads=st.sampled_from([True, True, False]),
        head_dims=st.booleans(),
        groups=st.booleans(),
        round_to=st.sampled_from([1, 1, 1, 2, 4]),
        ignored=st.sampled_from([0, 0, 1, 2]),
        own_ratios=st.sampled_from([0, 0, 1, 2]),
        explicit=st.sampled_from([False, False, True]),
    )
