"""Models that cannot be shrunk, or not as they are."""

import math

import torch
from torch import nn

import fxprune
from tests.wrong_uses import nets
from tests.wrong_uses.table import World, Wrong


def shrink(world: World) -> object:
    return fxprune.shrink(world.model, {"0": 0.5}, world.x)


def shrink_first(world: World) -> object:
    return fxprune.shrink(world.model, {"first": 0.5}, world.x)


def shrink_image(world: World) -> object:
    return fxprune.shrink(world.model, {"0": 0.5}, torch.zeros(1, 3, 8, 8))


def on_meta() -> nn.Module:
    return nets.chain().to("meta")


def doubled_if_positive(module: nn.Module, args: object, out: torch.Tensor) -> torch.Tensor:
    return 2 * out if out.sum() > 0 else out


def refusing(module: nn.Module, args: object, out: torch.Tensor) -> None:
    raise ValueError("not today")


# What torch.export says where it fails, which differs from version to version.
_EXPORT = r"(?<=torch.export fails too: ).*(?=; and recording)"


def by_plan(name: str, model: object) -> Wrong:
    """Shrinks by the plan of the model before it became this one."""
    assert callable(model)
    return Wrong(
        name,
        lambda w: fxprune.shrink(w.model, w.prepared),
        model,
        before=lambda w: fxprune.plan(nets.chain(), w.x, 0.5),
    )


BY_PLAN = (
    by_plan("a quantized model and the plan of the model before", nets.quantized),
    by_plan("a scripted model and the plan of the model before", nets.frozen),
    by_plan("a lazy model and the plan of another", lambda: nn.Sequential(nn.LazyLinear(8))),
    by_plan("a module that is not set up and the plan of another", nets.NotSetUp),
    by_plan("a model in DataParallel and its plan", lambda: nn.DataParallel(nets.chain())),
    by_plan("a model on the meta device and its plan", on_meta),
    by_plan("weights with NaN and the plan of the model before", lambda: nets.poisoned(math.nan)),
)

WRAPPED = (
    Wrong("a scripted model", shrink, lambda: torch.jit.script(nets.chain())),
    Wrong("a traced model", shrink, lambda: torch.jit.trace(nets.chain(), nets.rows())),
    Wrong("a frozen model", shrink, nets.frozen),
    Wrong("a traced function", shrink, lambda: torch.jit.trace(lambda x: x + 1, nets.rows())),
    Wrong("a compiled model", shrink, lambda: torch.compile(nets.chain())),
    Wrong("a compiled function", shrink, lambda: torch.compile(lambda x: x + 1)),
    Wrong("a model in DataParallel", shrink, lambda: nn.DataParallel(nets.chain())),
    Wrong("the name of a layer inside a wrapper", shrink, nets.averaged),
)

WEIGHTS = (
    Wrong("a model on the meta device", shrink, on_meta),
    Wrong(
        "a model on the meta device, by chance",
        lambda w: fxprune.shrink(w.model, fxprune.plan(w.model, w.x, 0.5, criterion="random")),
        on_meta,
    ),
    Wrong("a model of which a part is on the meta device", shrink, nets.half_on_meta),
    Wrong("a model made under FakeTensorMode", shrink, nets.fake),
    Wrong("a lazy module that never ran", shrink, lambda: nn.Sequential(nn.LazyLinear(8))),
    Wrong("a dynamically quantized model", shrink, nets.quantized),
    Wrong("a statically quantized model", shrink, nets.statically_quantized),
    Wrong("a sparse weight", shrink, lambda: nets.with_weight(torch.Tensor.to_sparse)),
    Wrong(
        "a sparse weight in a GraphModule",
        shrink,
        lambda: torch.fx.symbolic_trace(nets.with_weight(torch.Tensor.to_sparse)),
    ),
    Wrong("a weight with NaN", shrink, lambda: nets.poisoned(float("nan"))),
    Wrong("a weight with Inf", shrink, lambda: nets.poisoned(float("inf"))),
    Wrong("a running mean with NaN", shrink_image, lambda: nets.poisoned_buffer(float("nan"))),
    Wrong(
        "weights that are views of one parameter",
        lambda w: fxprune.shrink(w.model, {"flat": 0.5}, w.x),
        nets.OneBuffer,
    ),
    Wrong(
        "a complex model with an activation for real numbers",
        lambda w: fxprune.shrink(w.model, {"0": 0.5}, w.x + 0j),
        lambda: nets.chain().to(torch.complex64),
        foreign=(r"(?<=the original fails at node _1: ).*",),
    ),
)

UNFINISHED = (
    Wrong("an empty model", shrink, nn.Sequential),
    Wrong("a model without parameters", shrink, lambda: nn.Sequential(nn.ReLU())),
    Wrong("a layer without channels", shrink, lambda: nn.Sequential(nn.Linear(6, 0, bias=False))),
    Wrong("a list of modules", shrink, lambda: nn.ModuleList([nn.Linear(6, 8)])),
    Wrong("a module without forward", shrink, nets.NoForward),
    Wrong("a module without super().__init__()", shrink, nets.NotSetUp),
    Wrong("a module with a child named meta", shrink_first, nets.OwnMeta),
    Wrong("a module whose name has a double quote", shrink_first, nets.quoted),
    Wrong("a module whose name is a keyword of Python", shrink_first, nets.keyword),
)

FORWARDS = (
    Wrong("a forward that raises", shrink_first, nets.Raises),
    Wrong("a forward that branches on values", shrink_first, nets.Branches),
    Wrong("a forward that loops over values", shrink_first, nets.Loops),
    Wrong("a forward that decides by chance", shrink_first, nets.Gambles),
    Wrong(
        "a forward that changes weights",
        shrink_first,
        nets.Trains,
        foreign=(r"(?<=differs from the original by ).*",),
    ),
    Wrong("a hook that raises", shrink, lambda: nets.hooked(refusing)),
    Wrong("a hook that decides by values", shrink, lambda: nets.hooked(doubled_if_positive)),
)

ROWS = {
    "Wrapped and compiled models": WRAPPED,
    "Weights without data or of other kinds": WEIGHTS,
    "Models that are not ready": UNFINISHED,
    "Models that are not those of the plan": BY_PLAN,
    "What forward does": FORWARDS,
}
