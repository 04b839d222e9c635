"""Results that are not what the plan says, and other wrong uses of verify."""

import copy
from collections.abc import Callable

import torch
from torch import nn

import fxprune
from tests.wrong_uses import nets
from tests.wrong_uses.table import World, Wrong

# The words of a refutation may change, and its numbers differ: what is exact is the class and what.
_WORDS = (r"(?s)(?<=differs).*",)
_SHAPES = (r"(?s)(?<=instead of).*",)


def edited(change: Callable[[nn.Module], object]) -> Callable[[World], object]:
    """Verifies a result that was changed."""

    def act(world: World) -> object:
        small = copy.deepcopy(world.small)
        with torch.no_grad():
            change(small)
        return fxprune.verify(world.model, small, world.plan, world.x)

    return act


def other_plan(world: World) -> fxprune.Plan:
    return fxprune.plan(world.model, world.x, channels={"0": [0]})


def made(world: World) -> object:
    return world.small


ROWS = {
    "Verifying": (
        Wrong("inputs in the plan's place", lambda w: fxprune.verify(w.model, w.small, w.x)),
        Wrong("a dict as the plan", lambda w: fxprune.verify(w.model, w.small, {"0": 0.5})),
        Wrong("the models the wrong way round", lambda w: fxprune.verify(w.small, w.model, w.plan)),
        Wrong(
            "a state dict as the result",
            lambda w: fxprune.verify(w.model, w.small.state_dict(), w.plan),
        ),
        Wrong(
            "the original as the result",
            lambda w: fxprune.verify(w.model, w.model, w.plan),
            foreign=_SHAPES,
        ),
        Wrong(
            "a result of another plan",
            lambda w: fxprune.verify(w.model, w.small, other_plan(w)),
            before=made,
        ),
        Wrong(
            "a result with one weight changed",
            edited(lambda small: small.get_parameter("2.weight")[0, 0].add_(0.1)),
            foreign=_WORDS,
            before=made,
        ),
        Wrong(
            "a result with a layer replaced",
            edited(lambda small: small.set_submodule("1", nn.Sigmoid())),
            foreign=_WORDS,
            before=made,
        ),
        Wrong(
            "a result with a weight of NaN",
            edited(lambda small: small.get_parameter("2.weight")[0, 0].fill_(float("nan"))),
            foreign=_WORDS,
            before=made,
        ),
        Wrong(
            "a result without one weight",
            edited(lambda small: setattr(small.get_submodule("0"), "weight", None)),
            foreign=(r"(?<=fails at node _0: ).*",),
            before=made,
        ),
        Wrong(
            "a model that is no result",
            lambda w: fxprune.verify(w.model, nn.Identity(), w.plan),
        ),
        Wrong(
            "inputs of another width",
            lambda w: fxprune.verify(w.model, w.small, w.plan, nets.rows(4, 7)),
            foreign=(r"(?<=fails at node _0: ).*",),
            before=made,
        ),
    )
}
