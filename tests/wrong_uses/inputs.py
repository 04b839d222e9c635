"""Wrong example inputs."""

import torch

import fxprune
from tests.wrong_uses import nets
from tests.wrong_uses.table import World, Wrong

# What torch says about operands that do not fit, which differs from version to version.
_FAILED = r"(?<=interpreting the model failed: ).*"
_FAILS = r"(?<=the original fails at node _0: ).*"


def shrink(inputs: object) -> object:
    """Shrinks on inputs that `inputs` makes of the right ones."""
    assert callable(inputs)
    return lambda w: fxprune.shrink(w.model, {"0": 0.5}, inputs(w.x))


def in_a_transform(world: World) -> object:
    return torch.func.vmap(lambda x: fxprune.analyze(world.model, x) and x)(world.x)


FORM = (
    Wrong("no inputs", lambda w: fxprune.analyze(w.model, None)),
    Wrong("the shape of an input as the input", lambda w: fxprune.analyze(w.model, (4, 6))),
    Wrong("a numpy array", lambda w: fxprune.analyze(w.model, w.x.numpy())),
    Wrong("an iterator", lambda w: fxprune.analyze(w.model, iter([w.x]))),
    Wrong("a batch with its labels", lambda w: fxprune.analyze(w.model, [w.x, torch.ones(4)])),
    Wrong("an unknown keyword", lambda w: fxprune.analyze(w.model, {"x": w.x})),
    Wrong("a keyword too many", lambda w: fxprune.analyze(w.model, {"input": w.x, "mask": None})),
    Wrong("keywords that are no names", lambda w: fxprune.analyze(w.model, {0: w.x, "y": w.x})),
    Wrong("a keyword missing", lambda w: fxprune.analyze(w.model, {}), model=nets.Pair),
    Wrong("an argument missing", lambda w: fxprune.analyze(w.model, w.x), model=nets.TwoInputs),
)

TENSORS = (
    Wrong("an empty batch", shrink(lambda x: x[:0])),
    Wrong("another number of channels", shrink(lambda x: x[:, :5]), foreign=(_FAILED,)),
    Wrong("a number instead of a batch", shrink(lambda x: x[0, 0]), foreign=(_FAILED,)),
    Wrong(
        "channels last",
        lambda w: fxprune.analyze(w.model, torch.zeros(1, 8, 8, 3)),
        model=nets.images,
        foreign=(_FAILED,),
    ),
    Wrong(
        "an image without a batch",
        lambda w: fxprune.analyze(w.model, torch.zeros(3, 8, 8)),
        model=nets.images,
        foreign=(_FAILED,),
    ),
    Wrong(
        "an image smaller than the kernel",
        lambda w: fxprune.analyze(w.model, torch.zeros(1, 3, 2, 2)),
        model=nets.images,
        foreign=(_FAILED,),
    ),
    Wrong("integers for a float model", shrink(lambda x: x.long()), foreign=(_FAILS,)),
    Wrong("complex numbers for a float model", shrink(lambda x: x + 0j), foreign=(_FAILS,)),
    Wrong("inputs on the meta device", shrink(lambda x: x.to("meta")), foreign=(_FAILS,)),
    Wrong("inputs of NaN", shrink(lambda x: x * float("nan"))),
    Wrong("inputs of infinite values", shrink(lambda x: x / 0)),
    Wrong("a sparse input", shrink(lambda x: x.to_sparse())),
    Wrong("a FakeTensor", shrink(lambda x: nets.fake_rows())),
    Wrong("an input inside torch.func.vmap", in_a_transform),
)

ROWS = {"The form of example inputs": FORM, "The tensors of example inputs": TENSORS}
