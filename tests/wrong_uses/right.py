"""Uses that look wrong and are not: they work, are verified, and change nothing either."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import fxprune
from tests.wrong_uses import nets
from tests.wrong_uses.table import World, Wrong


def shrink(world: World) -> Any:
    return fxprune.shrink(world.model, {"0": 0.5}, world.x)


def shrink_first(world: World) -> Any:
    return fxprune.shrink(world.model, {"first": 0.5}, world.x)


def within(context: Callable[[], Any]) -> Callable[[World], Any]:
    """Shrinks within a context of torch."""

    def act(world: World) -> Any:
        with context():
            return shrink(world)

    return act


def doubled(module: nn.Module, args: object, out: Tensor) -> Tensor:
    return 2 * out


def changed(change: Callable[[nn.Sequential], object]) -> Callable[[], nn.Module]:
    """A chain after a change in place."""

    def make() -> nn.Module:
        model = nets.chain()
        change(model)
        return model

    return make


def with_gradients(model: nn.Module) -> None:
    model(nets.rows()).sum().backward()


def in_one_memory(model: nn.Sequential) -> None:
    """Weights that are views of one buffer, as after flattening for an optimizer."""
    sizes = [model[k].weight.numel() for k in (0, 2, 4)]
    parts = torch.randn(sum(sizes)).split(sizes)
    for k, part in zip((0, 2, 4), parts, strict=True):
        model[k].weight = nn.Parameter(part.view(model[k].weight.shape))


def in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return nets.chain()


class InPlace(nets.Pair):
    """Writes into its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.add_(1))


ROWS = (
    Wrong("frozen weights", shrink, changed(lambda m: m.requires_grad_(False))),
    Wrong("weights with gradients", shrink, changed(with_gradients)),
    Wrong("a model in train mode", shrink, changed(lambda m: m.train())),
    Wrong("a hook that changes outputs", shrink, lambda: nets.hooked(doubled)),
    Wrong("a model that was compiled in place", shrink, changed(lambda m: m.compile())),
    Wrong("a weight norm", shrink, changed(lambda m: parametrizations.weight_norm(m[0]))),
    Wrong("a mask of torch", shrink, changed(lambda m: prune.l1_unstructured(m[0], "weight", 3))),
    Wrong("weights in one memory", shrink, changed(in_one_memory)),
    Wrong("weights made in inference mode", shrink, in_inference_mode),
    Wrong(
        "a weight in 8 bits",
        shrink,
        lambda: nets.with_weight(lambda weight: weight.to(torch.float8_e4m3fn)),
    ),
    Wrong(
        "a model in bfloat16",
        lambda w: fxprune.shrink(w.model, {"0": 0.5}, w.x.bfloat16()),
        lambda: nets.chain().bfloat16(),
    ),
    Wrong(
        "a complex model",
        lambda w: fxprune.shrink(w.model, {"0": [1]}, w.x + 0j),
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)).to(torch.complex64),
    ),
    Wrong("an empty model", lambda w: w.small, nn.Sequential),
    Wrong("a model without parameters", lambda w: w.small, lambda: nn.Sequential(nn.ReLU())),
    Wrong("a forward that counts in a buffer", shrink_first, nets.Counts),
    Wrong("a forward that assigns a buffer", shrink_first, nets.Assigns),
    Wrong("a forward that keeps what it computed", shrink_first, nets.Remembers),
    Wrong("a forward that writes into its input", shrink_first, InPlace),
    Wrong("shrinking in inference mode", within(torch.inference_mode)),
    Wrong("shrinking without gradients", within(torch.no_grad)),
    Wrong(
        "shrinking under autocast",
        within(lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
    ),
    Wrong(
        "inputs that need gradients",
        lambda w: fxprune.shrink(w.model, {"0": 0.5}, w.x),
        before=lambda w: w.x.requires_grad_(),
    ),
)
